"""The web door of a node: a REST interface and STOW-RS over the same use cases as the command line."""

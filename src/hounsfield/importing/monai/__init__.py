"""MONAI bundles read statically: configurations as data, an allow-list of networks and transforms."""

"""The command-line door: thin commands over the use cases."""

from hounsfield.cli.app import main

__all__ = ["main"]

"""``python -m hounsfield`` is the command-line door."""

from hounsfield.cli import main

main()

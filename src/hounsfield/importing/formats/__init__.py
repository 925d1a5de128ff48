"""One module or folder per format of the closed list (see :mod:`hounsfield.importing.format`)."""

"""DICOM on the network: associations, C-STORE both ways, destinations and receipts."""

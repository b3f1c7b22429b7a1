"""The contained process that a candidate runs in: limits, kernel layers, and what it may answer."""

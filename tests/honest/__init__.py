"""Networks as honest people write them, one to a file; none is imported."""

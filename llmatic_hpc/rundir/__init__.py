"""A run directory: its paths, its lock, and the writer of its files."""

"""The cell that a source text spells, read by symbolic interpretation."""

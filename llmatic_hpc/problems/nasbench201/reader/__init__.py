"""Reading the cell of NAS-Bench-201 that a source text spells, and mending a near miss."""

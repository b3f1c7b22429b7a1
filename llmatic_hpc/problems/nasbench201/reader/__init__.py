"""Which cell of NAS-Bench-201 a source text spells, and what a near miss is mended to."""

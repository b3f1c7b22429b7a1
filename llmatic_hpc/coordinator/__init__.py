"""A run from its first generation to its last: the loop, and the generation in flight."""

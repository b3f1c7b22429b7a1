"""Image classification from scratch: the paper's first half (sections 3 and 4)."""

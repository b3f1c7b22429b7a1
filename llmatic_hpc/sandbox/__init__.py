"""Contained processes for candidates: limits, the kernel's layers, and replies."""

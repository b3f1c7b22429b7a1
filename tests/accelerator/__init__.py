"""The accelerator's way through the package, on a simulated one (see simulated.py)."""

"""A causal language model of transformers that writes a generation side by side."""

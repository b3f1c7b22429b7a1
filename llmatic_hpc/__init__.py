"""LLMatic on a SLURM cluster: networks written by a language model, kept by two archives."""

__version__ = "0.1.0"

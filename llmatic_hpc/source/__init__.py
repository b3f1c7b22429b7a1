"""Text that a model wrote, read without running it: parser, network, canonical form, gate."""

"""The procedural control: fixed rules that edit the parent, without a language model."""

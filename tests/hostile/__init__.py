"""Sources that a language model, or an attacker, could write, and what stops them."""

"""A run directory: where everything lies, who holds it, and how a file is written."""

"""The cell that a source text spells: recognised, or traced in a contained child."""

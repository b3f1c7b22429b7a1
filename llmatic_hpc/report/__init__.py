"""Reports on runs for people: progress while they go, status and comparisons from records."""

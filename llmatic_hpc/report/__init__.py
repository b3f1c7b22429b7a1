"""What a person sees of a run: progress while it goes, status and reports from its record."""

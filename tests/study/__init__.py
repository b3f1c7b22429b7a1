"""Studies: the plan, runs as children, what a kill leaves, jobs, results."""

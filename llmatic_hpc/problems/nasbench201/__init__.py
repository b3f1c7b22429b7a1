"""NAS-Bench-201: cells of a fixed network whose trainings are a table."""

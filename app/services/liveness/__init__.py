"""Signs of life of processes, and their reports."""

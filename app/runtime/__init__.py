"""What processes are made of: start-up, supervision, wiring, and files on disk."""

"""What Beat asks for: hints for work that was not announced, and deleting what is old."""

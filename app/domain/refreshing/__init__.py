"""Rules without I/O for the renewal of tokens, and for the deadlines of tokens and grants."""

"""A local Nango for development and tests: the same wire contract over real HTTP (CONTRACT 1 to 4)."""

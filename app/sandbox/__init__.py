"""A local Nango for development and tests: the same wire contract over real HTTP (docs/nango-contract.md)."""

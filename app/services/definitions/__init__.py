"""Definitions of teams, destinations and routes, by people or from waylink.toml, with their secrets."""

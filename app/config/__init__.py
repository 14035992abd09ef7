"""Settings from variables, waylink.toml and secret files, read at the edges and passed on as values."""

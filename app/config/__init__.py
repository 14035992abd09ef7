"""Settings: variables, waylink.toml and secrets in files, read at the edges and passed on as values."""

"""Teams, destinations and routes: changed by people or recorded from waylink.toml, with their secrets."""

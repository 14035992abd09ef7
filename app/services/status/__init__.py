"""The checks of Waylink's status, for commands, the API and pages: each module reads facts, and judges them apart."""

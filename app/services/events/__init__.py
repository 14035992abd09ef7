"""From a stored webhook to a processed event: claim, ask Nango, apply."""

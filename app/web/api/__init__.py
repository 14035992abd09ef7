"""The REST API under /api/v1. CONTRIBUTING.md says how to add an endpoint."""

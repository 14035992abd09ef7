"""Reconciliation of stored connections with Nango's list."""

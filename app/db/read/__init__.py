"""Queries for lists, figures and details, as plain values."""

"""Operators: their accounts, the ways in which they sign in, and their sessions."""

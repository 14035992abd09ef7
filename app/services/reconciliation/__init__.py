"""Nango's list compared with the connections stored here."""

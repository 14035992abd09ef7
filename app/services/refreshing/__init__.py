"""Proactive token refreshes."""

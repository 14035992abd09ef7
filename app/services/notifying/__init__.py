"""Notifications: checks of the status that turn red or are well again, told once by webhook, chat or e-mail."""

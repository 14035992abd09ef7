"""Users and organizations: added, imported, removed, erased."""

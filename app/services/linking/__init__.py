"""The links between connections and their owners: opened, closed, and made later than their event."""

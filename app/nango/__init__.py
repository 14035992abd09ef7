"""A client of Nango's REST API: one typed method per operation, one error of `app.errors` per failure kind.

It knows nothing of Waylink's database or settings, so applications can use it on its own (docs/client.md).
"""

from app.nango.client import NangoClient

__all__ = ["NangoClient"]

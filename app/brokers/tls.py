"""TLS to Waylink's own brokers. A module of its own, as every command needs it and few send anything."""

from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import certifi


def verified(url: str, authorities: Path | None = None) -> str:
    """The URL of a broker with verified TLS, certificate and name, which is not kombu's default.

    `authorities`: a PEM file, in place of the public ones. TLS options in the URL take precedence.
    """
    if not url.startswith("rediss://"):
        return url
    base, _, query = url.partition("?")
    said = dict(parse_qsl(query, keep_blank_values=True))
    files = {"ssl_ca_certs": str(authorities or certifi.where())}
    return f"{base}?{urlencode({'ssl_cert_reqs': 'required', 'ssl_check_hostname': 'true', **files, **said})}"

"""Certificates for servers on loopback, from an authority of the tests' own, as files in PEM."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a server (`certificate`, `key`) and of its clients, which trust `authority`."""

    authority: Path
    certificate: Path
    key: Path


def issue(folder: Path, authority: trustme.CA | None = None, *, name: str = "127.0.0.1") -> Tls:
    """A certificate for that name or address, by this authority or by a new one."""
    authority = authority or trustme.CA()
    made = authority.issue_cert(name)
    tls = Tls(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(tls.authority)
    made.cert_chain_pems[0].write_to_path(tls.certificate)
    made.private_key_pem.write_to_path(tls.key)
    return tls

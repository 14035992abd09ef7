"""Marks of e-mail domains, drawn here: the domain's first letter on one of a few colours. Nothing is fetched."""

from typing import Final
from zlib import crc32

from markupsafe import Markup

COLOURS: Final = 6  # classes `hue0` to `hue5` of the style sheet


def domain_of(email: str | None) -> str | None:
    """The domain of an e-mail in small letters; None where there is none."""
    _, at, domain = (email or "").rpartition("@")
    return domain.strip().lower() or None if at else None


def mark_of(email: str | None) -> Markup:
    """The mark of an e-mail's domain, as SVG with a title; of no e-mail an empty one, so that columns stay in line."""
    domain = domain_of(email)
    letter = next((character for character in domain or "" if character.isalnum()), None)
    if domain is None or letter is None:
        return Markup(
            '<svg class="avatar" viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="11"/></svg>'
        )
    hue = crc32(domain.encode("utf-8", "replace")) % COLOURS
    return Markup(
        '<svg class="avatar hue{}" viewBox="0 0 24 24" role="img" aria-label="{}"><title>{}</title>'
        '<circle cx="12" cy="12" r="12"/><text x="12" y="16.5">{}</text></svg>'
    ).format(hue, domain, domain, letter.upper())

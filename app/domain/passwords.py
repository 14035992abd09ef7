"""Rules of operators' passwords: a length, and nothing else (NIST SP 800-63B, section 3.1.1.2)."""

import unicodedata
from typing import Final

SHORTEST: Final = 12  # characters
LONGEST: Final = 256


def normalized(password: str) -> str:
    """The password in one form (NFKC), whatever keyboard it was typed on. Bounded before: NFKC can lengthen a text."""
    return unicodedata.normalize("NFKC", password[: LONGEST + 1])


def wrong_password(password: str, *, repeated: str) -> str | None:
    """The reason why it cannot be a password, as a sentence; None where it can."""
    if len(password) > LONGEST:
        return f"A password has at most {LONGEST} characters."
    if len(normalized(password)) < SHORTEST:
        return f"A password has at least {SHORTEST} characters; a few words do well."
    if "\0" in password or not password.isprintable():
        return "A password has printable characters only."
    if normalized(password) != normalized(repeated):
        return "The two passwords differ."
    return None

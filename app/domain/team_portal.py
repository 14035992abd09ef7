"""The look of a team's portal, and the sites that may embed it.

The `wrong_…` functions return what is wrong, as the rest of a sentence that begins with the field's name, or None.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_TITLE: Final = 60
MAX_ORIGINS: Final = 20
CONTRAST: Final = 4.5  # of text, by WCAG 2.2 AA
# The backgrounds of text in app/web/static/waylink.css: `--paper` and `--panel` of each scheme.
LIGHT: Final = ("#fbfcfe", "#eef2f8")
DARK: Final = ("#10161f", "#1b2430")
BLACK: Final = "#000000"
WHITE: Final = "#ffffff"
_STEPS: Final = 20  # between a colour and black or white
_COLOR: Final = re.compile(r"#[0-9a-f]{6}")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}+(?::[0-9]{1,5}+)?")
_LOOPBACK: Final = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Look:
    """The name shown in place of Waylink's, the colour of the bar as `#rrggbb`, and origins that may embed pages."""

    title: str | None = None
    color: str | None = None
    origins: tuple[str, ...] = ()


def wrong_title(title: str) -> str | None:
    if 0 < len(title.strip()) == len(title) <= MAX_TITLE and title.isprintable():
        return None
    return f"has 1 to {MAX_TITLE} printable characters, without blanks around them"


def wrong_color(color: str) -> str | None:
    return None if _COLOR.fullmatch(color) else "is written as `#` and six hexadecimal digits, such as `#0b5fff`"


def wrong_origin(origin: str) -> str | None:
    """An origin is a scheme, a host and, where it is not the usual one, a port. Only loopback may be without TLS."""
    scheme, _, rest = origin.partition("://")
    host, _, port = rest.partition(":")
    is_host = _HOST.fullmatch(rest) is not None and all(
        part and not part.startswith("-") and not part.endswith("-") for part in host.split(".")
    )
    if scheme not in {"https", "http"} or not is_host or (port and not 0 < int(port) < 65_536):
        return "is an origin such as `https://app.example.com`: a scheme and a host in small letters, without a path"
    if scheme == "http" and host not in _LOOPBACK:
        return "begins with `https://`: browsers keep no session of an embedded page without TLS"
    return None


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.2, from 0 for black to 1 for white."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(color: str) -> str:
    """Black or white, whichever is better read on a colour: the contrast is 4.58 at least."""
    return max((BLACK, WHITE), key=lambda ink: contrast(ink, color))


def readable(color: str, backgrounds: Sequence[str]) -> str:
    """The colour, or the nearest mixture with black or white that is read as text on all of these backgrounds."""
    towards = ink_on(backgrounds[0])
    for step in range(_STEPS):
        mixed = _mixed(color, towards, step / _STEPS)
        if all(contrast(mixed, background) >= CONTRAST for background in backgrounds):
            return mixed
    return towards


def stylesheet(color: str) -> str:
    """The rules that give the console a team's colour: the bar in it, links and main buttons in readable shades."""
    ink = ink_on(color)
    bar = dict.fromkeys(("ink", "soft", "line", "edge", "accent"), ink)
    bar |= {"paper": color, "panel": color, "on-accent": color}
    inside = " ".join(f"--{name}: {value};" for name, value in bar.items())
    return (
        f":root {{ {_accent(readable(color, LIGHT))} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_accent(readable(color, DARK))} }} }}\n"
        f".bar {{ {inside} background: {color}; color: {ink}; }}\n"
    )


def _accent(color: str) -> str:
    return f"--accent: {color}; --on-accent: {ink_on(color)};"


def _mixed(color: str, other: str, share: float) -> str:
    pairs = [(int(color[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in pairs)

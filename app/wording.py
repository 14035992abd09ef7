"""Words for people."""


def counted(number: int, noun: str) -> str:
    """The number and the noun, which is given in the singular: `1 connection`, `1,200 events`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{number:,} {noun}s"

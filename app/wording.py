"""Words for people."""


def counted(number: int, noun: str) -> str:
    """The number and the noun, which is given in the singular: `1 connection`, `1,200 events`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("ry"):
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}es" if noun.endswith(("s", "sh", "ch", "x")) else f"{number:,} {noun}s"

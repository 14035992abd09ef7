"""Slots: the share of a window at which a connection's turn comes, so that no minute carries a herd.

Connections are numbered as they are first planned. The shares of any numbers in a row divide a window almost evenly,
which shares from a hash do not: with 23 turns a minute, its busiest minute has some 43. The number is stored, so that a
connection keeps its share.
"""

import hashlib
from typing import Final

# 2^64 divided by the golden ratio: multiples of it leave gaps of nearly one size, however many there are.
_STEP: Final = 11_400_714_819_323_198_485
_OTHER_STEP: Final = 7_640_891_576_956_012_809  # 2^64 times the square root of 2, less 2^64
_WHOLE: Final = 2**64


def share(slot: int | None, identity: str, purpose: str) -> float:
    """A stable number in [0, 1): by the slot; of a connection without one by its identity and the purpose."""
    if slot is not None:
        return slot * _STEP % _WHOLE / _WHOLE
    return hashed_share(identity, purpose)


def other_share(slot: int | None, identity: str, purpose: str) -> float:
    """A share that does not follow from the first one, to spread those again whose first shares are alike."""
    if slot is not None:
        return slot * _OTHER_STEP % _WHOLE / _WHOLE
    return hashed_share(identity, purpose)


def hashed_share(identity: str, purpose: str) -> float:
    """A stable number in [0, 1) of the identity, different for each purpose."""
    digest = hashlib.blake2b(f"{purpose}\0{identity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _WHOLE

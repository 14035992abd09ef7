"""The header `traceparent`: taken where it is well formed, bounded, and kept in one form (W3C Trace Context)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.traceparent import LONGEST, in_form, read, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (VALID, VALID),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f" \t{VALID} ", VALID),
        # Flags that version 00 does not have are not passed on.
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-08", f"00-{TRACE}-{SPAN}-00"),
        # Of later versions the four fields that are known.
        (f"cc-{TRACE}-{SPAN}-01", VALID),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", VALID),
        (f"cc-{TRACE}-{SPAN}-01-" + "x" * (LONGEST - 56), VALID),
    ],
)
def test_a_well_formed_header_is_kept_in_the_form_of_version_00(header: str, kept: str) -> None:
    assert read(header.encode()) == kept
    assert trace_id(kept) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "", "00", TRACE, VALID[:-1], f"{VALID}0", f"{VALID}-more", VALID.upper(), VALID.replace("-", "_"),
        f"ff-{TRACE}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01", f"00-{TRACE}-{SPAN}-0x", f"00-{TRACE}-{SPAN}- 1", f"cc-{TRACE}-{SPAN}-01x",
        f"cc-{TRACE}-{SPAN}-01.what", f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\r\nx: y",
        f"00-{TRACE}-{SPAN}-0\u0661", f"cc-{TRACE}-{SPAN}-01-" + "x" * LONGEST, "0" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_header_is_left_out(header: str) -> None:
    assert read(header.encode()) is None


@given(st.binary(max_size=600))
def test_any_header_gives_nothing_or_the_one_form(header: bytes) -> None:
    kept = read(header)
    assert kept is None or in_form(kept) == kept


@given(st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,80})?", fullmatch=True))
def test_what_looks_like_a_header_gives_nothing_or_the_one_form(header: str) -> None:
    kept = read(header.encode())
    if kept is not None:
        assert in_form(kept) == kept
        assert kept[3:53] == header[3:53]
        assert len(kept) == 55

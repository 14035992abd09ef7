"""How many files, connections among them, a process may have open."""

import resource
from typing import Final

MIN_OPEN_FILES: Final = 12_000  # 10,000 connections of the web side, and what it needs itself


def raise_file_limit() -> int:
    """Let this process open as many files as it may; that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, MIN_OPEN_FILES) if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS has another limit below an unlimited one
        return soft
    return wanted

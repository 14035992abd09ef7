"""The limit of open files, sockets included, of a process."""

import resource
from typing import Final

MIN_OPEN_FILES: Final = 12_000  # 10,000 connections of the web process, and its own files


def raise_file_limit() -> int:
    """Raise this process's limit to its hard limit, or to MIN_OPEN_FILES where that is infinite. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, MIN_OPEN_FILES) if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS has another limit below an unlimited one
        return soft
    return wanted

"""The files of another commit."""

import io
import subprocess
import tarfile
from pathlib import Path

from bench.processes import ROOT, Failed


def unpack(commit: str, folder: Path) -> None:
    """Write a commit's files into a folder. A commit that a shallow clone lacks is fetched. Raises Failed."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        fetched = _git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit)
        if fetched.returncode:
            raise Failed(f"{commit} is not here, and cannot be fetched: {_first_line(fetched.stderr)}")
    packed = _git("archive", commit)
    if packed.returncode:
        raise Failed(_first_line(packed.stderr))
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


def _first_line(said: bytes) -> str:
    return said.decode().strip().partition("\n")[0]

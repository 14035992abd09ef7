"""Files that pages load, under addresses that name their content: browsers keep them, and never use an outdated one."""

import os
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(str(files("app.web") / "static"))
KEPT: Final = "public, max-age=31536000, immutable"  # a year
ASKED: Final = "no-cache"  # kept, and asked for by its ETag each time
_HASH_LENGTH: Final = 12


def _hashes() -> dict[str, str]:
    return {
        path.relative_to(FOLDER).as_posix(): sha256(path.read_bytes()).hexdigest()[:_HASH_LENGTH]
        for path in FOLDER.rglob("*")
        if path.is_file()
    }


_HASHES: Final = _hashes()


def static(name: str) -> str:
    """The address of a file, such as `waylink.css`, with its content's hash. Raises KeyError for a file that is not
    there."""
    return f"/static/{name}?{_HASHES[name]}"


class VersionedFiles(StaticFiles):
    """The files of the folder. Under the address with its hash a file is kept for good; under any other, asked for."""

    def __init__(self) -> None:
        super().__init__(directory=str(FOLDER))

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        asked = scope["query_string"].decode("latin-1")
        is_named = asked == _HASHES.get(Path(full_path).relative_to(FOLDER.resolve()).as_posix())
        response.headers["cache-control"] = KEPT if is_named else ASKED
        response.headers["x-content-type-options"] = "nosniff"
        return response

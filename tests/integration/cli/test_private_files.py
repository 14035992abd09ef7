"""Files that Waylink makes are for its user alone, and those open to other users are reported."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.runtime.private_files import exposed
from tests.integration.cli.test_cli import Command


@pytest.fixture
def waylink(tmp_path):
    return Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "key"})


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def migrate(waylink, folder: Path):
    """In a process of its own, whose umask is the usual one."""
    code = "import os, sys; os.umask(0o022); sys.argv = ['waylink', 'migrate']; from app.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=waylink.environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_that_is_made_is_private(waylink, tmp_path):
    migrate(waylink, tmp_path)
    found = modes(tmp_path / ".waylink")
    assert "waylink.db" in found
    assert {name: mode for name, mode in found.items() if mode & 0o077} == {}


def test_a_database_in_a_folder_that_is_open_is_private_itself(waylink, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    waylink.variables["WAYLINK_DATABASE_URL"] = f"sqlite:///{tmp_path}/shared/own.db"
    migrate(waylink, tmp_path)
    assert modes(tmp_path / "shared")["own.db"] == 0o600


def test_check_reports_what_is_open_and_how_to_close_it(waylink, tmp_path):
    migrate(waylink, tmp_path)
    assert not [row for row in waylink_rows(waylink) if row["what"] == "files"]
    (tmp_path / ".waylink").chmod(0o755)
    (tmp_path / ".waylink/waylink.db").chmod(0o644)
    details = [row["detail"] for row in waylink_rows(waylink) if (row["what"], row["result"]) == ("files", "bad")]
    assert any(detail.endswith("chmod 700 .waylink") for detail in details)
    (tmp_path / ".waylink").chmod(0o700)
    assert not [row for row in waylink_rows(waylink) if row["what"] == "files"]  # other users cannot reach the file


def waylink_rows(waylink):
    return json.loads(waylink.inside("check", "--json").stdout)


class TestWhatIsOpen:
    @pytest.fixture
    def folder(self, tmp_path):
        tmp_path.chmod(0o755)  # as a folder that others may enter
        made = tmp_path / "data"
        made.mkdir(mode=0o700)
        return made

    def test_a_private_folder_is_well_whatever_is_in_it(self, folder):
        (folder / "w.db").write_text("")
        (folder / "w.db").chmod(0o644)
        assert [*exposed(folder, folder / "w.db")] == []

    @pytest.mark.parametrize("mode", [0o755, 0o701, 0o770, 0o707])
    def test_each_right_of_others_is_reported(self, folder, mode):
        folder.chmod(mode)
        [found] = exposed(folder, None)
        assert (found.path, "chmod 700" in str(found)) == (folder, True)

    def test_files_of_a_database_elsewhere_are_checked(self, folder, monkeypatch):
        outside = folder.parent / "w.db"
        for suffix in ("", "-wal"):
            (folder.parent / f"w.db{suffix}").write_text("")
            (folder.parent / f"w.db{suffix}").chmod(0o640)
        # Above is the tests' own folder.
        monkeypatch.setattr("app.runtime.private_files._is_private", lambda _folder: False)
        assert [file.path.name for file in exposed(folder, outside)] == ["w.db", "w.db-wal"]

    def test_another_users_is_reported(self, folder, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
        [found] = exposed(folder, None)
        assert "another user" in found.what

    def test_what_is_not_there_is_not_open(self, folder):
        assert [*exposed(folder / "nothing", folder / "nothing/w.db")] == []

"""Files for running the code: exact versions, their digests, and bounds of every container."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DIGEST, COMMIT = "sha256:" + "d" * 64, "c" * 40
TOOL = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
case "$0" in
  */docker) [ "$FAIL" = docker ] && exit 1; echo %s ;;
  */git) printf '%s\\trefs/tags/v6.0.2\\n%s\\trefs/tags/v6.0.2^{}\\n%s\\trefs/tags/v6.2.0\\n' ;;
esac
"""


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_read_only_and_bounded(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert all(service[bound] for bound in ("mem_limit", "pids_limit", "cpus"))
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_are_named_by_exact_version():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 4
    assert all(re.search(r":\d+\.\d+(\.\d+)?(-slim)?(@sha256:[0-9a-f]{64})?$", image) for image in images), images


def test_the_password_of_redis_stands_on_no_command_line():
    command = SERVICES["redis"]["command"]
    assert "$$REDIS_PASSWORD" in command[-1]
    assert "requirepass" in command[-1].split("|")[0]
    assert command[-1].rstrip().endswith("exec redis-server -")
    for name in ("WAYLINK_BROKER_URL", "WAYLINK_TEAM_BROKER_URL"):
        assert SERVICES["web"]["environment"][name].startswith("redis://:${REDIS_PASSWORD:?")


class TestPinDigests:
    @pytest.fixture
    def folder(self, tmp_path):
        copy = tmp_path / "copy"
        for name in ("Dockerfile", "docker-compose.yml", ".github/workflows/ci.yml"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        (tmp_path / "bin").mkdir()
        for name in ("docker", "git"):
            tool = tmp_path / "bin" / name
            tool.write_text(TOOL % (DIGEST, "a" * 40, COMMIT, COMMIT))
            tool.chmod(0o755)
        return copy

    def run(self, folder, *arguments, fail=""):
        calls = folder.parent / "calls"
        environ = {"PATH": f"{folder.parent}/bin:{os.environ['PATH']}", "CALLS": str(calls), "FAIL": fail}
        argv = [str(ROOT / "deploy/pin-digests"), *arguments, str(folder)]
        return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)

    def test_versions_get_their_digests_and_actions_their_commits(self, folder):
        assert self.run(folder, "--check").returncode == 1
        for _ in range(2):  # again changes nothing
            done = self.run(folder)
            assert done.returncode == 0, done.stderr
            assert (folder / "Dockerfile").read_text().count(f"FROM python:3.13.14-slim@{DIGEST}") == 2
            assert f"image: redis:8.4.0@{DIGEST}\n" in (folder / "docker-compose.yml").read_text()
            assert "image: waylink\n" in (folder / "docker-compose.yml").read_text()
            assert f"uses: actions/checkout@{COMMIT} # v6.0.2\n" in (folder / ".github/workflows/ci.yml").read_text()
        assert (self.run(folder, "--check").returncode, self.run(folder, "--check").stdout) == (0, "")

    def test_a_version_that_cannot_be_looked_up_leaves_every_file_as_it_is(self, folder):
        before = (folder / ".github/workflows/ci.yml").read_text()
        done = self.run(folder, fail="docker")
        assert (done.returncode, done.stderr.startswith("error: docker")) == (2, True)
        assert len(done.stderr.splitlines()) == 1
        assert (folder / ".github/workflows/ci.yml").read_text() == before

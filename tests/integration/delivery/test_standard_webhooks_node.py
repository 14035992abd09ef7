"""Promise 10: the official JavaScript library of Standard Webhooks verifies what leaves, too."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from app.domain.standard_webhooks import signed_headers, write_secret

FOLDER = Path(__file__).parents[2] / "node"
NEW, OLD = bytes(range(32)), bytes(range(100, 124))
BODY = '{"id":"job_1","name":"Žofie 😀"}'

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def verify():
    if not (FOLDER / "node_modules" / "standardwebhooks").exists():
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, capture_output=True, timeout=100
        )

    def verify(key, *, body=BODY, keys=(NEW, OLD)):
        headers = signed_headers(BODY.encode(), message_id="job_1", timestamp=int(time.time()), keys=keys)
        given = json.dumps({"secret": write_secret(key), "body": body, "headers": dict(headers)})
        script = str(FOLDER / "verify.mjs")
        return subprocess.run(["node", script], input=given, capture_output=True, text=True, check=False, timeout=30)

    return verify


@pytest.mark.parametrize("key", [NEW, OLD])
def test_either_secret_of_a_rotation_verifies(verify, key):
    done = verify(key)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(BODY)


def test_what_was_changed_or_signed_by_others_is_refused(verify):
    assert verify(NEW, body=BODY + " ").returncode == 1
    assert verify(NEW, keys=(OLD,)).returncode == 1

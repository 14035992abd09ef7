"""A process that dies in the middle of an operation: Nango has answered, and nothing of it is written here yet.

`python -m tests.integration.connections.dying_operation DATABASE_URL NANGO_URL CON_ID OPERATION`
"""

import os
import signal
import sys
from contextlib import closing
from unittest import mock

from pydantic import SecretStr

from app.clock import utc_now
from app.config.nango_environment import Environment, SigningKeys
from app.db.engine import connect
from app.ids import CONNECTION, parse
from app.nango.transport import Transport
from app.services.connections import credentials, deletion, metadata, tags
from app.services.connections.operations import Operations
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from tests.integration.sandbox.sandbox_server import API_KEY

WHO = "token:dying"
# Each with the call to Nango after whose answer it dies.
OPERATIONS = {
    "delete": ("DELETE", lambda operations, con: deletion.delete(operations, con, actor=WHO)),
    "tag": ("PATCH", lambda operations, con: tags.add_tags(operations, con, {"plan": "pro"}, actor=WHO)),
    "metadata": ("POST", lambda operations, con: metadata.set_metadata(operations, con, {"a": 1}, actor=WHO)),
    "refresh": ("GET", lambda operations, con: credentials.refresh(operations, con, actor=WHO)),
}


def main(database_url, nango_url, con_id, operation):
    method, act = OPERATIONS[operation]
    send = Transport.call

    def answered_and_dead(transport, call, **options):
        answer = send(transport, call, **options)
        if call.method == method:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    environment = Environment("default", nango_url, "acme", SigningKeys(), api_key=SecretStr(API_KEY))
    environments = {"default": environment}
    with closing(connect(database_url)) as database, mock.patch.object(Transport, "call", answered_and_dead):
        act(Operations(database, Policy(environments), NangoClients(environments), utc_now), parse(CONNECTION, con_id))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A team's AMQP broker that is away delays its own jobs no longer than one try takes."""

import socket
import threading

import pytest

from app.brokers.celery_broker import Broker
from app.brokers.messages import Message
from app.errors import BrokerUnavailable


def test_a_broker_that_is_away_is_tried_once_for_a_batch():
    tries = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            tries.append(1)
            connection.recv(1)  # not at once, or the client fails at setsockopt; the unread rest makes it a reset
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        broker = Broker.of_team("crm", f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}//")
        with pytest.raises(BrokerUnavailable) as refused:
            broker.send([Message("team.crm.jobs", "handle", "job_1", {})])
        broker.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(tries) == 1
    assert str(refused.value).endswith(": the connection was closed")

"""Two transactions that meet: the second begins in the middle of the first, which goes on once the second one waits."""

import threading

from tests.integration.world import in_threads, wait_for_a_lock
from tests.waiting import PATIENCE


def hold(monkeypatch, world, place, name):
    """Make this function return once another transaction waits for its own. The event comes before that wait."""
    there, real = threading.Event(), getattr(place, name)

    def call_and_wait(*arguments, **options):
        result = real(*arguments, **options)
        monkeypatch.undo()
        there.set()
        wait_for_a_lock(world)
        return result

    monkeypatch.setattr(place, name, call_and_wait)
    return there


def at_once(first, there, second):
    """Both results, the second call begun when the first one is `there`."""

    def wait_and_call():
        assert there.wait(PATIENCE)
        return second()

    return in_threads(first, wait_and_call)

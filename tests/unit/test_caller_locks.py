"""Long calls of one caller run one by one, and take no turn of other callers."""

import asyncio

import pytest

from app.web.api import pool
from app.web.api.pool import MAX_OWN, CallerLocks
from app.web.api.problems import ApiRefusal


async def refused_by(turns: CallerLocks, caller: str) -> str | None:
    try:
        async with turns.of(caller):
            return None
    except ApiRefusal as refused:
        return refused.kind.word


def test_a_caller_has_one_turn_at_a_time_and_others_have_theirs():
    async def play() -> list[str]:
        turns, go, done = CallerLocks(), asyncio.Event(), list[str]()

        async def take(caller: str, *, waits: bool = False) -> None:
            async with turns.of(caller):
                done.append(f"{caller} begins")
                if waits:
                    await go.wait()
                done.append(f"{caller} ends")

        greedy = [asyncio.create_task(take("a", waits=True)) for _ in range(2)]
        await asyncio.sleep(0)
        await take("b")
        go.set()
        await asyncio.gather(*greedy)
        return done

    assert asyncio.run(play()) == ["a begins", "b begins", "b ends", "a ends", "a begins", "a ends"]


def test_more_of_a_callers_calls_than_may_wait_are_refused_and_later_ones_are_not():
    async def play() -> tuple[list[str | None], str | None, CallerLocks]:
        turns, go = CallerLocks(), asyncio.Event()

        async def take() -> None:
            async with turns.of("a"):
                await go.wait()

        waiting = [asyncio.create_task(take()) for _ in range(MAX_OWN)]
        await asyncio.sleep(0)
        refused = [await refused_by(turns, "a"), await refused_by(turns, "b")]
        go.set()
        await asyncio.gather(*waiting)
        return refused, await refused_by(turns, "a"), turns

    refused, later, turns = asyncio.run(play())
    assert (refused, later) == (["too_many_calls", None], None)
    assert (turns._locks, turns._calls) == ({}, {}), "no caller is remembered"


@pytest.mark.parametrize("ends_by", ["waiting too long", "leaving"])
def test_a_call_that_gives_up_its_turn_takes_none(monkeypatch: pytest.MonkeyPatch, ends_by: str):
    monkeypatch.setattr(pool, "LONGEST_WAIT", 0.02 if ends_by == "waiting too long" else 60)

    async def play() -> str | None:
        turns, go = CallerLocks(), asyncio.Event()

        async def take() -> None:
            async with turns.of("a"):
                await go.wait()

        first = asyncio.create_task(take())
        await asyncio.sleep(0)
        second = asyncio.create_task(refused_by(turns, "a"))
        await asyncio.sleep(0)
        if ends_by == "leaving":
            second.cancel()
        [answer] = await asyncio.gather(second, return_exceptions=True)
        go.set()
        await first
        assert await refused_by(turns, "a") is None
        return answer if isinstance(answer, str) else type(answer).__name__

    assert asyncio.run(play()) == ("busy" if ends_by == "waiting too long" else "CancelledError")

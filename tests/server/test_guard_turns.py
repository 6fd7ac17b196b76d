"""Inferences take turns."""

from __future__ import annotations

import asyncio

import pytest

from rarevoxel.errors import UnavailableError
from rarevoxel.server.guard.turns import QueueFullError, Turns


def test_one_runs_and_a_few_wait() -> None:
    async def scene() -> None:
        turns = Turns(2)
        log: list[str] = []
        go = asyncio.Event()

        async def infer(name: str) -> None:
            async with turns.turn():
                assert turns.running == 1
                log.append(name)
                await go.wait()

        tasks = [asyncio.create_task(infer(name)) for name in "abc"]
        await asyncio.sleep(0.01)
        assert (log, turns.waiting, turns.running) == (["a"], 2, 1)
        with pytest.raises(QueueFullError, match="2 inferences wait already") as caught:
            await infer("d")
        assert caught.value.status == 429
        assert caught.value.retry_after == 15.0, "three in front, five seconds each until one has been measured"
        go.set()
        await asyncio.gather(*tasks)
        assert (log, turns.waiting, turns.running) == (["a", "b", "c"], 0, 0)
        assert turns.retry_after() == 1.0

    asyncio.run(scene())


def test_an_error_and_a_cancelled_wait_free_the_turn() -> None:
    async def scene() -> None:
        turns = Turns(1)
        with pytest.raises(ValueError, match="broken"):
            async with turns.turn():
                raise ValueError("broken")

        async def wait() -> None:
            async with turns.turn():
                raise AssertionError("was cancelled")

        async with turns.turn():
            task = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            assert turns.waiting == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert turns.waiting == 0
        async with turns.turn():
            pass

    asyncio.run(scene())


def test_whoever_has_left_is_not_served() -> None:
    async def left() -> bool:
        return True

    async def scene() -> None:
        turns = Turns(1)
        with pytest.raises(UnavailableError, match="has left"):
            async with turns.turn(left):
                raise AssertionError("nobody waits for this")
        assert turns.running == 0

    asyncio.run(scene())


def test_a_server_that_shuts_down_turns_the_waiting_away() -> None:
    async def scene() -> None:
        turns = Turns(4)
        outcome: list[str] = []

        async def infer() -> None:
            try:
                async with turns.turn():
                    outcome.append("ran")
            except UnavailableError as error:
                outcome.append(str(error.status))

        async with turns.turn():
            tasks = [asyncio.create_task(infer()) for _ in range(3)]
            await asyncio.sleep(0.01)
            turns.close()
        await asyncio.gather(*tasks)
        assert outcome == ["503"] * 3
        await infer()
        assert outcome == ["503"] * 4

    asyncio.run(scene())

"""Long work that lets other tasks run."""

import asyncio
import time

import pytest

from sockjs_aio.turns import in_turns


async def test_others_run_while_many_items_have_their_turns() -> None:
    done: list[int] = []
    over = asyncio.Event()

    def work(item: int) -> None:
        time.sleep(0.001)
        done.append(item)

    in_turns(range(30), work, over.set)
    assert 0 < len(done) < 30
    await asyncio.sleep(0)
    assert len(done) < 30
    await over.wait()
    assert done == list(range(30))


async def test_an_item_that_fails_takes_no_turn_from_the_others() -> None:
    done: list[int] = []
    over = asyncio.Event()

    def work(item: int) -> None:
        if item == 1:
            raise ZeroDivisionError
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        in_turns(range(4), work, over.set)
    await over.wait()
    assert done == [0, 2, 3]


async def test_of_nothing_the_end_comes_at_once() -> None:
    over = asyncio.Event()
    in_turns((), print, over.set)
    assert over.is_set()

"""Tasks end although they lose a cancellation, as they may to a timeout before Python 3.11."""

import asyncio

from sockjs_aio.cancellations import end


class Deaf:
    """Work that does not end at its first cancellation, as one that loses it to a timeout."""

    def __init__(self) -> None:
        self.heard = 0

    async def work(self, *_: object) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.heard += 1
                if self.heard > 1:
                    raise


async def test_task_that_loses_its_first_cancellation_ends_nevertheless() -> None:
    tasks = [asyncio.ensure_future(Deaf().work()) for _ in range(2)]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_one_who_ends_tasks_and_is_cancelled_ends_them_before() -> None:
    task = asyncio.ensure_future(Deaf().work())
    ending = asyncio.ensure_future(end(task))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled()
    assert task.cancelled()

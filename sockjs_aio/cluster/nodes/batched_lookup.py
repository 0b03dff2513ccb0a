"""Batches the lookups of many requests into one Redis command.

So many clients that come back at once do not need many connections, and a client that leaves before
its question is answered does not disturb the others.  If it has not been asked yet, it never is.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from sockjs_aio.cancellations import end

BATCH = 200
"""Maximum number of questions in one command."""

Question: TypeAlias = tuple[str, str]
Answer: TypeAlias = "list[str | None]"
Ask: TypeAlias = Callable[[Sequence[Question]], Awaitable[list[Answer]]]


class BatchedLookup:
    """Collects questions while earlier ones are being answered, and then asks them together.

    Args:
        ask: Answers a batch of questions, in their order.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._asking: asyncio.Task[None] | None = None  # only while questions wait

    async def put(self, question: Question) -> Answer:
        """Return the answer.

        Raises:
            Exception: Anything that `ask` raises.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, answer))
        # an eager task (Python 3.12) may have ended before it was assigned
        if self._asking is None or self._asking.done():
            self._asking = loop.create_task(self._run())
        return await answer

    async def close(self) -> None:
        """Stop asking; who still waits is cancelled."""
        if self._asking is not None:
            await end(self._asking)
        while self._waiting:
            self._waiting.popleft()[1].cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = min(BATCH, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                batch = [each for each in batch if not each[1].done()]  # some clients have left
                if batch:
                    await self._answer(batch)
        finally:
            self._asking = None

    async def _answer(self, batch: "list[tuple[Question, asyncio.Future[Answer]]]") -> None:
        try:
            answers = await self._ask([question for question, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(type(error)(*error.args))
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

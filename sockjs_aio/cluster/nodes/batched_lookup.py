"""Puts the questions of many requests into one command.

A crowd of clients that comes back at once needs no crowd of connections then, and one that leaves
before its question is answered disturbs nobody.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

BATCH = 200
"""BatchedLookup in one command."""

Question: TypeAlias = tuple[str, str]
Answer: TypeAlias = "list[str | None]"
Ask: TypeAlias = Callable[[Sequence[Question]], Awaitable[list[Answer]]]


class BatchedLookup:
    """BatchedLookup that wait; those that have come while others are being answered go together.

    Args:
        ask: Gets some of them answered.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._asking: asyncio.Task[None] | None = None  # while there is something to ask

    async def put(self, question: Question) -> Answer:
        """Return the answer.

        Raises:
            Exception: What `ask` has raised.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, answer))
        # an eager task (Python 3.12) may have ended before it is kept here
        if self._asking is None or self._asking.done():
            self._asking = loop.create_task(self._run())
        return await answer

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = min(BATCH, len(self._waiting))
                await self._answer([self._waiting.popleft() for _ in range(size)])
        finally:
            self._asking = None

    async def _answer(self, batch: "list[tuple[Question, asyncio.Future[Answer]]]") -> None:
        try:
            answers = await self._ask([question for question, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(type(error)(*error.args))
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

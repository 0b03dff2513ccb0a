"""A short question to another process, whose answer is a status."""

import asyncio

from sockjs_aio.cluster.link import Link
from sockjs_aio.cluster.reply import Reply, ReplyBroken


class Question:
    """Uses a link for one question, and ends it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reply = Reply()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.user = self

    async def ask(self, request: bytes) -> int:
        """Write `request`; return the status of the response.

        Raises:
            ConnectionError: If there is none.
        """
        self._link.transport.write(request)
        try:
            await self._answered
        finally:
            self._link.cut()
        if not self._reply.status:
            raise ConnectionResetError("the other process has ended")
        return self._reply.status

    def received(self, data: bytes) -> None:
        """Take what has come."""
        try:
            self._reply.feed(data)
        except ReplyBroken:
            self.lost()
        else:
            if self._reply.status:
                self.lost()

    def lost(self) -> None:
        """Whatever there is has come."""
        if not self._answered.done():
            self._answered.set_result(None)

    def writable(self, is_writable: bool) -> None:
        """It is short."""

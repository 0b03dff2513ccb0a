"""Sends messages over HTTP: one request at a time, so that they keep their order."""

import asyncio
import collections
import logging
from collections.abc import Callable
from urllib.parse import quote_plus

from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import TransportError, failures, refused
from sockjs_aio.protocol.json_text import quote

logger: logging.Logger = logging.getLogger("sockjs_aio")

_BATCH_SIZE = 65536
_BATCH_COUNT = 1000
"""Bytes and messages of one request: servers have limits, which they do not tell."""

_TEXT = "text/plain;charset=UTF-8"
_FORM = "application/x-www-form-urlencoded"


class HttpSender:
    """The messages of one session that are not sent yet.

    A task sends them; there is one only while there are messages.

    Args:
        session: What requests are made with.
        url: Where to send.
        options: The options of the connection.
        failed: Called if something cannot be sent.
    """

    def __init__(
        self,
        session: ClientSession,
        url: URL,
        options: ClientOptions,
        failed: Callable[[TransportError], None],
    ) -> None:
        self._session = session
        self._url = url
        self._failed = failed
        self._limit = options.send_queue_limit
        self._queue: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._turn = asyncio.Lock()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: TransportError | None = None

    async def send(self, message: str) -> None:
        """Queue `message`; wait while the queue is full.

        Raises:
            TransportError: If a message before this one could not be sent.
        """
        piece = quote(message)
        async with self._turn:  # those who wait keep their order
            while self._size and self._size + len(piece) > self._limit:
                await self._wait()
            self._check()
            self._queue.append(piece)
            self._size += len(piece)
        if self._task is None:
            self._task = asyncio.create_task(self._send_all())

    async def drain(self) -> None:
        """Wait until all is sent.

        Raises:
            TransportError: If it cannot be.
        """
        while self._task is not None:
            await self._wait()
        self._check()

    async def stop(self) -> None:
        """Send nothing more, and drop the request that is on its way."""
        self._error = self._error or TransportError("the connection is closed")
        self._moved.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        self._check()
        self._moved.clear()
        await self._moved.wait()

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._post(self._batch())
                self._moved.set()
        except TransportError as error:
            self._give_up(error)
        except Exception as error:  # such as one of a middleware of the session
            logger.exception("the client cannot send to its connection over HTTP")
            self._give_up(TransportError(f"the client failed: {error!r}"))
        finally:
            self._task = None
            self._moved.set()

    def _give_up(self, error: TransportError) -> None:
        self._error = error
        self._failed(error)

    def _batch(self) -> bytes:
        """Take messages from the queue: as many as one request may have, and at least one."""
        batch = [self._queue.popleft()]
        size = len(batch[0])
        while self._queue and len(batch) < _BATCH_COUNT:
            size += len(self._queue[0]) + 1
            if size > _BATCH_SIZE:
                break
            batch.append(self._queue.popleft())
        self._size -= sum(map(len, batch))
        return b"[%b]" % b",".join(batch)

    async def _post(self, payload: bytes) -> None:
        is_form = self._url.path.endswith("/jsonp_send")
        body = b"d=" + quote_plus(payload).encode() if is_form else payload
        with failures():
            async with self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": _FORM if is_form else _TEXT},
                timeout=ClientTimeout(total=None),
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 204):
                    raise _unsent(response.status, len(body))


def _unsent(status: int, size: int) -> TransportError:
    error = refused("send", status)
    if status == 404:
        return TransportError(f"{error}: it does not know the session", status=status)
    if status == 413:
        return TransportError(f"{error}: {size} bytes are too many for it", 1009, status)
    return error

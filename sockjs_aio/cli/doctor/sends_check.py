"""Examines sends: do they reach the process with their session, and how large may they be?

They are empty arrays, with spaces in them to make them large, so the application gets no message.
"""

import asyncio
import contextlib

import aiohttp

from sockjs_aio.cli.doctor.findings import SIZE, STICKINESS, Finding
from sockjs_aio.client.address import Address, session_path
from sockjs_aio.client.http_transport import HttpTransport
from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import TransportError, failures

_COUNT = 12
"""Sends of a session.  Each has a connection of its own: a balancer may send each elsewhere."""

_SIZES = (1000, 10_000, 70_000, 500_000, 1_000_000)
"""The last one is below what a service takes by default."""


async def check_sends(
    session: aiohttp.ClientSession, address: Address, options: ClientOptions
) -> list[Finding]:
    """Open a session by polling, and send to it."""
    path = session_path()
    keeping: asyncio.Future[None] | None = None
    poll = HttpTransport("xhr", session, address, path, options)
    try:
        if (await poll.open()).kind != "o":
            return []
        # all at once: without a poll, the session lives for some seconds only, but a poll that
        # reaches another process would open the session there too
        sends = (post(session, address, path, b"[]") for _ in range(_COUNT))
        statuses = await asyncio.gather(*sends)
        missed = sum(status == 404 for status in statuses)
        if missed:
            text = f"{missed} of {_COUNT} sends did not find their session: only WebSockets work"
            return [Finding("sends", "broken", text, STICKINESS)]
        wrong = [status for status in statuses if status not in (200, 204)]
        if wrong:
            return [Finding("sends", "broken", f"the service answers sends with {wrong[0]}")]
        keeping = asyncio.ensure_future(_keep(poll))
        return [
            Finding("sends", "ok", f"all of {_COUNT} found their session"),
            await _check_sizes(session, address, path),
        ]
    except TransportError:
        return []  # the transport itself is examined too, and says it
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        await poll.abort()


async def _keep(poll: HttpTransport) -> None:
    """Go on polling, so that the session does not expire while large sends are on their way."""
    with contextlib.suppress(TransportError):
        while (await poll.receive()).kind != "c":
            pass


async def _check_sizes(session: aiohttp.ClientSession, address: Address, path: str) -> Finding:
    passed = 0
    for size in _SIZES:
        status = await post(session, address, path, b"[%b]" % (b" " * (size - 2)))
        if status not in (200, 204):
            text = f"a send of {size} bytes is refused ({status}), one of {passed} bytes is not"
            return Finding("sizes", "broken", text, SIZE)
        passed = size
    return Finding("sizes", "ok", f"sends of up to {passed} bytes pass")


async def post(session: aiohttp.ClientSession, address: Address, path: str, body: bytes) -> int:
    """Send `body` to a session; return the status.

    Raises:
        TransportError: If there is no answer.
    """
    url = address.below(f"{path}/xhr_send")
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    with failures():
        async with session.post(url, data=body, headers=headers) as response:
            return response.status

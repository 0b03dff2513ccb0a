"""The server that is soaked: `python -m tests.soak.server --port 0 '{"disconnect_delay": 5}'`.

It answers the commands of `Numbered`, broadcasts numbers to everybody, watches how its hooks are
called, and tells what it has seen in ``/stats`` and, when it has ended, on its standard output.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any, ClassVar

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from tests.soak.numbering import Sequence, Tally, large_text, number_of, text

SEND_BUFFER = 65536
"""Bytes that the kernel keeps of a connection; with its own megabytes few would get congested."""


class Numbered(SockJSConnection):
    """Answers one client.

    - ``e7 ...``: the same back, checked
    - ``pour 50000 3``: three large messages, as fast as the client takes them
    - ``flood 50000 3``: three large messages, whether the client takes them or not
    - ``last 3``: three messages and the end of the session, in one turn
    """

    everybody: ClassVar[set["Numbered"]] = set()
    opened: ClassVar[int] = 0
    closed: ClassVar[int] = 0
    ends: ClassVar[collections.Counter[str]] = collections.Counter()
    recent_ends: ClassVar[list[tuple[int, str]]] = []
    faults: ClassVar[collections.Counter[str]] = collections.Counter()
    received: ClassVar[Tally] = Tally()
    next_broadcast: ClassVar[int] = 0

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.token = 0
        self.stage = "new"
        self.is_inside = False
        self.incoming = Sequence()

    @contextlib.contextmanager
    def _alone(self, hook: str, stage: str) -> Iterator[None]:
        """Count what is wrong with a call of `hook`: the stage, or another hook that runs."""
        if self.is_inside:
            self.faults[f"{hook} while another hook runs"] += 1
        if self.stage != stage:
            self.faults[f"{hook} of a session that is {self.stage}"] += 1
        self.is_inside = True
        try:
            yield
        finally:
            self.is_inside = False

    async def on_open(self, info: ConnectionInfo) -> None:
        with self._alone("on_open", "new"):
            Numbered.opened += 1
            self.token = int(info.query["client"])
            if self.token % 5 == 0:
                await asyncio.sleep(0.01)
            self.stage = "open"
            self.everybody.add(self)
            self.send(f"w{self.next_broadcast} welcome")

    async def on_message(self, message: str | bytes) -> None:
        with self._alone("on_message", "open"):
            assert isinstance(message, str)
            if message[0] == "e":
                await self._echo(message)
            else:
                command, *arguments = message.split(" ")
                await getattr(self, f"do_{command}")(*map(int, arguments))

    async def on_close(self) -> None:
        with self._alone("on_close", "open"):
            if self.token % 7 == 0:
                await asyncio.sleep(0.01)
            self.stage = "closed"
            Numbered.closed += 1
            self.everybody.discard(self)
            self.received.add(self.incoming.finish())
            assert self.close_info is not None
            self.ends[self.close_info.initiator] += 1
            self.recent_ends.append((self.token, self.close_info.initiator))

    async def _echo(self, message: str) -> None:
        number = number_of(message)
        self.incoming.see(number, intact=message == text("e", number))
        if number % 20 == 19:
            await asyncio.sleep(0.005)
        self.send(message)

    async def do_pour(self, size: int, count: int) -> None:
        for number in range(count):
            await self.drain()
            self.send(large_text("p", number, size))

    async def do_flood(self, size: int, count: int) -> None:
        for number in range(count):
            if self.is_closed:
                break
            self.send(large_text("p", number, size))
            await asyncio.sleep(0.01)

    async def do_last(self, count: int) -> None:
        for number in range(count):
            self.send(text("l", number))
        self.close(4000, f"{count} {self.next_broadcast}")


async def broadcast_numbers(interval: float) -> None:
    """Send the next number to everybody, every `interval` seconds."""
    while True:
        await asyncio.sleep(interval)
        message = text("b", Numbered.next_broadcast)
        Numbered.next_broadcast += 1
        for connection in Numbered.everybody:
            connection.broadcast(Numbered.everybody, message)
            break


def make_app(settings: dict[str, Any], broadcast_interval: float) -> web.Application:
    router = SockJSRouter(Numbered, "/soak", settings)

    def figures() -> dict[str, Any]:
        return {
            "sessions": router.session_count,
            "tasks": len(asyncio.all_tasks()),
            "opened": Numbered.opened,
            "closed": Numbered.closed,
            "ends": dict(Numbered.ends),
            "faults": dict(Numbered.faults),
            "received": asdict(Numbered.received),
            "broadcasts": Numbered.next_broadcast,
        }

    async def stats(_request: web.Request) -> web.Response:
        return web.json_response(figures())

    async def recent_ends(_request: web.Request) -> web.Response:
        ends, Numbered.recent_ends = Numbered.recent_ends, []
        return web.json_response(ends)

    async def run(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(broadcast_numbers(broadcast_interval))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        print(json.dumps(figures()), flush=True)

    app = web.Application()
    router.attach(app)
    app.router.add_get("/stats", stats)
    app.router.add_get("/ends", recent_ends)
    app.cleanup_ctx.append(run)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broadcast-interval", type=float, default=0.25)
    parser.add_argument("settings", type=json.loads, nargs="?", default={})
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    web.run_app(
        make_app(options.settings, options.broadcast_interval),
        sock=listener,
        handler_cancellation=True,
        access_log=None,
        print=lambda *_: print(listener.getsockname()[1], flush=True),
    )


if __name__ == "__main__":
    main()

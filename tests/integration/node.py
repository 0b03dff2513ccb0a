"""A server that tells which it is, to be put behind a proxy, in a process of its own.

`python -m tests.integration.node --port 0` is that server.  SIGUSR1 has `/readyz` answer 404, and
`/health` 503; SIGTERM ends it as `run_app` does.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web
from aiohttp_remotes import XForwardedStrict, setup

from sockjs_aio import Drain, Nodes, SockJSConnection, SockJSRouter, readyz, run_app
from sockjs_aio.core.session import Session
from tests.forks import Fork, template
from tests.process import COMPLAINTS, PATIENCE
from tests.wire import Wire

ROOT = Path(__file__).parents[2]
PAGES = Path(__file__).parent / "pages"
SOCKJS_CLIENT = ROOT / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"


# The server.


class Node(SockJSConnection):
    """Echoes, and answers ``who`` with what it knows about the client and itself."""

    connections: ClassVar[list["Node"]] = []
    session: Session
    has_left = False

    async def on_open(self, info: Any) -> None:
        self.connections.append(self)

    async def on_message(self, message: str | bytes) -> None:
        if message == "who":
            message = json.dumps({"pid": os.getpid(), "ip": self.info.ip, **self.info})
        self.send(message)

    async def on_close(self) -> None:
        self.has_left = True

    @classmethod
    def sessions(cls) -> dict[str, list[str]]:
        """Tell the ids of sessions that have ended, and of those that a client waits on."""
        return {
            "closed": [each.session.id for each in cls.connections if each.has_left],
            "waiting": [
                each.session.id for each in cls.connections if each.session.has_http_writer
            ],
        }


class Visitor(Node):
    """Says at once which cookies its session came with."""

    async def on_open(self, info: Any) -> None:
        await super().on_open(info)
        self.send(json.dumps(dict(self.info.cookies)))


class Subscriber(Node):
    """Gets what is published to ``news``, from when it says so."""

    async def on_open(self, info: Any) -> None:
        await super().on_open(info)
        await self.subscribe("news")
        self.send("subscribed")


SECRET = "all nodes of this test know it"

FOREIGN = "SameSite=None; Secure; Partitioned"
"""What a cookie needs for pages of other sites where browsers block others of that kind."""

SERVICES: dict[str, tuple[type[Node], dict[str, Any]]] = {
    "/echo": (Node, {"sockjs_url": "/sockjs.min.js"}),
    "/a/b/echo": (Node, {}),
    "/beating": (Node, {"heartbeat_delay": 0.5}),
    "/short": (Node, {"sockjs_url": "/sockjs.min.js", "response_limit": 1 << 15}),
    # with the cookie that by-cookie.cfg sticks by
    "/cookie": (Node, {"sockjs_url": "/sockjs.min.js", "jsessionid": True}),
    "/foreign": (Node, {"sockjs_url": "/sockjs.min.js", "jsessionid": FOREIGN}),
    "/visitor": (Visitor, {"jsessionid": FOREIGN}),
}


@web.middleware
async def spare_lost(request: web.Request, handler: Any) -> web.StreamResponse:
    """Keep requests whose client has gone from aiohttp-remotes, which asserts that it has not."""
    if request.transport is None:
        return web.Response(status=499)
    response: web.StreamResponse = await handler(request)
    return response


@web.middleware
async def note_scheme(request: web.Request, handler: Any) -> web.StreamResponse:
    """Let connections see ``X-Forwarded-Proto``."""
    request["scheme"] = request.scheme
    response: web.StreamResponse = await handler(request)
    return response


async def send_file(path: Path, _request: web.Request) -> web.FileResponse:
    return web.FileResponse(path)


def make_routers(redis: str | None) -> list[SockJSRouter]:
    routers = [SockJSRouter(kind, prefix, more) for prefix, (kind, more) in SERVICES.items()]
    if redis is not None:
        from sockjs_aio.brokers.redis import RedisBroker

        more = {"jsessionid": True, "response_limit": 2048}
        routers.append(SockJSRouter(Subscriber, "/news", more, broker=RedisBroker(redis)))
    return routers


async def make_app(redis: str | None = None, nodes: Nodes | None = None) -> web.Application:
    async def state(_request: web.Request) -> web.Response:
        return web.json_response(Node.sessions())

    app = web.Application()
    # health checks and `state` come without the header that everybody else has
    paths = ["/readyz", "/health", "/state"]
    app.middlewares.append(spare_lost)
    await setup(app, XForwardedStrict([["127.0.0.1"]], white_paths=paths))
    app.middlewares.append(note_scheme)
    if nodes is not None:
        nodes.attach(app)
    routers = make_routers(redis)
    announce = routers[0].announce_drain  # one service is enough for `readyz`
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, announce)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/health", routers[0].health)
    app.router.add_get("/state", state)
    for path in (PAGES / "client.html", PAGES / "client.js", SOCKJS_CLIENT):
        app.router.add_get(f"/{path.name}", functools.partial(send_file, path))
    for router in routers:
        router.attach(app)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--redis", help="serve /news, with a channel on this Redis")
    parser.add_argument("--relays", action="store_true", help="find sessions by that Redis, too")
    parser.add_argument("--notice", type=float, help="seconds between SIGTERM and the drain")
    options = parser.parse_args()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", options.port))  # `run_app` has it listen
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        nodes = Nodes(options.redis, url=url, secret=SECRET) if options.relays else None
        run_app(
            make_app(options.redis, nodes),
            sock=listener,
            drain=Drain(notice=options.notice, over=0.5),
            access_log=None,
        )


# Its process.


class NodeProcess:
    """A server process: this module, or another `program`; see `main`."""

    def __init__(
        self,
        port: int = 0,
        *,
        redis: str | None = None,
        relays: bool = False,
        notice: float = 0,
        program: Path | None = None,
    ) -> None:
        self._options: dict[str, Any] = {"redis": redis, "relays": relays, "notice": notice}
        arguments = ["-m", __name__, f"--port={port}", f"--notice={notice}"]
        if redis is not None:
            arguments.append(f"--redis={redis}")
        if relays:
            arguments.append("--relays")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - stop() closes it
        self._process: Fork | subprocess.Popen[str]
        if program is None:
            self._process = template("-u").start(arguments, os.environ, self._errors)
        else:
            self._process = subprocess.Popen(
                [sys.executable, "-u", program],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )

    @functools.cached_property
    def port(self) -> int:
        """Where it listens; waits until it does."""
        assert self._process.stdout is not None
        for line in self._process.stdout:  # ends when the process does
            if match := re.search(r"http://[\d.]+:(\d+)", line):
                return int(match[1])
        raise AssertionError(f"the server did not start: status {self._process.wait()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def state(self) -> dict[str, list[str]]:
        """Ask for `Node.sessions`."""
        wire = await Wire.connect(self.port)
        try:
            return json.loads((await wire.request("GET", "/state")).body)  # type: ignore[no-any-return]
        finally:
            wire.close()

    def successor(self) -> "NodeProcess":
        """Start another one in its place, after its end."""
        return NodeProcess(self.port, **self._options)

    def announce(self) -> None:
        """Have it tell load balancers that it will end."""
        self._process.send_signal(signal.SIGUSR1)

    def stop(self, how: int = signal.SIGKILL) -> int:
        """End the process and wait until it has ended; return its exit status.

        It must not have complained of anything.
        """
        self._process.send_signal(how)
        status = self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if not self._errors.closed:
            with self._errors as file:
                file.seek(0)
                errors = file.read()
            assert not any(complaint in errors for complaint in COMPLAINTS), errors
        return status


@contextlib.contextmanager
def running_nodes(count: int = 3, **options: Any) -> Iterator[list[NodeProcess]]:
    """Run some servers; those in the list at the end are stopped."""
    nodes: list[NodeProcess] = []
    try:
        for _ in range(count):
            nodes.append(NodeProcess(**options))
        for node in nodes:
            assert node.port
        yield nodes
    finally:
        for node in nodes:
            node.stop()


if __name__ == "__main__":
    main()

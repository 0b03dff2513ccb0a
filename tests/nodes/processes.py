"""Nodes in processes of their own, and clients that send each request to another one."""

import asyncio
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import async_timeout

from tests.clients import (
    Client,
    EventSource,
    HtmlFile,
    Jsonp,
    RawWebSocket,
    WebSocket,
    Xhr,
    XhrStreaming,
)
from tests.forks import Fork, template
from tests.ports import free_port
from tests.process import COMPLAINTS, PATIENCE, ROOT
from tests.target import Target
from tests.wire import Reply, Wire

SECRET = "all nodes of this test know it"


class Node:
    """One node; what it logs is in a file.

    Args:
        options: See `tests.nodes.node`.
        folder: For its log.
        tls: What its clients trust, if it has a certificate, which other nodes with it trust.
        host: Where it listens.
        namespace: The network that it is in, if that is not this process's.
    """

    def __init__(
        self,
        options: dict[str, Any],
        folder: Path,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
    ) -> None:
        self.port = free_port()
        self.host = host
        self.tls = tls
        self._environment = dict(os.environ)
        has_certificate = "certificate" in options
        if has_certificate:
            self._environment["SSL_CERT_FILE"] = options["certificate"]
        scheme = "https" if has_certificate else "http"
        self.url = f"{scheme}://{host}:{self.port}"
        self._within = [] if namespace is None else ["ip", "netns", "exec", namespace]
        # aiohttp reads which certificates to trust when it is imported
        self._is_fork = namespace is None and not has_certificate
        options["nodes"].setdefault("url", self.url)
        self._options = json.dumps(options)
        self._log = folder / f"node-{self.port}.log"
        self.process: Fork | subprocess.Popen[str]

    def start(self) -> None:
        """Start it; again, after its end, it is another one at the same address."""
        # asyncio ends TLS in several turns, which the end of its loop does not wait for
        leftovers = ["-W", "default::ResourceWarning"] if self.tls else []
        options = ["-W", "error", *leftovers]
        arguments = ["-m", "tests.nodes.node", "--host", self.host, "--port", str(self.port)]
        arguments.append(self._options)
        with self._log.open("a") as log:
            if self._is_fork:
                self.process = template(*options).start(arguments, self._environment, log)
                return
            self.process = subprocess.Popen(
                [*self._within, sys.executable, *options, *arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def until_ready(self) -> None:
        """Wait until it serves."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.said

    @property
    def said(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    async def until_said(self, words: str) -> None:
        """Wait until it has logged something."""
        async with async_timeout.timeout(PATIENCE):
            while words not in self.said:
                await asyncio.sleep(0.01)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does; it may have ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    async def end(self) -> None:
        """End it as a deploy does."""
        self.signal(signal.SIGTERM)
        async with async_timeout.timeout(PATIENCE):
            while self.process.poll() is None:
                await asyncio.sleep(0.02)
        assert self.process.returncode == 0, self.said

    def check(self) -> None:
        """See that it has not complained of itself."""
        assert not any(word in self.said for word in COMPLAINTS), self.said

    async def ask(self, path: str) -> Reply:
        """Get a page."""
        wire = await Wire.connect(self.port, self.tls)
        try:
            return await wire.request("GET", path)
        finally:
            wire.close()

    async def stats(self) -> dict[str, Any]:
        numbers: dict[str, Any] = json.loads((await self.ask("/stats")).body)
        return numbers

    async def until(self, name: str, value: Any) -> None:
        """Wait until something of `stats` has a value."""
        async with async_timeout.timeout(PATIENCE):
            while (await self.stats())[name] != value:
                await asyncio.sleep(0.01)

    async def until_receiving(self, client: Client) -> None:
        """Wait until a request of `client`, which polls or streams, is with its session here."""
        async with async_timeout.timeout(PATIENCE):
            while True:
                reply = await self.ask("/receives?session=" + client.path.rsplit("/", 1)[1])
                if json.loads(reply.body):
                    return
                await asyncio.sleep(0.01)

    async def until_ended(self, initiator: str, count: int = 1) -> None:
        """Wait until so many sessions were ended by `initiator`."""
        async with async_timeout.timeout(PATIENCE):
            while (await self.stats())["ends"].get(initiator, 0) < count:
                await asyncio.sleep(0.01)


class Anywhere(Target):
    """Nodes behind a balancer that gives each connection to the next one."""

    def __init__(self, nodes: "list[Node]", first: int = 0) -> None:
        ports = [node.port for node in nodes]
        self._ports = itertools.cycle(ports[first:] + ports[:first])
        super().__init__(0, "/echo", tls=nodes[0].tls)

    @property
    def port(self) -> int:
        return next(self._ports)

    @port.setter
    def port(self, _value: int) -> None:
        pass


class ScatteredXhr(Xhr):
    """Asks on another connection each time, until it is told of the end."""

    async def _frame(self) -> bytes:
        reply = await self.wire.reply()
        assert reply.status == 200, reply
        self.wire.close()
        frame = self._undress(reply.body)
        if frame[:1] != b"c":
            self.wire = await self.served.wire()
            self._ask()
        return frame


class ScatteredJsonp(ScatteredXhr, Jsonp):
    """The same with scripts."""


POLLS = [ScatteredXhr, ScatteredJsonp]
STREAMS = [XhrStreaming, EventSource, HtmlFile]
HTTP = [*POLLS, *STREAMS]
ALL = [*HTTP, WebSocket, RawWebSocket]

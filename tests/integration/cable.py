"""A cable that can be cut: two network namespaces, and sockets in them.

When it is cut, packets are lost without a word, in both directions, as when a phone loses its
network; neither side's interface goes down.
"""

import asyncio
import concurrent.futures
import ctypes
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp

from tests.integration.haproxy import find_program
from tests.target import Target
from tests.wire import Wire

CLONE_NEWNET = 0x40000000

# of the network 198.18.0.0/15, which is for tests of networks
SERVER, CLIENT = "198.18.71.1", "198.18.71.2"
NOBODY = "02:00:00:00:00:99"

T = TypeVar("T")
_numbers = itertools.count()


def why_not() -> str | None:
    """Tell why there can be no cable on this machine, which has `ip`; None if there can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    name = f"sockjs-{os.getpid()}-try"
    tried = subprocess.run([_ip(), "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _run("netns", "del", name)
    return None


def _ip() -> str:
    return find_program("ip") or "ip"


def _run(*arguments: str) -> None:
    subprocess.run([_ip(), *arguments], check=True, capture_output=True)


class Cable:
    """Connects the namespaces `server` and `client`; addresses may repeat from cable to cable."""

    def __init__(self, name: str) -> None:
        self.server = f"{name}-s"
        self.client = f"{name}-c"

    def lay(self) -> None:
        _run("netns", "add", self.server)
        _run("netns", "add", self.client)
        ends = ["name", "end", "netns", self.server, "type", "veth", "peer"]
        _run("link", "add", *ends, "name", "end", "netns", self.client)
        for namespace, address in ((self.server, SERVER), (self.client, CLIENT)):
            _run("-n", namespace, "addr", "add", f"{address}/30", "dev", "end")
            _run("-n", namespace, "link", "set", "end", "up")
            _run("-n", namespace, "link", "set", "lo", "up")

    def cut(self) -> None:
        """Send all packets to an address that nobody has."""
        for namespace, other in ((self.server, CLIENT), (self.client, SERVER)):
            neighbour = ["neigh", "replace", other, "lladdr", NOBODY, "nud", "permanent"]
            _run("-n", namespace, *neighbour, "dev", "end")

    def mend(self) -> None:
        """Have packets arrive again."""
        for namespace, other in ((self.server, CLIENT), (self.client, SERVER)):
            _run("-n", namespace, "neigh", "del", other, "dev", "end")

    def remove(self) -> None:
        for namespace in (self.server, self.client):
            subprocess.run([_ip(), "netns", "del", namespace], check=False, capture_output=True)


@contextmanager
def cable() -> Iterator[Cable]:
    """Lay a cable, and remove it."""
    it = Cable(f"sockjs-{os.getpid()}-{next(_numbers)}")
    try:
        it.lay()
        yield it
    finally:
        it.remove()


def inside(namespace: str, function: Callable[[], T]) -> T:
    """Call `function` in a thread that is in `namespace`: sockets made there stay there."""

    def run() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return function()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def listening(namespace: str) -> socket.socket:
    """Make a socket that listens at the server's end."""
    return inside(namespace, lambda: socket.create_server((SERVER, 0)))


class FarTarget(Target):
    """A service at the server's end or elsewhere, seen from one of the two ends."""

    def __init__(self, namespace: str, port: int, prefix: str, host: str = SERVER) -> None:
        self.port, self.prefix = port, prefix
        self._host = host
        self.wires, self.sockets = [], []
        self._namespace = namespace
        connector = aiohttp.TCPConnector(socket_factory=lambda _: self._socket())
        self.session = aiohttp.ClientSession(connector=connector)

    def url(self, path: str = "") -> str:
        return f"http://{self._host}:{self.port}{self.prefix}{path}"

    def _socket(self) -> socket.socket:
        made = inside(self._namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made.setblocking(False)
        return made

    async def wire(self, **options: Any) -> Wire:
        assert not options, "its sockets are of another kind"
        made = self._socket()
        await asyncio.get_running_loop().sock_connect(made, (self._host, self.port))
        wire = Wire(*await asyncio.open_connection(sock=made, limit=1 << 24))
        self.wires.append(wire)
        return wire

"""Run the cluster: ``python -m examples.cluster [--host HOST] [--port PORT]``."""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import async_timeout

from examples.serving import explain, make_parser

ROOT = Path(__file__).parents[2]
NODES = ("one", "two", "three")
GRACE = 15  # seconds

# Debian installs haproxy in /usr/sbin, which may not be on your PATH
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def find(program: str, path: str = PATH) -> str:
    """Return the path of a program; exit with a message if it is not installed."""
    found = shutil.which(program, path=path)
    if found is None:
        raise SystemExit(f"{program} is not installed; on Debian: apt install {program}")
    return found


class StartFailed(Exception):
    """A process ended before it was ready; its own output says why."""


class Cluster:
    """Processes that are stopped together, in reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_serving = False
        self._watches: dict[asyncio.subprocess.Process, asyncio.Task[None]] = {}

    async def start_all(self, host: str, listener: socket.socket) -> None:
        redis, admin = self._folder / "redis", self._folder / "haproxy"
        process = await self._start(
            "redis-server",
            *(find("redis-server"), "--port", "0", "--unixsocket", redis),
            *("--save", "", "--dir", self._folder, "--logfile", "log"),
        )
        await until_listening("redis-server", process, redis)
        secret, addresses = secrets.token_hex(32), free_addresses(len(NODES))
        nodes = zip(NODES, addresses, strict=True)
        starts = (self._start_node(*node, f"unix://{redis}", secret) for node in nodes)
        await asyncio.gather(*starts)
        variables = {
            "SOCKJS_BIND": f"fd@{listener.fileno()}",
            "SOCKJS_ADMIN": str(admin),
            **dict(zip(("SOCKJS_ONE", "SOCKJS_TWO", "SOCKJS_THREE"), addresses, strict=True)),
        }
        process = await self._start(
            "haproxy",
            *(find("haproxy"), "-db", "-f", ROOT / "haproxy/common.cfg"),
            *("-f", ROOT / "haproxy/by-relay.cfg"),
            env={**os.environ, **variables},
            pass_fds=[listener.fileno()],
            stdout=asyncio.subprocess.DEVNULL,  # one line per request; failures go to stderr
        )
        await until_listening("haproxy", process, admin)
        self._is_serving = True
        port = listener.getsockname()[1]
        print(f"The chat is on http://{host}:{port}/ - Ctrl-C stops everything.", flush=True)

    async def _start_node(self, name: str, address: str, redis: str, secret: str) -> None:
        """Start a node of the chat, and wait until it serves."""
        url = f"http://{address}"
        process = await self._start(
            f"node {name}",
            *(sys.executable, "-um", "examples.chat", "--port", address.partition(":")[2]),
            *("--redis", redis, "--url", url, "--node", name),
            cwd=ROOT,
            env={**os.environ, "NODES_SECRET": secret},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async for line in process.stdout:
            if url.encode() in line:
                return
        raise StartFailed(f"node {name} did not start")

    async def _start(
        self, name: str, *command: str | Path, **options: Any
    ) -> asyncio.subprocess.Process:
        # in a new session, so that Ctrl-C reaches only this process, which stops the others
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True, **options)
        self._watches[process] = asyncio.create_task(self._watch(name, process))
        print(f"{name:12} is process {process.pid}", flush=True)
        return process

    async def _watch(self, name: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        print(f"{name:12} has ended", flush=True)

    async def end_all(self) -> None:
        for process, watch in reversed(self._watches.items()):
            watch.cancel()
            if process.returncode is None:
                # haproxy has stopped, so no client is left for whom nodes would drain on SIGTERM.
                # But a node that is still starting would answer SIGINT with a traceback.
                process.send_signal(signal.SIGINT if self._is_serving else signal.SIGTERM)
                try:
                    async with async_timeout.timeout(GRACE):
                        await process.wait()
                except asyncio.TimeoutError:
                    process.kill()
                    await process.wait()


def free_addresses(count: int) -> list[str]:
    """Find free addresses for nodes, because each must know its own before it starts."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return ["{}:{}".format(*one.getsockname()) for one in free]


async def until_listening(name: str, process: asyncio.subprocess.Process, path: Path) -> None:
    """Wait until `process` accepts connections to the socket `path`."""
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            if process.returncode is not None:
                raise StartFailed(f"{name} did not start") from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def run(options: argparse.Namespace, listener: socket.socket) -> None:
    """Run the cluster until a signal tells this process to stop."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    with tempfile.TemporaryDirectory(prefix="sockjs-") as folder:
        cluster = Cluster(Path(folder))
        starting = asyncio.ensure_future(cluster.start_all(options.host, listener))
        ending = asyncio.ensure_future(told.wait())
        try:
            await asyncio.wait([starting, ending], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting  # raises if it failed
                await ending
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await cluster.end_all()


def main() -> None:
    options = make_parser("python -m examples.cluster", "The chat on three nodes.").parse_args()
    for program in ("redis-server", "haproxy"):
        find(program)
    try:
        listener = socket.create_server((options.host, options.port))
    except OSError as error:
        raise SystemExit(explain(error, options.host, options.port)) from None
    with listener:
        try:
            asyncio.run(run(options, listener))
        except StartFailed as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

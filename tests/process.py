"""A server in a process of its own, for tests that measure it, stop it, or kill it.

`python -m tests.process --port 0 '{"disconnect_delay": 1}'` is that server.  A client tells it what
to do by its messages, see `Obedient`; `/stats` tells how it is.
"""

import argparse
import asyncio
import collections
import gc
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import async_timeout
from aiohttp import web

from sockjs_aio import ConnectionInfo, Session, SockJSConnection, SockJSRouter
from tests.forks import AsyncFork
from tests.target import Target
from tests.wire import Reply, Wire

ROOT = Path(__file__).parents[1]

PATIENCE = 20.0
"""Seconds after which what a test waits for is taken to never happen."""

COMPLAINTS = ("Traceback", "Task was destroyed", "never retrieved", "never awaited", "Unclosed")
"""What a server never prints, unless a test has asked for it."""


# The server.


class Obedient(SockJSConnection):
    """Echoes, unless the message is one of its commands."""

    everybody: ClassVar[set["Obedient"]] = set()
    opened: ClassVar[int] = 0
    ends: ClassVar[collections.Counter[str]] = collections.Counter()
    all_exit: ClassVar[asyncio.Event] = asyncio.Event()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        if "exit" in session.info.query:  # end the process, as `do_exit` does
            sys.exit(3)

    async def on_open(self, info: ConnectionInfo) -> None:
        Obedient.opened += 1
        self.everybody.add(self)

    async def on_message(self, message: str | bytes) -> None:
        command, *arguments = str(message).split(" ") or [""]
        obey = getattr(self, f"do_{command}", None)
        if obey is None:
            self.send(message)
        else:
            await obey(*arguments)

    async def on_close(self) -> None:
        self.everybody.remove(self)
        assert self.close_info is not None
        self.ends[self.close_info.initiator] += 1

    async def do_pour(self, size: str, count: str) -> None:
        """Send `count` messages of `size` bytes, one a turn, while the session lasts."""
        for _ in range(int(count)):
            if self.is_closed:
                break
            self.send("x" * int(size))
            await asyncio.sleep(0)

    async def do_noise(self, size: str, count: str) -> None:
        """Do the same with texts that hardly get smaller when they are compressed."""
        for _ in range(int(count)):
            if self.is_closed:
                break
            self.send(os.urandom(int(size) // 2).hex())
            await asyncio.sleep(0)

    async def do_queue(self, size: str, count: str) -> None:
        """Send `count` messages of `size` bytes, all in one turn of the loop."""
        for _ in range(int(count)):
            self.send("x" * int(size))

    async def do_broadcast(self, text: str) -> None:
        """Send `text` to everybody."""
        self.broadcast(self.everybody, text)

    async def do_terminate(self, count: str) -> None:
        """Send `count` numbers to everybody, and have the process end in the very same turn."""
        for number in range(int(count)):
            self.broadcast(self.everybody, str(number))
        os.kill(os.getpid(), signal.SIGTERM)

    async def do_block(self, seconds: str) -> None:
        """Hold up the event loop, as no hook should, when all polls have just been answered."""
        self.broadcast(self.everybody, "blocking")
        for _ in range(3):  # turns of the loop, for the answers to leave
            await asyncio.sleep(0)
        time.sleep(float(seconds))  # noqa: ASYNC251
        self.send("blocked")

    async def do_hang(self) -> None:
        """Wait for something that never comes."""
        await asyncio.Event().wait()

    async def do_close(self, code: str, reason: str) -> None:
        """Close the session."""
        self.close(int(code), reason)

    async def do_exit(self, when: str, turns: str = "0") -> None:
        """End the process as a program does, before the hook has waited, or after."""
        if when == "later":
            await asyncio.sleep(0)
        elif when == "together":
            await self.all_exit.wait()
            for _ in range(int(turns)):
                await asyncio.sleep(0)
        sys.exit(3)

    async def do_exit_all(self) -> None:
        """Let those end the process that wait to do it together."""
        self.all_exit.set()

    async def do_raise(self) -> None:
        """Fail as hooks do."""
        raise ZeroDivisionError("a test has asked for it")


def resident_size(pid: int | str = "self") -> int:
    """Return the resident size of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_app(settings: dict[str, Any]) -> web.Application:
    async def stats(_request: web.Request) -> web.Response:
        gc.collect()
        kept = sum(isinstance(thing, Session) for thing in gc.get_objects())
        numbers = {
            "sessions": router.session_count,
            "objects": kept,
            "tasks": len(asyncio.all_tasks()),
            "resident": resident_size(),
            "opened": Obedient.opened,
            "ends": dict(Obedient.ends),
        }
        return web.json_response(numbers)

    async def drain(request: web.Request) -> web.Response:
        await router.drain(float(request.query["over"]))
        return web.Response()

    async def count(_request: web.Request) -> web.Response:
        return web.json_response({"sessions": router.session_count})

    async def ends(_request: web.Request) -> web.Response:
        return web.json_response(Obedient.ends)

    async def say_goodbye(_app: web.Application) -> None:
        print("cleaned up", flush=True)

    app = web.Application()
    app.on_cleanup.append(say_goodbye)
    router = SockJSRouter(Obedient, "/echo", settings)
    router.attach(app)
    app.router.add_get("/stats", stats)
    app.router.add_get("/count", count)
    app.router.add_get("/ends", ends)
    app.router.add_get("/health", router.health)
    app.router.add_post("/drain", drain)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("settings", type=json.loads, nargs="?", default={})
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    loop: asyncio.AbstractEventLoop | None = None
    if options.uvloop:
        import uvloop

        loop = uvloop.new_event_loop()
    logging.basicConfig(level=logging.WARNING)
    web.run_app(
        make_app(options.settings),
        host="127.0.0.1",
        port=options.port,
        handler_cancellation=True,
        access_log=None,
        loop=loop,
        print=lambda *_: print("ready", flush=True),
    )


# Its process.


class ServerProcess(Target):
    """`python -m tests.process`, started and stopped.

    Args:
        port: Where it listens.
        process: The process.

    `errors` is what it prints to stderr, to be awaited once it has ended.
    """

    def __init__(self, port: int, process: asyncio.subprocess.Process | AsyncFork) -> None:
        super().__init__(port, "/echo")
        self.process = process
        self.errors = asyncio.ensure_future(self._read_errors())

    @classmethod
    async def start(
        cls,
        port: int,
        settings: dict[str, Any],
        *options: str,
        module: str = "tests.process",
        is_fork: bool = False,
    ) -> "ServerProcess":
        """Start a server on `port`, and wait until it listens.

        A fork starts sooner, but has memory in common with others.
        """
        python = ["-W", "error"]
        arguments = ["-m", module, "--port", str(port), json.dumps(settings), *options]
        process: asyncio.subprocess.Process | AsyncFork
        if is_fork:
            process = await AsyncFork.start(*arguments, options=python)
        else:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *python, *arguments),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        server = cls(port, process)
        assert process.stdout is not None
        try:
            async with async_timeout.timeout(PATIENCE):
                line = await process.stdout.readline()
            assert line == b"ready\n", (line, await server.errors)
        except BaseException:
            server.send_signal(signal.SIGKILL)  # nobody else knows of it
            raise
        return server

    async def _read_errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    @property
    def resident(self) -> int:
        """Its resident size, in bytes."""
        return resident_size(self.process.pid)

    @property
    def peak(self) -> int:
        """The most that `resident` has been since `reset_peak`, or its start."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    def reset_peak(self) -> None:
        """Let `peak` begin anew: see proc(5), clear_refs."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    async def stats(self) -> dict[str, Any]:
        """Ask it how it is, after a garbage collection."""
        return await self._ask("/stats")

    async def until_ended(self, initiator: str, count: int = 1) -> None:
        """Wait until `count` sessions were ended by `initiator`."""
        async with async_timeout.timeout(PATIENCE):
            while (await self._ask("/ends")).get(initiator, 0) < count:
                await asyncio.sleep(0.01)

    async def request_root(self, method: str, path: str) -> Reply:
        """Send one request to `path`, outside of the prefix."""
        wire = await Wire.connect(self.port)
        try:
            return await wire.request(method, path, b"" if method == "POST" else None)
        finally:
            wire.close()

    async def _ask(self, path: str) -> dict[str, Any]:
        reply = await self.request_root("GET", path)
        numbers: dict[str, Any] = json.loads(reply.body)
        return numbers

    async def until_empty(self) -> dict[str, Any]:
        """Wait until it has no session; return its `stats`."""
        async with async_timeout.timeout(PATIENCE):
            while (await self._ask("/count"))["sessions"]:
                await asyncio.sleep(0.02)
            return await self.stats()  # which takes a tenth of a second with 10,000 sessions

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM, *, complaints: bool = False) -> int:
        """End it by a signal; return its exit status as `ended`."""
        self.send_signal(number)
        return await self.ended(complaints=complaints)

    async def ended(self, *, complaints: bool = False) -> int:
        """Close all connections, and wait for its end; return its exit status.

        It may have complained only if `complaints` says that the test has asked for that.
        """
        await self.hang_up()
        async with async_timeout.timeout(PATIENCE):
            status = await self.process.wait()
            errors = await self.errors
        assert complaints or not any(word in errors for word in COMPLAINTS), errors
        return status


if __name__ == "__main__":
    main()

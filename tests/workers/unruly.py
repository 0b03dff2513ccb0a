"""Applications that do what they should not, for the supervisor to get along with."""

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from aiohttp import web

from sockjs_aio import Session, SockJSConnection, SockJSRouter


def note(what: str) -> None:
    """Add a line to the file that the test reads."""
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{what}\n")


class Unruly(SockJSConnection):
    """Does what its messages say."""

    exits = False
    forks = False

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.tasks: list[asyncio.Task[None]] = []

    async def exit(self) -> None:
        sys.exit(3)

    async def on_message(self, message: str | bytes) -> None:
        command, _, seconds = str(message).partition(" ")
        if command == "pid":
            self.send(str(os.getpid()))
        elif command == "wait":
            note("waits")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(float(seconds))
            note("waited")
        elif command == "block":
            note("blocks")
            time.sleep(float(seconds))  # noqa: ASYNC251
            note("blocked")
        elif command in ("fork", "c_fork"):
            fork(float(seconds), os.fork if command == "fork" else ctypes.CDLL(None).fork)
        elif command == "start":
            start(float(seconds))
        elif message == "exit now":
            note("exit")
            sys.exit(3)
        elif message == "exit in two tasks":
            note("exit")
            for _ in range(2):
                self.tasks.append(asyncio.create_task(self.exit()))
        elif message == "fork_in_on_close":
            self.forks = True
            self.send("will")
        elif message == "exit in on_close":
            note("exit")
            self.exits = True

    async def on_close(self) -> None:
        note("close")
        if self.forks:
            fork(600)
        if self.exits:
            sys.exit(3)


def fork(seconds: float, by: Callable[[], int] = os.fork) -> None:
    """Make a process that lives on for some seconds."""
    with warnings.catch_warnings():  # 3.12 warns of forks beside threads
        warnings.simplefilter("ignore")
        pid = by()
    if not pid:
        rest(seconds)
    note(f"forked {pid}")


def start(seconds: float) -> None:
    """Start a program that lives on for some seconds, as `os.system` does."""
    program = f"sleep {seconds} > /dev/null 2>&1 & echo $!"
    note(f"forked {subprocess.check_output(program, shell=True, close_fds=False).decode()}")


def rest(seconds: float) -> NoReturn:
    """Live on as a fork, like a process pool whose process was killed."""
    try:
        time.sleep(seconds)
    finally:
        os._exit(0)


async def make() -> web.Application:
    app = web.Application()
    settings = json.loads(os.environ.get("SETTINGS", "{}"))
    SockJSRouter(Unruly, "/echo", settings).attach(app)
    app.cleanup_ctx.append(database)
    app.router.add_get("/loaded", loaded)
    return app


async def make_with_pool() -> web.Application:
    """Has forked before it serves clients."""

    async def start_pool(_app: web.Application) -> None:
        fork(600)

    app = await make()
    app.on_startup.append(start_pool)
    return app


async def loaded(_request: web.Request) -> web.Response:
    return web.json_response({"pid": os.getpid()})


async def database(_app: web.Application) -> AsyncIterator[None]:
    yield
    note("cleanup")


async def make_slow_to_clean_up() -> web.Application:
    """Its loop goes on meanwhile, and then stands still."""

    async def slowly(_app: web.Application) -> None:
        await asyncio.sleep(7)
        time.sleep(4)  # noqa: ASYNC251
        note("slowly")

    app = await make()
    app.on_cleanup.append(slowly)
    return app


async def make_slow_to_stop() -> web.Application:
    """Its loop goes on when the listeners are closed."""

    async def slowly(_app: web.Application) -> None:
        note("stops")
        await asyncio.sleep(1)

    app = await make()
    app.on_shutdown.append(slowly)
    return app


async def make_slow_at_exit() -> web.Application:
    """Has the interpreter do something when it exits."""

    def slowly() -> None:
        note("exit begins")
        time.sleep(1)
        note("exit ends")

    atexit.register(slowly)
    return await make()


async def make_hanging() -> web.Application:
    """Waits for a database that never comes."""

    async def hang(_app: web.Application) -> None:
        note(f"starting {os.getpid()}")
        await asyncio.Event().wait()

    app = await make()
    app.on_startup.append(hang)
    return app


async def make_ended_at_its_start() -> web.Application:
    """A task ends the process while another one starts the application."""

    async def hang(app: web.Application) -> None:
        exiting = asyncio.create_task(leave())
        await asyncio.Event().wait()
        await exiting

    async def leave() -> None:
        sys.exit(4)

    app = await make()
    app.on_startup.append(hang)
    return app


async def make_ended_as_its_start_ends() -> web.Application:
    """The process is ended in the very turn in which the application has started."""

    async def arm(_app: web.Application) -> None:
        starting = asyncio.current_task()
        assert starting is not None
        starting.add_done_callback(lambda _: sys.exit(4))

    app = await make()
    app.on_startup.append(arm)
    return app


def make_blocked() -> web.Application:
    """Holds up the loop, as an import of much code does."""
    note(f"starting {os.getpid()}")
    time.sleep(100)
    raise AssertionError("nobody waits for it")

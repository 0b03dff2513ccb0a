"""An application whose hooks end the process at a bad moment; see test_process_exit.py.

A client says by its message at which one: see `Exiting`.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
from typing import Any, ClassVar

from aiohttp import web

from sockjs_aio import (
    ConnectionInfo,
    Drain,
    Session,
    SockJSConnection,
    SockJSRouter,
    run_app,
    tornado,
)
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.tornado.multiplex import MultiplexConnection

STATUS = 3


class Exiting(SockJSConnection):
    """Echoes, or ends the process with `STATUS` once that is what it waits for."""

    reached: ClassVar[dict[str, asyncio.Event]] = {}
    leaving: ClassVar[set["Exiting"]] = set()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        exit_if_asked("constructor", session.info.query.get("exit"))

    async def on_message(self, message: str | bytes) -> None:
        if message == "in on_close":
            self.leaving.add(self)
        elif message == "in the turn of SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
            sys.exit(STATUS)
        elif message == "now":
            sys.exit(STATUS)
        elif message == "late":
            print("late", flush=True)
        elif message == "when closed":
            self.send("waiting")
            while not self.is_closed:
                await asyncio.sleep(0)
            sys.exit(STATUS)
        elif message in self.reached:
            self.send("waiting")
            while not self.reached[str(message)].is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.reached[str(message)].wait()
            sys.exit(STATUS)
        self.send(message)

    async def on_close(self) -> None:
        if self in self.leaving:
            sys.exit(STATUS)


class ExitingChannel(tornado.SockJSConnection):
    """A channel that ends the process when it is closed, at once or after waiting."""

    how: str = ""
    to_close: ClassVar[list["ExitingChannel"]] = []

    def on_message(self, message: str) -> None:
        self.how = message.removesuffix(" in on_shutdown")
        if message != self.how:
            self.to_close.append(self)
        self.send(message)

    def on_close(self) -> Any:
        if self.how == "at once":
            sys.exit(STATUS)
        return self.later()

    async def later(self) -> None:
        await asyncio.sleep(0)
        sys.exit(STATUS)


class OtherChannel(tornado.SockJSConnection):
    """A channel that has something to do when it is closed."""

    def on_message(self, message: str) -> None:
        print(message, flush=True)

    async def on_close(self) -> None:
        await asyncio.sleep(0.02)
        print("closed", flush=True)


def exit_if_asked(where: str, asked: str | None) -> None:
    if asked == where:
        sys.exit(STATUS)


async def authorize(request: web.Request) -> bool:
    exit_if_asked("authorize", request.query.get("exit"))
    return True


def verify(request: web.Request, _info: ConnectionInfo) -> bool:
    exit_if_asked("verify", request.query.get("exit"))
    return True


def make_app(settings: dict[str, Any]) -> web.Application:
    async def on_shutdown(_app: web.Application) -> None:
        for channel in ExitingChannel.to_close:
            channel.close()
        await pass_by("in on_shutdown")

    async def on_cleanup(_app: web.Application) -> None:
        await pass_by("in on_cleanup")
        print("cleaned up", flush=True)

    app = web.Application()
    app.on_shutdown.append(on_shutdown)
    app.on_cleanup.append(on_cleanup)
    SockJSRouter(Exiting, "/echo", settings, authorize=authorize, verify=verify).attach(app)
    channels = MultiplexConnection.get(exiting=ExitingChannel, other=OtherChannel)
    tornado.SockJSRouter(channels, "/tornado").attach(app)
    return app


async def pass_by(moment: str) -> None:
    """Let hooks know of this moment, and give them a few turns of the loop for what they do."""
    Exiting.reached[moment].set()
    for _ in range(20):
        await asyncio.sleep(0.001)


async def exit_after_sigterm(turns: int, _app: web.Application) -> None:
    """Have the process ended by SIGTERM and `turns` later by an exit, without a session."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        wait(turns)

    def wait(turns: int) -> None:
        if turns:
            loop.call_soon(wait, turns - 1)
        else:
            exit_soon(SystemExit(STATUS))

    loop.call_later(0.1, end)


async def run_own(app: web.Application, port: int) -> None:
    """Serve until SIGTERM, as a program does that has a runner of its own."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    say_ready()
    try:
        await ended.wait()
    finally:
        await runner.cleanup()
        await asyncio.sleep(0.01)
        print("runner is cleaned up", flush=True)


def say_ready(*_: object) -> None:
    print("ready", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("settings", type=json.loads, nargs="?", default={})
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--run", choices=["web", "ours", "own"], default="web")
    parser.add_argument("--notice", type=float, default=0)
    parser.add_argument("--exit-after-sigterm", type=int, metavar="TURNS")
    options = parser.parse_args()
    loop: asyncio.AbstractEventLoop | None = None
    if options.uvloop:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        loop = uvloop.new_event_loop()
    for moment in ("in on_shutdown", "in on_cleanup"):
        Exiting.reached[moment] = asyncio.Event()
    app = make_app(options.settings)
    if options.exit_after_sigterm is not None:
        app.on_startup.append(functools.partial(exit_after_sigterm, options.exit_after_sigterm))
    if options.run == "own":
        asyncio.run(run_own(app, options.port))
        return
    how = {"host": "127.0.0.1", "port": options.port, "access_log": None, "print": say_ready}
    if options.run == "web":
        web.run_app(app, loop=loop, **how)
    else:
        run_app(app, loop=loop, drain=Drain(options.notice, 0, 600), **how)


if __name__ == "__main__":
    main()

"""An application that tells what kind of process it runs in, and factories that fail."""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from multiprocessing.connection import Connection
from typing import NoReturn

import async_timeout
from aiohttp import web

from sockjs_aio import Drain, SockJSConnection, SockJSRouter, run_app


class Forking(SockJSConnection):
    """Forks, and terminates the fork by the signal that a message names, if it names one."""

    async def on_message(self, message: str | bytes) -> None:
        number = getattr(signal, str(message), None)
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe(duplex=False)
        with warnings.catch_warnings():  # 3.12 warns of forks beside threads
            warnings.simplefilter("ignore")
            process = context.Process(target=wait_for_ever, args=(there,))
            process.start()
        assert process.pid is not None
        try:
            while not here.poll():
                await asyncio.sleep(0.01)
            if number is None:
                self.send(str(process.pid))
                await asyncio.Event().wait()
                return
            os.kill(process.pid, number)
            with contextlib.suppress(asyncio.TimeoutError):
                async with async_timeout.timeout(10):
                    while process.is_alive():
                        await asyncio.sleep(0.01)
            self.send(str(process.exitcode))
        finally:
            process.kill()


def wait_for_ever(there: Connection) -> NoReturn:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    there.send("ready")
    while True:
        signal.pause()


async def interpreter(_request: web.Request) -> web.Response:
    told = {
        "flags": [sys.flags.dev_mode, sys.flags.optimize, sys.flags.ignore_environment],
        "warnings": sys.warnoptions,
        "x_options": sys._xoptions,
        "path": sys.path,
        "loop": type(asyncio.get_running_loop()).__module__,
        "debug": asyncio.get_running_loop().get_debug(),
    }
    return web.json_response(told)


async def environment(_request: web.Request) -> web.Response:
    return web.json_response(dict(os.environ))


class Careless:
    def __del__(self) -> None:
        raise LookupError("in a finalizer")


async def carelessness(_request: web.Request) -> web.Response:
    """Do what Python itself complains of, on stderr."""

    def fail() -> NoReturn:
        raise ArithmeticError("in a thread")

    warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=fail, name="careless")
    thread.start()
    thread.join()
    Careless()
    return web.Response()


def make() -> web.Application:
    app = web.Application()
    SockJSRouter(Forking, "/echo").attach(app)
    app.router.add_get("/interpreter", interpreter)
    app.router.add_get("/environment", environment)
    app.router.add_get("/carelessness", carelessness)
    return app


# Factories that fail.


def make_without_variable() -> web.Application:
    return web.Application(client_max_size=int(os.environ["NOT_THERE"]))


def make_and_exit() -> web.Application:
    sys.exit("DATABASE_URL is not set")


async def make_without_database() -> web.Application:
    async def connect(_app: web.Application) -> None:
        raise ConnectionRefusedError("no database at db:5432")

    app = make()
    app.on_startup.append(connect)
    return app


def make_with_argument(config: object) -> web.Application:
    raise AssertionError(json.dumps(config))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has everybody below it ignore
    run_app(
        make(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        drain=Drain(notice=0.1, over=0.2),
        access_log=None,
    )

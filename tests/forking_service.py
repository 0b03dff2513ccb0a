"""An application that forks on purpose, and shares sockets with its forks; see test_forking.py."""

import asyncio
import contextlib
import functools
import multiprocessing
import os
import queue
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter, run_app, tornado
from tests.conftest import Echo

HELLO = b"hello"
POOL = web.AppKey("POOL", list[Any])
CONTEXT = multiprocessing.get_context("fork")


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(HELLO)


class ForkingServer(socketserver.ForkingMixIn, socketserver.TCPServer):
    """Forks for each connection."""


def answer(listener: socket.socket) -> None:
    listener.setblocking(True)
    listener.accept()[0].sendall(HELLO)


def serve(pipe: Connection) -> None:
    with ForkingServer(("127.0.0.1", 0), Handler) as server:
        pipe.send(server.server_address)
        server.serve_forever()


def repeat(pipe: Connection) -> None:
    """Answer one message with another, reading before it has come."""
    pipe.send(b"ready")
    pipe.send(pipe.recv())


def ask(address: Any) -> bytes:
    with socket.create_connection(address, 10) as asking:
        return asking.recv(100)


def forked(function: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = CONTEXT.Process(target=function, args=arguments)
    with warnings.catch_warnings():  # 3.12 warns of forks beside threads
        warnings.simplefilter("ignore")
        process.start()
    return process


def listener_for_a_fork() -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = forked(answer, listener)
        try:
            return ask(listener.getsockname())
        finally:
            process.kill()


def server_that_forks_in_a_fork() -> bytes:
    here, there = CONTEXT.Pipe()
    process = forked(serve, there)
    try:
        return ask(here.recv())
    finally:
        process.kill()


def server_that_forks_in_a_thread() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ForkingServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                return ask(server.server_address)
            finally:
                server.shutdown()


def pipe_beside_a_default_timeout() -> bytes:
    socket.setdefaulttimeout(10)
    here, there = CONTEXT.Pipe()
    process = forked(repeat, there)
    there.close()
    try:
        here.recv()
        time.sleep(0.1)  # for it to wait
        here.send(HELLO)
        received: bytes = here.recv()
        return received
    except EOFError:
        return b"nothing"
    finally:
        process.kill()
        socket.setdefaulttimeout(None)


CASES = {
    case.__name__: case
    for case in (
        listener_for_a_fork,
        server_that_forks_in_a_fork,
        server_that_forks_in_a_thread,
        pipe_beside_a_default_timeout,
    )
}


def fork_and_exit(code: str) -> int:
    """Fork; return the process's id, which has ended with a number or a text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        sys.exit(int(code) if code.isdigit() else code)
    return pid


async def status_of(pid: int) -> int:
    _, status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
    return os.waitstatus_to_exitcode(status)


class Exiting(SockJSConnection):
    """Forks, at once or after waiting, and tells with what status the process has ended."""

    async def on_open(self, info: ConnectionInfo) -> None:
        if info.query.get("forks"):
            await self.on_message(info.query["forks"])

    async def on_message(self, message: str | bytes) -> None:
        when, code = str(message).split(" ")
        if when == "later":
            await asyncio.sleep(0.001)
        self.send(str(await status_of(fork_and_exit(code))))

    async def on_close(self) -> None:
        print(os.getpid(), "closed", flush=True)


class ExitingInTornado(tornado.SockJSConnection):
    """Does so in a hook that is no coroutine function."""

    def on_message(self, message: str) -> Any:
        return self.tell(fork_and_exit(message.split(" ")[1]))

    async def tell(self, pid: int) -> None:
        self.send(str(await status_of(pid)))

    def on_close(self) -> None:
        print(os.getpid(), "closed", flush=True)


async def handle(request: web.Request) -> web.Response:
    case = CASES[request.match_info["case"]]
    return web.Response(body=await asyncio.get_running_loop().run_in_executor(None, case))


async def stop(_request: web.Request) -> web.Response:
    """Answer with the id of the process that this ends."""
    end()
    return web.json_response(os.getpid())


@functools.cache
def end() -> None:
    """End this process in a moment; only once, because a second signal would cut its end off."""
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)


def make() -> web.Application:
    app = web.Application()
    SockJSRouter(Echo, "/echo").attach(app)
    SockJSRouter(Exiting, "/exiting").attach(app)
    tornado.SockJSRouter(ExitingInTornado, "/tornado", {"verify_ip": False}).attach(app)
    app.router.add_get("/stop", stop)
    app.router.add_get("/fork/{case}", handle)
    return app


def serve_again(port: int) -> None:
    """Serve; then fork a process that serves on a listener of this one."""
    run_app(make(), host="127.0.0.1", port=port, print=None, access_log=None)
    share_a_listener()


def fail_to_clean_up(port: int) -> None:
    """Do the same, but with an application whose cleanup is cut off."""

    async def fail(_app: web.Application) -> None:
        raise LookupError

    app = make()
    app.on_cleanup.insert(0, fail)
    with contextlib.suppress(LookupError):
        run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)
    share_a_listener()


def share_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        process = forked(answer, listener)
        assert ask(listener.getsockname()) == HELLO
        process.join()


def serve_in_forks(port: int) -> None:
    """Serve by forks that share a listener, until all of them have ended."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        processes = [forked(serve_on, listener) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def serve_beside_a_pool(port: int, *, listens: bool = True) -> None:
    """Serve on a listener that is there before the application forks and starts a program."""

    async def start_pool(app: web.Application) -> None:
        app[POOL].append(forked(time.sleep, 600).pid)
        app[POOL].append(subprocess.Popen(["sleep", "600"], close_fds=False).pid)  # noqa: ASYNC220

    async def pool(request: web.Request) -> web.Response:
        return web.json_response(request.app[POOL])

    app = make()
    app[POOL] = []
    app.on_startup.append(start_pool)
    app.router.add_get("/pool", pool)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    if listens:
        listener.listen()
    listener.set_inheritable(True)  # as those that systemd passes
    run_app(app, sock=listener, print=None, access_log=None)


def serve_once_bound(port: int) -> None:
    """Do the same, but on one that does not listen yet."""
    serve_beside_a_pool(port, listens=False)


def serve_and_fork_late(port: int) -> None:
    """Fork when the listener is closed, and connections are not yet."""

    async def fork(_app: web.Application) -> None:
        forked(time.sleep, 600)  # this process waits for it when it exits

    # a handler of its own, which does not tell what module it comes from
    signal.signal(signal.SIGHUP, queue.SimpleQueue[object]().put)  # type: ignore[arg-type]
    app = make()
    app.on_shutdown.insert(0, fork)
    run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def serve_on(listener: socket.socket) -> None:
    run_app(make(), sock=listener, print=None, access_log=None)


if __name__ == "__main__":
    port, how, loop = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with contextlib.suppress(KeyboardInterrupt):
        {
            "again": serve_again,
            "failing": fail_to_clean_up,
            "forks": serve_in_forks,
            "pool": serve_beside_a_pool,
            "bound pool": serve_once_bound,
            "late": serve_and_fork_late,
        }[how](int(port))

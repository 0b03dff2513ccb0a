"""A hook that calls `sys.exit()` ends the process, and cuts no shutdown off that is under way."""

import asyncio
import contextlib
import gc
import signal
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.brokers.base import Broker
from sockjs_aio.brokers.memory import MemoryBroker
from sockjs_aio.core.events import Events, Observer
from sockjs_aio.core.loop_thread import LoopThread
from sockjs_aio.core.process_exit import AFTER, REST, TURNS, exit_soon, shutting_down
from tests import clients
from tests.conftest import Echo
from tests.exiting_service import STATUS
from tests.ports import free_port
from tests.process import PATIENCE, ServerProcess
from tests.virtual_loop import VirtualLoop
from tests.websocket_wire import HANDSHAKE

MOMENTS = ("in on_close", "when closed", "in on_shutdown", "in on_cleanup")
"""When hooks call it, in a shutdown that SIGTERM has begun."""

PROGRAMS = [
    *(["--run", how] for how in ("web", "ours", "own")),
    *(["--run", how, "--uvloop"] for how in ("web", "own")),
]
programs = pytest.mark.parametrize("options", PROGRAMS, ids=" ".join)
two = pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
Kind = type[clients.Client]


started: list[ServerProcess] = []


@pytest.fixture(autouse=True)
def no_server_is_left() -> Iterator[None]:
    """Kill the servers of a test that has failed."""
    yield
    while started:
        started.pop().send_signal(signal.SIGKILL)


async def start(options: list[str]) -> ServerProcess:
    if "--uvloop" in options:
        pytest.importorskip("uvloop")
    settings = {"shutdown_timeout": 0.1}
    server = await ServerProcess.start(
        free_port(), settings, *options, module="tests.exiting_service", is_fork=True
    )
    started.append(server)
    return server


async def printed(server: ServerProcess) -> list[bytes]:
    assert server.process.stdout is not None
    async with async_timeout.timeout(PATIENCE):
        return (await server.process.stdout.read()).splitlines()


def what_is_said(options: list[str]) -> list[bytes]:
    """Return what the program prints if its shutdown is whole."""
    return [b"cleaned up", *([b"runner is cleaned up"] if "own" in options else [])]


@pytest.mark.programs
@programs
@two
@pytest.mark.parametrize("moments", [*((x,) for x in MOMENTS), MOMENTS * 2], ids=len)
async def test_hooks_that_end_the_process_in_a_shutdown_let_it_finish(
    options: list[str], kind: Kind, moments: tuple[str, ...]
) -> None:
    server = await start(options)
    members = [await kind.open(server) for _ in moments]
    for client, moment in zip(members, moments, strict=True):
        await client.send(moment)
        await client.messages(1)
    server.send_signal(signal.SIGTERM)
    for client in members:
        await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == what_is_said(options)


@pytest.mark.programs
@pytest.mark.parametrize("options", [["--run", "web"], ["--run", "own", "--uvloop"]], ids=" ".join)
@two
@pytest.mark.parametrize("how", ["at once", "later"])
async def test_channel_of_the_tornado_adapter_that_ends_the_process_lets_others_close(
    options: list[str], kind: Kind, how: str
) -> None:
    server = await start(options)
    server.prefix = "/tornado"
    members = [await kind.open(server) for _ in range(2)]
    for client in members:
        await client.send("sub,exiting", "sub,other", f"msg,exiting,{how}")
        await client.messages(1)
    server.send_signal(signal.SIGTERM)
    for client in members:
        assert await client.frame() == b'c[1012,"Service restart"]'
        await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == [b"closed", b"closed", *what_is_said(options)]


@pytest.mark.programs
@pytest.mark.parametrize("options", [["--run", "web"], ["--run", "own", "--uvloop"]], ids=" ".join)
@pytest.mark.parametrize("how", ["at once", "later"])
async def test_channel_that_ends_the_process_when_on_shutdown_closes_it_cuts_nothing_off(
    options: list[str], how: str
) -> None:
    server = await start(options)
    server.prefix = "/tornado"
    client = await clients.WebSocket.open(server)
    await client.send("sub,exiting", "sub,other", f"msg,exiting,{how} in on_shutdown")
    await client.messages(1)
    server.send_signal(signal.SIGTERM)
    assert await client.messages(1) == ["uns,exiting"]
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == [b"closed", *what_is_said(options)]


@pytest.mark.programs
@pytest.mark.parametrize("options", [["--run", "web"], ["--run", "ours"]], ids=" ".join)
@two
@pytest.mark.parametrize("how", ["at once", "later"])
async def test_no_channel_handles_a_message_behind_an_on_close_that_ends_the_process(
    options: list[str], kind: Kind, how: str
) -> None:
    server = await start(options)
    server.prefix = "/tornado"
    client = await kind.open(server)
    await client.send("sub,exiting", "sub,other", f"msg,exiting,{how}")
    await client.messages(1)
    await client.send("uns,exiting", "sub,exiting", "msg,other,late")
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == [b"closed", *what_is_said(options)]


@pytest.mark.programs
@programs
@two
async def test_hook_may_end_the_process_in_the_turn_of_a_signal(
    options: list[str], kind: Kind
) -> None:
    server = await start(options)
    client = await kind.open(server)
    await client.send("in the turn of SIGTERM")
    await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == what_is_said(options)


@pytest.mark.programs
@programs
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_exit_just_after_a_signal_lets_a_service_without_sessions_shut_down(
    options: list[str], turns: int
) -> None:
    server = await start([*options, "--exit-after-sigterm", str(turns)])
    assert await server.ended() == STATUS
    assert await printed(server) == what_is_said(options)


@pytest.mark.programs
@programs
@pytest.mark.parametrize(
    "path",
    [
        "/websocket?exit=constructor",
        "/0/1/websocket?exit=authorize",
        "/0/1/xhr?exit=constructor",
        "/0/1/eventsource?exit=authorize",
        "/0/known/xhr?exit=verify",
        "/0/known/xhr_send?exit=verify",
    ],
)
async def test_what_ends_the_process_at_a_request_leaves_others_a_clean_end(
    options: list[str], path: str
) -> None:
    server = await start(options)
    other = await clients.WebSocket.open(server)
    opening = await server.wire()
    assert (await opening.request("POST", "/echo/0/known/xhr")).body == b"o\n"
    wires = [await server.wire() for _ in range(3)]
    for wire in wires:
        is_get = "websocket" in path or "eventsource" in path
        headers = HANDSHAKE if "websocket" in path else {}
        wire.send("GET" if is_get else "POST", server.prefix + path, headers=headers)
    assert (await wires[0].reply()).status == 503
    # `asyncio.run` cancels all tasks at once, and so cuts sessions off
    end = b"" if "own" in options else b'c[1012,"Service restart"]'
    assert await other.frame() == end
    await other.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == what_is_said(options)


@pytest.mark.programs
async def test_hook_that_ends_the_process_ends_a_drain_too() -> None:
    server = await start(["--run", "ours", "--notice", "600"])
    client = await clients.WebSocket.open(server)
    server.send_signal(signal.SIGTERM)
    await client.send("now")
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == [b"cleaned up"]


@pytest.mark.programs
@programs
@pytest.mark.parametrize("is_leaving", [False, True])
async def test_no_message_is_handled_behind_one_that_ends_the_process(
    options: list[str], is_leaving: bool
) -> None:
    server = await start(options)
    client = await clients.WebSocket.open(server)
    await client.send("now", "late")
    if is_leaving:
        client.abort()
    else:
        end = asyncio.create_task(client.frame())
        with contextlib.suppress(ConnectionError):
            while not end.done():
                await client.send("late")
                await asyncio.sleep(0.001)
        await end
        await client.leave()
    assert await server.ended() == STATUS
    assert await printed(server) == what_is_said(options)


Main = Callable[[], Coroutine[Any, Any, object]]


def statuses_of(*mains: Main, loop: asyncio.AbstractEventLoop | None = None) -> list[Any]:
    """Run `mains` in one event loop, and end it as `asyncio.run` does; return what exits said."""
    loop = loop or asyncio.new_event_loop()
    statuses: list[Any] = []
    try:
        for main in [*mains, end_all_tasks, loop.shutdown_asyncgens]:
            try:
                loop.run_until_complete(main())
            except SystemExit as error:
                statuses.append(error.code)
    finally:
        loop.close()
    return statuses


async def end_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def a_few_turns() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def shut_down(rest: float = REST) -> None:
    with shutting_down(rest):
        await a_few_turns()


def exit_with(status: int) -> None:
    exit_soon(SystemExit(status))


def exit_meanwhile(status: int) -> None:
    asyncio.get_running_loop().call_soon(exit_with, status)


def test_first_status_counts() -> None:
    async def main() -> None:
        exit_meanwhile(3)
        exit_meanwhile(4)
        await shut_down()

    assert statuses_of(main) == [3]


@pytest.mark.parametrize("pause", [0, AFTER * 2])
def test_exit_in_the_shutdown_of_an_exit_does_not_change_its_status(pause: float) -> None:
    async def main() -> None:
        exit_with(3)
        exit_with(4)
        await a_few_turns()

    async def clean_up() -> None:
        await asyncio.sleep(pause)
        exit_meanwhile(5)
        await shut_down()
        exit_with(6)
        await a_few_turns()

    assert statuses_of(main, clean_up, loop=VirtualLoop()) == [3]


def test_exits_before_the_shutdown_of_an_exit_do_not_cut_it_off() -> None:
    done: list[str] = []

    async def main() -> None:
        try:
            exit_with(3)
            await asyncio.sleep(3600)
        finally:
            for _ in range(10):  # as if it saved something first
                exit_with(4)
                await asyncio.sleep(AFTER / 11)
            await shut_down()
            done.append("shut down")

    assert (statuses_of(main, loop=VirtualLoop()), done) == ([3], ["shut down"])


def test_exit_behind_one_that_was_put_off_does_not_change_its_status() -> None:
    async def main() -> None:
        exit_meanwhile(3)
        await shut_down()
        exit_with(4)
        await a_few_turns()

    assert statuses_of(main) == [3]


def test_exit_just_before_the_program_ends_gives_it_its_status() -> None:
    async def main() -> None:
        exit_with(3)

    assert statuses_of(main) == [3]


def test_program_that_goes_on_after_an_exit_can_be_ended() -> None:
    async def main() -> None:
        exit_with(3)
        await a_few_turns()

    async def go_on() -> None:
        await shut_down()
        await asyncio.sleep(AFTER)
        exit_with(4)
        await a_few_turns()

    assert statuses_of(main, go_on, loop=VirtualLoop()) == [3, 4]


@pytest.mark.parametrize("rest", [REST, AFTER])
def test_program_that_goes_on_after_the_shutdown_of_one_service_can_be_ended(rest: float) -> None:
    loop = VirtualLoop()
    start = loop.time()

    async def main() -> None:
        await shut_down(rest)
        exit_with(3)
        await asyncio.sleep(3600)

    assert statuses_of(main, loop=loop) == [3]
    assert loop.time() - start == pytest.approx(rest)


def test_exit_waits_for_on_shutdown_and_on_cleanup_however_long_they_take() -> None:
    done: list[str] = []

    async def pause(_app: web.Application) -> None:
        exit_with(3)
        await asyncio.sleep(AFTER * 2)
        done.append("paused")

    async def main() -> None:
        app = web.Application()
        app.on_shutdown.append(pause)
        SockJSRouter(Echo).attach(app)
        app.on_shutdown.append(pause)
        app.on_cleanup.append(pause)
        runner = web.AppRunner(app)
        await runner.setup()
        await runner.cleanup()
        await asyncio.sleep(AFTER * 0.99)
        done.append("rest")

    assert (statuses_of(main, loop=VirtualLoop()), done) == ([3], ["paused"] * 3 + ["rest"])


@pytest.mark.parametrize("rest", [1, AFTER * 0.99])
def test_exit_waits_for_what_the_program_does_after_the_shutdown(rest: float) -> None:
    done: list[str] = []

    async def main() -> None:
        exit_meanwhile(3)
        await shut_down()
        await asyncio.sleep(rest)
        done.append("rest")

    assert (statuses_of(main, loop=VirtualLoop()), done) == ([3], ["rest"])


def test_exit_in_the_shutdown_of_one_service_ends_a_program_that_goes_on() -> None:
    loop = VirtualLoop()
    start = loop.time()

    async def main() -> None:
        exit_meanwhile(3)
        await shut_down()
        await asyncio.sleep(3600)

    assert statuses_of(main, loop=loop) == [3]
    assert loop.time() - start == pytest.approx(AFTER)


def test_exit_waits_for_a_shutdown_however_long_it_takes() -> None:
    done: list[str] = []

    async def main() -> None:
        with shutting_down():
            exit_meanwhile(3)
            await asyncio.sleep(9.5 * AFTER)
        await asyncio.sleep(AFTER * 0.99)
        done.append("slow")

    assert (statuses_of(main, loop=VirtualLoop()), done) == ([3], ["slow"])


def test_exit_waits_for_the_last_of_several_shutdowns() -> None:
    done: list[str] = []

    async def shut_two_down() -> None:
        await shut_down()
        await asyncio.sleep(AFTER / 2)
        with shutting_down():
            await asyncio.sleep(AFTER * 2)
            done.append("slow")

    async def main() -> None:
        exit_meanwhile(3)
        await asyncio.wait([asyncio.create_task(each()) for each in (shut_down, shut_two_down)])
        await asyncio.sleep(3600)

    assert (statuses_of(main, loop=VirtualLoop()), done) == ([3], ["slow"])


async def in_a_task() -> None:
    await asyncio.create_task(shut_down())


async def gathered() -> None:
    await asyncio.gather(shut_down(), asyncio.sleep(0))


async def shielded() -> None:
    await asyncio.shield(shut_down())


async def timed() -> None:
    await asyncio.wait_for(shut_down(), 60)


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await shut_down()


async def in_a_context() -> None:
    async with service():
        pass


async def in_a_generator() -> None:
    async def each() -> AsyncIterator[None]:
        async with service():
            pass
        yield

    await anext(each(), None)


SHAPES = [shut_down, in_a_task, gathered, shielded, timed, in_a_context, in_a_generator]


def runner_of(loop: str) -> Callable[[Coroutine[Any, Any, object]], object]:
    return asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("turns", [0, 1, TURNS, *range(99 - TURNS, 104 - TURNS), *range(99, 104)])
@pytest.mark.parametrize("shape", SHAPES)
def test_exit_lets_a_program_of_any_shape_end(shape: Main, turns: int, loop: str) -> None:
    done: list[str] = []

    def exit_after(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(exit_after, turns - 1)
        else:
            exit_with(3)

    async def other() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await a_few_turns()
            done.append("other task")

    async def main() -> None:
        exit_after(turns)
        task = asyncio.create_task(other())
        await shape()
        done.append("main" if not task.done() else "")

    with pytest.raises(SystemExit) as exited:
        runner_of(loop)(main())
    assert exited.value.code == 3
    assert done == ["main", "other task"]


async def at_once() -> None:
    """Shut nothing down."""


@pytest.mark.logs("while it ends with this error")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("shape", [*SHAPES, at_once])
def test_error_that_an_exit_hides_is_logged(
    shape: Main, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        exit_meanwhile(3)
        await asyncio.sleep(0)
        await shape()
        raise LookupError

    with pytest.raises(SystemExit, match="3"):
        runner_of(loop)(main())
    (record,) = caplog.records
    assert record.exc_info is not None and record.exc_info[0] is LookupError


@pytest.mark.logs("or handles it")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("shape", [*SHAPES, at_once])
def test_exit_counts_although_the_program_handles_an_error(shape: Main, loop: str) -> None:
    async def main() -> None:
        exit_meanwhile(3)
        await shape()
        await a_few_turns()

    try:
        raise LookupError
    except LookupError:
        with pytest.raises(SystemExit, match="3"):
            runner_of(loop)(main())


def test_rest_of_one_shutdown_is_not_shortened_by_a_later_one() -> None:
    loop = VirtualLoop()
    start = loop.time()

    async def main() -> None:
        await shut_down(AFTER)
        await shut_down()
        exit_with(3)
        await asyncio.sleep(3600)

    assert statuses_of(main, loop=loop) == [3]
    assert loop.time() - start == pytest.approx(AFTER)


@pytest.mark.parametrize("signal_name", ["on_shutdown", "on_cleanup"])
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_shutdown_that_does_not_end_keeps_no_program_from_being_ended(
    signal_name: str, how: str
) -> None:
    loop = VirtualLoop()
    start = loop.time()

    async def end(_app: web.Application) -> None:
        if how == "fails":
            raise LookupError
        await asyncio.sleep(3600)

    async def main() -> None:
        app = web.Application()
        SockJSRouter(Echo).attach(app)
        getattr(app, signal_name).append(end)
        runner = web.AppRunner(app)
        await runner.setup()
        with contextlib.suppress(LookupError, asyncio.TimeoutError):
            await asyncio.wait_for(runner.cleanup(), 1)
        exit_with(3)
        await asyncio.sleep(3600)

    assert statuses_of(main, loop=loop) == [3]
    assert loop.time() - start <= AFTER + REST + 1


def test_loop_is_not_kept_after_an_exit() -> None:
    async def main() -> None:
        exit_meanwhile(3)
        await shut_down()

    loop = asyncio.new_event_loop()
    kept = weakref.ref(loop)
    assert statuses_of(main, loop=loop) == [3]
    del loop
    gc.collect()
    assert kept() is None


def test_call_from_a_thread_that_ends_the_process_lets_a_shutdown_finish() -> None:
    done: list[BaseException | None] = []

    async def main() -> None:
        thread = LoopThread()
        thread.bind()
        exiting = thread.call(sys.exit, 3)
        await shut_down()
        done.append(exiting.exception())

    assert statuses_of(main) == [3]
    assert list(map(repr, done)) == ["SystemExit(3)"]


def test_observer_that_ends_the_process_does_so_behind_what_it_was_told_of() -> None:
    done: list[str] = []

    class Exiting(Observer):
        def broker_gap(self, broker: Broker) -> None:
            sys.exit(3)

    async def main() -> None:
        Events([Exiting()]).tell(Observer.broker_gap, MemoryBroker())
        done.append("told")
        await shut_down()
        done.append("shut down")

    assert (statuses_of(main), done) == ([3], ["told", "shut down"])


@pytest.mark.parametrize("in_one_task", [True, False])
def test_exit_while_a_router_that_is_not_attached_stops_its_broker_waits_for_the_cleanup(
    in_one_task: bool,
) -> None:
    done: list[str] = []

    class ExitingBroker(MemoryBroker):
        async def disconnect(self) -> None:
            exit_with(3)

    async def main() -> None:
        router = SockJSRouter(Echo, broker=ExitingBroker())
        app = web.Application()
        app.add_routes(router.routes)

        async def end_sessions(_app: web.Application) -> None:
            if in_one_task:
                await router.shutdown()
            else:  # as one shuts several down
                await asyncio.gather(router.shutdown())

        async def clean_up(_app: web.Application) -> None:
            await a_few_turns()
            done.append("cleaned up")

        app.on_shutdown.append(end_sessions)
        app.on_cleanup.append(clean_up)
        runner = web.AppRunner(app)
        await runner.setup()
        await router.publish("news", "x")  # starts the broker
        await runner.cleanup()

    assert (statuses_of(main), done) == ([3], ["cleaned up"])


def test_exit_outside_of_an_event_loop_is_raised() -> None:
    """As of the Tornado adapter's `session.close()` in a script."""
    with pytest.raises(SystemExit, match="3"):
        exit_soon(SystemExit(3))


def test_interrupt_ends_a_shutdown_at_once() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(exit_soon, KeyboardInterrupt())
        await shut_down()
        raise AssertionError("it was not interrupted")

    with pytest.raises(KeyboardInterrupt):
        statuses_of(main)

"""The command ``sockjs-aio bench``: what it counts, and what it says."""

import asyncio
import dataclasses
import json
import os
import pty
import signal
import sys
from typing import Any

import aiohttp
import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.cli.bench.command import main
from sockjs_aio.cli.bench.load import Load, Plan
from sockjs_aio.cli.bench.report import as_dict, as_text
from sockjs_aio.cli.bench.tally import Latencies, Numbers, Tally
from sockjs_aio.testing import TRANSPORTS
from tests.conftest import PATIENCE, Echo, Recorder, Serve, Served
from tests.ports import free_port
from tests.process import ROOT


def test_latencies_are_known_to_one_percent() -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5) == 0
    for number in range(1, 1001):
        latencies.add(number / 1000)
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.01)
    assert latencies.quantile(0.99) == pytest.approx(0.99, rel=0.01)
    assert latencies.quantile(1) <= latencies.longest == 1


def test_each_mistake_of_a_service_is_counted() -> None:
    tally = Tally()
    numbers = Numbers("t0ken", 24, tally)
    sent = [numbers.next(0) for _ in range(6)]
    assert {len(message) for message in sent} == {24}
    for message in (sent[0], sent[2], sent[1], sent[1]):
        numbers.came(message, 1)
    others: list[object] = ["hello", b"bytes"]
    for other in [sent[3][:-1] + "y", "t0ken:6:".ljust(24, "x"), "t0ken:x", *others]:
        assert not numbers.came(other, 1)
    numbers.end(has_failed=False)
    assert (tally.received, tally.lost, tally.doubled, tally.reordered) == (3, 3, 1, 1)
    assert (tally.changed, tally.others) == (3, 2)
    assert not tally.is_clean


def load_on(served: Served, **more: Any) -> Load:
    def new_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=served.tls or True))

    plan = Plan(served.url(), ("xhr",), new_session, 3, 4, size=100, seconds=60, timeout=1)
    return Load(dataclasses.replace(plan, **more))


async def run_until(load: Load, count: int) -> None:
    """Run until so many messages have come back."""
    running = asyncio.create_task(load.run())
    async with async_timeout.timeout(PATIENCE):
        while load.tally.received < count:
            await asyncio.sleep(0.001)
        load.interrupt()
        await running


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_every_message_comes_back(serve: Serve, name: str) -> None:
    load = load_on(await serve(Echo), transports=(name,))
    await run_until(load, 50)
    tally = load.tally
    assert tally.is_clean
    assert tally.sent == tally.received
    assert tally.transports == {name: 3}
    assert 0 < tally.latencies.quantile(0.5) <= tally.latencies.longest < 5


@pytest.mark.parametrize("name", ["websocket", "xhr"])
async def test_messages_that_a_service_loses_doubles_and_swaps_are_found(
    serve: Serve, name: str
) -> None:
    class Faulty(SockJSConnection):
        count = 0

        async def on_message(self, message: str) -> None:
            self.count += 1
            if self.count == 2:
                self.kept = message
            elif self.count == 4:
                self.send(message)
                self.send(self.kept)
            elif self.count == 6:
                self.send(message)
                self.send(message)
            elif self.count != 8:
                self.send(message)

    load = load_on(await serve(Faulty), transports=(name,), timeout=0.2)
    await run_until(load, 200)
    tally = load.tally
    assert (tally.lost, tally.doubled, tally.reordered, tally.cut_off) == (3, 3, 3, 0)
    assert tally.received == tally.sent - 3


async def test_sessions_that_end_are_counted_and_opened_again(serve: Serve) -> None:
    class Short(SockJSConnection):
        async def on_message(self, message: str) -> None:
            self.close(4001, "enough")

    load = load_on(await serve(Short), sessions=2, seconds=1.5)
    await load.run()
    report = as_dict(load)
    (error,) = report["errors"]
    assert (error["kind"], error["example"]) == ("closed 4001", "4001 enough")
    assert 2 < error["count"] <= load.opened
    assert (report["lost"], report["latency_ms"]) == (0, None)
    assert error["count"] <= report["cut_off"] == report["sent"] <= 4 * error["count"]
    assert f"{error['count']} × closed 4001: 4001 enough" in as_text(load)


# The command.


async def run(*arguments: str, **options: Any) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sockjs_aio", "bench", *arguments),
        cwd=ROOT,
        **{"stdout": pipe, "stderr": pipe, **options},
    )
    output, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, output.decode(), (said or b"").decode()


@pytest.mark.programs
@pytest.mark.not_over("tls", "the command would have to be told to trust the test's certificate")
class TestCommand:
    async def test_figures_are_printed_as_a_table_and_a_bar_on_a_terminal(
        self, serve: Serve
    ) -> None:
        served = await serve(Echo)
        ours, its = pty.openpty()
        status, output, _ = await run(served.url(), "--seconds", "1", stderr=its)
        os.close(its)
        shown = os.read(ours, 65536).decode()
        os.close(ours)
        assert status == 0
        rows = dict(line.split(maxsplit=1) for line in output.splitlines())
        assert rows["sessions"].startswith("10 over websocket, opened in ")
        assert rows["lost"] == rows["doubled"] == rows["reordered"] == "0"
        assert rows["latency"].startswith("p50 ")
        assert "\r[" in shown and "#" in shown and "/s" in shown
        assert shown.endswith("\r\x1b[K")

    async def test_loss_is_in_the_status(self, serve: Serve) -> None:
        class Forgetful(SockJSConnection):
            async def on_message(self, message: str) -> None:
                if ":0:" not in message:  # on a busy machine there is no second one in that time
                    self.send(message)

        served = await serve(Forgetful)
        arguments = "--seconds 0.2 --transport xhr --sessions 2 --size 24 --json"
        for timeout in ("1", "8"):
            status, output, said = await run(served.url(), "--timeout", timeout, *arguments.split())
            if "does not echo" not in said:  # on a busy machine it may not, in a second
                break
        report = json.loads(output)
        assert (status, said) == (1, "")
        assert (report["lost"], report["transports"]) == (2, {"xhr": 2})

    async def test_service_that_does_not_echo_is_left_alone(self, serve: Serve) -> None:
        class Mute(Recorder):
            pass

        served = await serve(Mute)
        status, output, said = await run(served.url(), "--timeout", "0.3")
        assert (status, output) == (2, "")
        assert said.startswith("the service does not echo: a message did not come back within")
        assert len(Mute.seen) == 3, "one session had one message"

    async def test_what_a_service_says_does_nothing_to_the_terminal(self, serve: Serve) -> None:
        class Ending(SockJSConnection):
            async def on_open(self, info: ConnectionInfo) -> None:
                self.close(4001, "\x1b]0;mine\x07")

        served = await serve(Ending)
        status, _, said = await run(served.url(), "--timeout", "2")
        assert (status, said) == (
            2,
            "the service closes the session: 4001 \\x1b]0;mine\\x07\n",
        )

    async def test_interrupt_ends_it_with_what_was_measured(self, serve: Serve) -> None:
        served = await serve(Echo)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sockjs_aio", "bench", served.url(), "--seconds", "60"),
            cwd=ROOT,
            stdout=pipe,
            stderr=pipe,
        )
        async with async_timeout.timeout(PATIENCE):
            while served.router.stats.messages_received < 100:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            output, said = await process.communicate()
        assert (process.returncode, said) == (130, b"")
        assert b"\nlost         0\n" in output


def test_mistakes_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/chat"
    for arguments, message in [
        ([nobody], "Cannot connect to host 127.0.0.1"),
        (["example.com/chat"], "write the URL of the service"),
        ([nobody, "--sessions", "0"], "'0' must be a whole number, 1 or more"),
        ([nobody, "--size", "3"], "'3' must be a whole number, 24 or more"),
        ([nobody, "--seconds", "x"], "'x' must be a number of seconds above 0"),
    ]:
        try:
            status: Any = main(arguments, "sockjs-aio")
        except SystemExit as error:
            status = error.code
        output, said = capsys.readouterr()
        assert (status, output) == (2, "")
        assert message in said.splitlines()[-1]

"""The benchmarks' load generator notices a server that loses, doubles, swaps or alters messages."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import async_timeout
import pytest
from aiohttp import web

from benchmarks.contenders import Contender, contenders
from benchmarks.run import Bench
from benchmarks.scenarios import SCENARIOS
from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from tests.conftest import PATIENCE, Echo, Serve, require

SOURCE = Path(__file__).parents[1] / "benchmarks/loadgen.c"

pytestmark = pytest.mark.not_over("tls")  # the load generator speaks plain HTTP

FAULTS = {
    "lost": "lost_message",  # what comes after it is out of order: mismatch
    "doubled": "mismatch",
    "swapped": "mismatch",
    "altered": "mismatch",
    "broken": "bad_reply",
    "closed": "lost_connection",
    "silent": "stalled",
}
"""What the server does to every 50th message, and what the load generator has to call it."""

ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # for the key that it always sends


@pytest.fixture(scope="session")
def loadgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    require(compiler, "cc")
    program = tmp_path_factory.mktemp("loadgen") / "loadgen"
    command: list[str | Path] = [
        str(compiler),
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        program,
        SOURCE,
    ]
    subprocess.run(command, check=True)
    return program


class FaultyServer:
    """Echoes SockJS over WebSockets, and makes `fault`."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault
        self.handled = 0
        self._held: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 101 \r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            writer.write(head.encode() + text_frame("o"))
            while not (self.fault == "closed" and self.handled >= 50):
                opcode, data = await read_frame(reader)
                if opcode == 8:
                    break
                for message in json.loads(data):
                    for reply in self.replies(message):
                        writer.write(text_frame(reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def replies(self, message: str) -> list[str]:
        """Return the frames to send for one message."""
        self.handled += 1
        frame = "a" + json.dumps([message])
        held, self._held = self._held, []
        if self.fault == "silent":
            return []
        if self.fault == "escaped":
            units = memoryview(message.encode("utf-16-le")).cast("H")
            return ['a["' + "".join(f"\\u{unit:04X}" for unit in units) + '"]']
        if self.handled % 50:
            return [frame, *held]
        if self.fault == "swapped":
            self._held = [frame]
            return []
        faults = {
            "lost": [],
            "doubled": [frame, frame],
            "altered": [frame.replace("G", "g")],
            "broken": [frame[:-1]],
        }
        return faults.get(self.fault or "", [frame])


def text_frame(text: str) -> bytes:
    data = text.encode()
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x81" + size + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(2)
    size = head[1] & 127
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return head[0] & 15, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


async def load(loadgen: Path, port: int, options: str) -> tuple[dict[str, Any], int]:
    """Run the load generator at a server without faults; return its result and its exit status.

    On a busy machine the server may do nothing in the measured time, or little in the time that is
    left for what is on its way: it gets more of both.
    """
    patient = f"--drain {PATIENCE} {options}"
    result, status = await load_once(loadgen, port, patient)
    if "stalled" in result:
        result, status = await load_once(loadgen, port, f"{patient} --seconds {PATIENCE / 2}")
    return result, status


async def load_once(loadgen: Path, port: int, options: str) -> tuple[dict[str, Any], int]:
    process = await asyncio.create_subprocess_exec(
        *(str(loadgen), "--port", str(port), "--seconds", "0.4", "--warmup", "0"),
        *options.split(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with async_timeout.timeout(3 * PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return json.loads(output), process.returncode


async def load_faulty(loadgen: Path, fault: str | None) -> tuple[dict[str, Any], int]:
    server = await asyncio.start_server(FaultyServer(fault).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = "--connections 2 --window 4 --batch 2 --text unicode --size 60"
    try:
        if fault in FAULTS:
            return await load_once(loadgen, port, f"--drain 1 {options}")
        return await load(loadgen, port, options)
    finally:
        server.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_is_noticed(loadgen: Path, fault: str) -> None:
    result, status = await load_faulty(loadgen, fault)
    assert result.get(FAULTS[fault], 0) > 0, result
    assert status == 1


@pytest.mark.parametrize("variant", [None, "escaped"])
async def test_faultless_server_is_not_accused(loadgen: Path, variant: str | None) -> None:
    result, status = await load_faulty(loadgen, variant)
    assert result["messages"] > 50
    assert (result["errors"], status) == (0, 0)
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    fairness = result["fairness"]
    assert fairness["fewest"] + fairness["most"] == result["messages"], "of its two sessions"


@pytest.mark.parametrize("transport", ["ws", "xhr", "xhr_streaming", "eventsource"])
async def test_each_transport_is_spoken(serve: Serve, loadgen: Path, transport: str) -> None:
    served = await serve(Echo)
    result, status = await load(
        loadgen, served.port, f"--transport {transport} --connections 4 --window 4 --batch 2"
    )
    assert status == 0, result
    assert result["messages"] > 0


@pytest.mark.parametrize("transport", ["ws", "xhr_streaming"])
async def test_sessions_come_and_go(serve: Serve, loadgen: Path, transport: str) -> None:
    served = await serve(Echo)
    options = f"--scenario connect --transport {transport} --connections 4"
    result, status = await load(loadgen, served.port, options)
    assert status == 0, result
    assert result["sessions"] > 0


async def test_idle_sessions_have_their_heartbeats(serve: Serve, loadgen: Path) -> None:
    served = await serve(Echo, settings={"heartbeat_delay": 0.1})
    options = f"--scenario idle --connections 20 --seconds 0.5 --pid {os.getpid()}"
    result, status = await load(loadgen, served.port, options)
    assert status == 0, result
    assert result["heartbeats"] >= 20
    due = result["connections"] * (result["seconds"] / 0.2 + 1)  # one at each second tick
    assert result["heartbeats"] <= due, "a ping does not count beside its heartbeat"
    assert result["server_cpu_s"] > 0
    assert result["server_rss_kb"]["open"] > 0


async def test_probe_sees_how_long_a_broadcast_holds_the_server_up(
    serve: Serve, loadgen: Path
) -> None:
    class Broadcast(SockJSConnection):
        everybody: ClassVar[set[Any]] = set()

        async def on_open(self, info: ConnectionInfo) -> None:
            self.everybody.add(self)

        async def on_message(self, message: str) -> None:
            self.broadcast(self.everybody, message)
            time.sleep(0.05)  # noqa: ASYNC251  # no echo can be faster

    app = web.Application()
    SockJSRouter(Broadcast, "/broadcast").attach(app)
    served = await serve(Echo, app=app)
    options = "--scenario broadcast --connections 10 --probe /echo"
    result, status = await load(loadgen, served.port, options)
    assert status == 0, result
    assert result["messages"] == 10 * result["broadcasts"] > 0
    assert result["longest_stall_ms"] >= 50


@pytest.mark.parametrize("contender", contenders(uvloop=False)[:2], ids=lambda x: x.name)
@pytest.mark.parametrize("name", ["ws-pingpong-64", "xhr-32", "xhr_streaming-32", "broadcast-1000"])
def test_compared_servers_answer_the_load(loadgen: Path, contender: Contender, name: str) -> None:
    (scenario,) = [x for x in SCENARIOS if x.name == name]
    for seconds in (0.3, PATIENCE / 2):  # as in `load`
        result = Bench(loadgen, seconds, warmup=0).run(contender, scenario)
        if "stalled" not in result:
            break
    assert result.get("errors") == 0, result
    figure = scenario.rows[0].figure(result)
    assert figure is not None and figure > 0

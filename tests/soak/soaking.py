"""One soak from beginning to end: start, load, pause, load again, SIGTERM."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import async_timeout

from tests.soak import links
from tests.soak.probes import Probe
from tests.soak.processes import LoadProcess, ServerProcess

SETTINGS: dict[str, Any] = {
    "disconnect_delay": 5,
    "heartbeat_delay": 5,
    "response_limit": 4096,
    "send_queue_limit": 262144,
    "shutdown_timeout": 10,
}
"""Short, so that a lot happens; not so short that a busy machine alone breaks them."""

PAUSE_PATIENCE = 120.0
"""Seconds that the load may take to end all of its sessions."""

LAST_LOAD = 5.0
"""Seconds of load between the pause and SIGTERM."""


@dataclass
class Sample:
    """How the server was at one time."""

    time: float  # seconds since the load began
    sessions: int
    tasks: int
    descriptors: int
    resident: int


@dataclass
class Result:
    """All that a soak has measured."""

    seconds: float
    start: Sample
    samples: list[Sample] = field(default_factory=list)
    latencies: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    probe_faults: list[str] = field(default_factory=list)
    end: Sample | None = None
    server: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    server_cpu: float = 0.0
    load_cpu: float = 0.0
    exit_status: int | None = None
    exit_seconds: float = 0.0
    log: str = ""


class Soak:
    """Runs the processes and takes samples.

    Args:
        seconds: How long the load runs.
        members: How many clients there are, on average.
        output: Folder for logs.
        say: Gets a line about the progress every few seconds.
    """

    def __init__(
        self, seconds: float, members: int, output: Path, say: Callable[[str], None]
    ) -> None:
        self.seconds = seconds
        self.members = members
        self.output = output
        self.say = say
        self._begin = 0.0

    async def run(self) -> Result:
        log = self.output / "server.log"
        settings = json.dumps(SETTINGS)
        server = await ServerProcess.start("tests.soak.server", "--port", "0", settings, log=log)
        load: LoadProcess | None = None
        try:
            await server.listen()
            self._begin = time.monotonic()
            result = Result(self.seconds, await self._sample(server))
            load = await LoadProcess.start(
                *("tests.soak.load", "--port", str(server.port)),
                *("--members", str(self.members), "--wave", str(max(5.0, self.seconds / 10))),
                log=self.output / "load.log",
            )
            following = asyncio.ensure_future(load.until("paused", self.seconds + PAUSE_PATIENCE))
            await self._soak(server, load, result)
            await self._pause(server, load, following, result)
            await self._stop(server, load, result)
        finally:
            await server.kill()
            if load is not None:
                await load.kill()
        result.log = log.read_text()
        return result

    async def _sample(self, server: ServerProcess) -> Sample:
        figures = await server.figures()
        return Sample(
            time.monotonic() - self._begin,
            figures["sessions"],
            figures["tasks"],
            server.descriptors,
            server.resident,
        )

    async def _soak(self, server: ServerProcess, load: LoadProcess, result: Result) -> None:
        """Take a sample each second while the load and the probes run."""
        self._begin = time.monotonic()
        probes = [Probe(kind(server.port, -1 - n)) for n, kind in enumerate(links.ALL)]
        start_cpu = server.cpu_seconds, load.cpu_seconds
        for second in range(1, round(self.seconds) + 1):
            await asyncio.sleep(max(0.0, self._begin + second - time.monotonic()))
            sample = await self._sample(server)
            result.samples.append(sample)
            if second % 10 == 0:
                self.say(f"{second:4} s: {progress(sample, load.seen)}")
        result.server_cpu = (server.cpu_seconds - start_cpu[0]) / self.seconds
        result.load_cpu = (load.cpu_seconds - start_cpu[1]) / self.seconds
        for probe in probes:
            await probe.stop()
            result.latencies[probe.link.name] = [
                (sent - self._begin, taken) for sent, taken in probe.samples
            ]
            result.probe_faults += probe.faults

    async def _pause(
        self,
        server: ServerProcess,
        load: LoadProcess,
        pausing: "asyncio.Future[None]",
        result: Result,
    ) -> None:
        """Have all sessions end; then the server has to be as it was at first."""
        self.say("all sessions end")
        load.tell("pause")
        patience = 30  # for what is left when all members know their ends
        while not pausing.done() or (result.samples[-1].sessions and patience):
            patience -= pausing.done()
            await asyncio.sleep(1)
            result.samples.append(await self._sample(server))
        await pausing
        await asyncio.sleep(1)  # what is closed by now is forgotten in the next turns
        result.end = await self._sample(server)
        result.samples.append(result.end)

    async def _stop(self, server: ServerProcess, load: LoadProcess, result: Result) -> None:
        """Load the server again, and stop it meanwhile."""
        self.say("load again, and SIGTERM")
        load.tell("resume")
        await asyncio.sleep(min(LAST_LOAD, self.seconds))
        load.tell("end")
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        async with async_timeout.timeout(60):
            result.server = await server.line()
            result.exit_status = await server.process.wait()
        result.exit_seconds = time.monotonic() - begin
        await load.until("ended", 60)
        result.load = load.seen


def progress(sample: Sample, seen: dict[str, Any]) -> str:
    """Tell in one line how it goes."""
    tallies = seen["tallies"].values()
    wrong = {key: sum(x[key] for x in tallies) for key in ("lost", "doubled", "reordered")}
    return (
        f"{sample.sessions} sessions of {seen['opened']}, "
        f"{sum(x['seen'] for x in tallies)} messages, "
        + ", ".join(f"{count} {name}" for name, count in wrong.items())
        + f", {sum(seen['faults'].values())} faults, {sample.resident / 1e6:.1f} MB, "
        f"{sample.tasks} tasks"
    )

"""The server and the load as processes, and what the system knows about them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import async_timeout

from tests.process import ROOT, resident_size
from tests.wire import Wire

AnyProcess = TypeVar("AnyProcess", bound="Process")


class Process:
    """`python -m MODULE`, which prints lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls: type[AnyProcess], module: str, *arguments: str, log: Path) -> AnyProcess:
        """Start it; `log` takes its standard error."""
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", module, *arguments),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        return cls(process)

    async def line(self) -> Any:
        """Read a line of its output; None at the end."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        return json.loads(line) if line else None

    def tell(self, command: str) -> None:
        """Write a line to its input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def kill(self) -> None:
        """See to it that nothing is left."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        return resident_size(self.process.pid)

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu_seconds(self) -> float:
        """What it has computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class LoadProcess(Process):
    """The load; `seen` is what it has told last."""

    seen: dict[str, Any] = {"opened": 0, "tallies": {}, "faults": {}}  # noqa: RUF012

    async def until(self, event: str, patience: float) -> None:
        """Read what it tells until it tells of `event`."""
        async with async_timeout.timeout(patience):
            while True:
                line = await self.line()
                assert line is not None, "the load has ended too early: see its log"
                self.seen = line
                if line["event"] == event:
                    return


class ServerProcess(Process):
    """The server."""

    port: int
    wire: Wire

    async def listen(self) -> None:
        """Wait until it listens, and connect to it for `figures`."""
        async with async_timeout.timeout(20):
            self.port = await self.line()
        self.wire = await Wire.connect(self.port)

    async def figures(self) -> dict[str, Any]:
        """Ask it what it has seen so far."""
        async with async_timeout.timeout(20):
            reply = await self.wire.request("GET", "/stats")
        figures: dict[str, Any] = json.loads(reply.body)
        return figures

"""``python -m sockjs_aio serve`` in a process of its own, which a test talks to and ends."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import async_timeout

from tests.forks import AsyncFork
from tests.process import ROOT
from tests.target import Target
from tests.wire import Wire

PATIENCE = 100.0  # where each core has ten processes to run, a worker starts for seconds

# 3.13.0 stumbles over connections that come in while the listener is closed
PYTHONS_OWN = re.compile(r"ignored in: <function _SelectorTransport.__del__ .*\nTraceback")


class Command(Target):
    """The command, with what it serves."""

    process: asyncio.subprocess.Process | AsyncFork
    said: str = ""

    @classmethod
    async def start(
        cls,
        *arguments: str,
        workers: int | None = 2,
        interpreter: tuple[str, ...] = (),
        through: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        target: str = "tests.workers.service:make",
        settings: dict[str, Any] | None = None,
        generation: Path | None = None,
        notes: Path | None = None,
        temporary: Path | None = None,
        wait: bool = True,
        is_fork: bool = True,
    ) -> "Command":
        """Start it; the supervisor may be a fork, which starts sooner.  Workers never are."""
        variables = {
            **os.environ,
            "SETTINGS": json.dumps(settings or {}),
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        if generation is not None:
            variables["GENERATION_FILE"] = str(generation)
        if temporary is not None:
            variables["TMPDIR"] = str(temporary)
        if notes is not None:
            variables["NOTES"] = str(notes)
        options = ("-X", "faulthandler", *interpreter)
        program = (
            *("-m", "sockjs_aio", "serve", target, "--port", "0"),
            *(() if workers is None else ("--workers", str(workers))),
            *("--drain-notice", "0.2", "--drain-over", "0.3", *arguments),
        )
        process: asyncio.subprocess.Process | AsyncFork
        has_path = "PYTHONPATH" in (environment or {})
        if is_fork and not (through or pass_fds or has_path):
            process = await AsyncFork.start(*program, options=options, environment=variables)
        else:
            process = await asyncio.create_subprocess_exec(
                *(*through, sys.executable, *options, *program),
                stderr=asyncio.subprocess.PIPE,
                pass_fds=pass_fds,
                env=variables,
                cwd=ROOT,
            )
        command = cls(0, "/echo")
        command.process = process
        command._reading = asyncio.create_task(command._read())  # type: ignore[attr-defined]
        if wait:
            line = await command.until_said(r"serves? http://127\.0\.0\.1:(\d+)")
            command.port = int(line[1])
        return command

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said += line.decode()

    async def until_said(self, pattern: str, count: int = 1) -> "re.Match[str]":
        """Wait until it has said something so often; return the last match."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            found = list(re.finditer(pattern, self.said))
            if len(found) >= count:
                return found[-1]
            is_late = asyncio.get_running_loop().time() > end
            if is_late or self.process.returncode is not None:
                raise AssertionError(self.said)
            await asyncio.sleep(0.01)

    @property
    def has_failed(self) -> bool:
        """Whether it has said more tracebacks than Python's own."""
        return self.said.count("Traceback") > len(PYTHONS_OWN.findall(self.said))

    async def worker_wires(self, count: int) -> dict[int, Wire]:
        """Return a connection to each of the workers, by their process ids."""
        wires: dict[int, Wire] = {}
        async with async_timeout.timeout(PATIENCE):
            while len(wires) < count:
                wire = await self.wire()
                reply = await wire.request("GET", "/loaded")
                wires.setdefault(json.loads(reply.body)["pid"], wire)
                await asyncio.sleep(0.002)  # one of them may be starting
        return wires

    async def loaded(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((await self.ask("/loaded")).body)
        return told

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with async_timeout.timeout(PATIENCE):
            status = await self.process.wait()
            await self._reading  # type: ignore[attr-defined]
        await self.hang_up()
        return status

    async def kill(self) -> None:
        """End it whatever happens; its workers notice."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        if isinstance(self.process, AsyncFork):
            self.process.close()
        await self.hang_up()

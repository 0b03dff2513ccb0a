"""One run: a new server on one CPU, the load generator on another, and what it measures."""

import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import ROOT, Contender, environment
from benchmarks.scenarios import Result, Scenario

PATIENCE = 20.0
"""Seconds that a server may take to listen; a run may take 90 seconds longer than that."""


@dataclass(frozen=True)
class Bench:
    """Makes runs.

    Args:
        loadgen: Path of the load generator's program.
        seconds: How long each run is measured.
        warmup: How long the load runs before that.
    """

    loadgen: Path
    seconds: float
    warmup: float

    def run(self, contender: Contender, scenario: Scenario) -> Result:
        """Make one run; if it fails, the result contains only ``failed``."""
        cpus = sorted(os.sched_getaffinity(0))
        port = free_port()
        server = subprocess.Popen(
            contender.start_command(port, scenario),
            cwd=ROOT,
            env=environment(contender),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=prepare(cpus[0]),
        )
        try:
            wait_until_listening(server, port)
            return self._load(contender, scenario, port, server.pid, cpus[-1])
        except (RuntimeError, ValueError, OSError, subprocess.TimeoutExpired) as error:
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            server.kill()  # a graceful shutdown may wait for sessions
            server.wait()

    def _load(
        self, contender: Contender, scenario: Scenario, port: int, pid: int, cpu: int
    ) -> Result:
        options = contender.load_options(scenario)
        assert options is not None, "only runs that have options are made"
        seconds, warmup = self.seconds, max(self.warmup, contender.warmup)
        if scenario.heartbeat is not None:
            seconds = scenario.heartbeat + 1.1  # ours come with a tick, each second
        done = subprocess.run(
            [
                *(str(self.loadgen), "--port", str(port), "--pid", str(pid)),
                *("--seconds", str(seconds), "--warmup", str(warmup), *options),
            ],
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE + 90,
            preexec_fn=prepare(cpu),
        )
        result: Result = json.loads(done.stdout)
        if done.stderr:
            result["complaints"] = done.stderr.splitlines()
        return result


def prepare(cpu: int) -> Callable[[], None]:
    """Return what a new process runs first: pin it to `cpu`, and raise its limit on open files."""

    def pin() -> None:
        os.sched_setaffinity(0, {cpu})
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return pin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            time.sleep(0.05)  # let it notice that this connection has closed
            return
    raise RuntimeError("the server did not start")

"""Which servers are compared, how each is started, and which of them are installed."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.scenarios import Scenario

ROOT = Path(__file__).parents[1]
SERVERS = ROOT / "benchmarks/servers"
PEERS = ROOT / ".venv-peers"
OURS = "sockjs-aio"
BARE = "bare aiohttp"


@dataclass(frozen=True)
class Contender:
    """A server.

    Args:
        name: For tables.
        command: Starts it; ``--port`` and perhaps ``--heartbeat`` are added.
        needs: What is there if it is installed.
        warmup: Seconds before it is measured, if it needs more than the others.
        is_bare: Whether it speaks plain WebSocket, and over HTTP what looks like SockJS.
        environment: Variables besides the present ones.
    """

    name: str
    command: tuple[str, ...]
    needs: Path
    warmup: float = 0
    is_bare: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def is_installed(self) -> bool:
        return self.needs.exists()

    def start_command(self, port: int, scenario: Scenario) -> list[str]:
        """Return the command that starts it for `scenario`."""
        command = [*self.command, "--port", str(port)]
        if scenario.heartbeat is not None and not self.is_bare:
            command += ["--heartbeat", f"{scenario.heartbeat:g}"]
        return command

    def load_options(self, scenario: Scenario) -> list[str] | None:
        """Return the load generator's options for it; None where it has nothing to compare."""
        options = scenario.options.split()
        is_broadcast = "broadcast" in options
        if not self.is_bare:
            options += ["--path", "/broadcast" if is_broadcast else "/echo"]
            return options + (["--probe", "/echo"] if scenario.probe else [])
        if "--batch" in options or "eventsource" in options:
            return None
        if "--transport" in options:
            return None if "--scenario" in options else [*options, "--path", "/echo"]
        options += ["--raw", "/broadcast" if is_broadcast else "/"]
        return options + (["--probe", "/"] if scenario.probe else [])


def contenders(uvloop: bool) -> list[Contender]:
    """Return all, installed or not; `uvloop` is for sockjs-aio and bare aiohttp."""
    python = sys.executable
    loop = ("--uvloop",) if uvloop else ()
    tornado, aiolibs = PEERS / "tornado/bin/python", PEERS / "aiolibs/bin/python"
    packages = PEERS / "node/node_modules"
    return [
        Contender(OURS, (python, "-m", "benchmarks.servers.sockjs_aio_server", *loop), ROOT),
        Contender(
            BARE, (python, "-m", "benchmarks.servers.bare_aiohttp", *loop), ROOT, is_bare=True
        ),
        Contender(
            "sockjs-node",
            ("node", str(SERVERS / "node_server.js")),
            packages / "sockjs",
            warmup=1,  # until its compiler has seen the load
            environment={"NODE_PATH": str(packages)},
        ),
        Contender("aio-libs sockjs", (str(aiolibs), str(SERVERS / "aiolibs_server.py")), aiolibs),
        Contender(
            "sockjs-tornado",
            (str(tornado), "-W", "ignore", str(SERVERS / "tornado_server.py")),
            tornado,
        ),
    ]


def environment(contender: Contender) -> dict[str, str]:
    """Return the environment to start it in."""
    return os.environ | contender.environment

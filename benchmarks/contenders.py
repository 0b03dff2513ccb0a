"""The servers that are compared, how each is started, and whether it is installed."""

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
    """A server to compare.

    Args:
        name: The name in tables.
        command: Starts the server; ``--port`` and perhaps ``--heartbeat`` are added.
        needs: A path that exists if the server is installed.
        warmup: Seconds of load before measuring, if it needs more than the other servers.
        is_bare: Whether it speaks plain WebSocket, and over HTTP only imitates SockJS.
        environment: Environment variables to add.
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
        """Return the command that starts the server for `scenario`."""
        command = [*self.command, "--port", str(port)]
        if scenario.heartbeat is not None and not self.is_bare:
            command += ["--heartbeat", f"{scenario.heartbeat:g}"]
        return command

    def load_options(self, scenario: Scenario) -> list[str] | None:
        """Return the load generator's options; None if the server cannot run `scenario`."""
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
    """Return all servers, installed or not; only sockjs-aio and bare aiohttp use `uvloop`."""
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
            warmup=1,  # until V8 has compiled the hot code
            environment={"NODE_PATH": str(packages)},
        ),
        Contender("sockjs-go", (str(PEERS / "go/server"),), PEERS / "go/server"),
        Contender("aio-libs sockjs", (str(aiolibs), str(SERVERS / "aiolibs_server.py")), aiolibs),
        Contender(
            "sockjs-tornado",
            (str(tornado), "-W", "ignore", str(SERVERS / "tornado_server.py")),
            tornado,
        ),
    ]


def environment(contender: Contender) -> dict[str, str]:
    """Return the environment to start a server in."""
    return os.environ | contender.environment

"""The real haproxy for tests, and what tests of other proxies need, too."""

import asyncio
import csv
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import async_timeout

from tests.integration.node import ROOT, NodeProcess
from tests.process import PATIENCE

CONFIGURATIONS = ROOT / "haproxy"

SERVICES = {
    "by-session": "/echo",
    "by-cookie": "/cookie",
    "by-relay": "/short",  # whose streams soon go on, perhaps at another process
}
"""Each configuration, and the service of `tests.integration.node` to use behind it."""


def documented(language: str, part: str = "") -> str:
    """Return the first block in `language` of docs/deployment.md that has `part`."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(next(block for block in blocks if part in block))


def replace(text: str, old: str, new: str) -> str:
    """Replace `old`, which `text` has to contain once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def find_program(name: str) -> str | None:
    """Return the path of `name`, also where only the administrator's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def files(configuration: str) -> list[str | Path]:
    """Return the arguments that have haproxy read one of the project's configurations."""
    return ["-f", CONFIGURATIONS / "common.cfg", "-f", CONFIGURATIONS / f"{configuration}.cfg"]


class Haproxy:
    """The real haproxy, with a configuration of the project.

    Args:
        program: Its path.
        directory: A place for its log and its socket.
        nodes: The servers; the last one is taken for those that there are too few of.
        configuration: A file of the project's, without ``.cfg``.
        certificate: A file with certificate and key, for TLS.
        env: Variables of the configuration.
    """

    def __init__(
        self,
        program: str,
        directory: Path,
        nodes: list[NodeProcess],
        configuration: str = "by-session",
        *,
        certificate: Path | None = None,
        **env: str,
    ) -> None:
        self.nodes = nodes
        self._admin = directory / "admin.sock"
        nodes = [*nodes, nodes[-1], nodes[-1]]
        tls = f" ssl crt {certificate} alpn h2,http/1.1" if certificate else ""
        # haproxy inherits a socket that listens already, so no port has to be guessed
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            variables = {
                "SOCKJS_BIND": f"fd@{listener.fileno()}{tls}",
                "SOCKJS_ONE": f"127.0.0.1:{nodes[0].port}",
                "SOCKJS_TWO": f"127.0.0.1:{nodes[1].port}",
                "SOCKJS_THREE": f"127.0.0.1:{nodes[2].port}",
                "SOCKJS_ADMIN": str(self._admin),
                **env,
            }
            with open(directory / "haproxy.log", "wb") as log:
                self._process = subprocess.Popen(
                    [program, "-db", *files(configuration)],
                    env={**os.environ, **variables},
                    pass_fds=[listener.fileno()],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        wait_until(lambda: self._admin.exists() or self._process.poll() is not None)
        assert self._process.poll() is None, (directory / "haproxy.log").read_text()

    async def command(self, line: str) -> str:
        """Give a command of the management guide; return what haproxy says."""
        return await command(self._admin, line)

    async def entries(self) -> dict[str, str]:
        """Tell to which server requests are led that are under way, by the client's address."""
        found = re.findall(r"src=(\S+) fe=clients .*?srv=(\w+)", await self.command("show sess"))
        return dict(found)

    async def until_status(self, server: str, status: str) -> None:
        """Wait until `server` is ``UP``, ``NOLB``, ``DOWN`` or ``DRAIN``."""

        async def is_so() -> bool:
            return (await self._state(server))["status"] == status

        await until(is_so)

    async def until_checked(self) -> None:
        """Wait until each server has passed a check; until then all are taken to be well."""

        async def is_so() -> bool:
            try:
                states = [await self._state(name) for name in ("one", "two", "three")]
            except ConnectionRefusedError:  # haproxy has bound its socket, but does not listen yet
                return False
            return all(state["check_status"] == "L7OK" for state in states)

        await until(is_so)

    async def _state(self, server: str) -> dict[str, str]:
        return (await states(self._admin))[server]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


async def command(admin: Path, line: str) -> str:
    """Give haproxy a command at the socket `admin`; return what it says."""
    reader, writer = await asyncio.open_unix_connection(admin)
    try:
        writer.write(line.encode() + b"\n")
        return (await reader.read()).decode()
    finally:
        writer.close()


async def states(admin: Path) -> dict[str, dict[str, str]]:
    """Ask haproxy about each server of the backend ``sessions``."""
    rows = csv.DictReader((await command(admin, "show stat")).removeprefix("# ").splitlines())
    return {row["svname"]: row for row in rows if row["pxname"] == "sessions"}


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until `is_so`, a coroutine function, returns something true."""
    async with async_timeout.timeout(PATIENCE):
        while not await is_so():
            await asyncio.sleep(0.01)


def wait_until(is_so: Callable[[], bool]) -> None:
    """As `until`, for fixtures that start something and have no event loop."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

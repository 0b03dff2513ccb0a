"""A client in a process of its own, for tests that stop it.

`python -m tests.client_process PORT TRANSPORT` says what it sees, a line each: ``open`` for each
session, ``message ...``, and ``ended`` for each connection; then it comes back.
"""

import asyncio
import contextlib
import json
import signal
import sys

import async_timeout

from tests import clients
from tests.forks import AsyncFork
from tests.process import PATIENCE
from tests.target import Target


def say(text: str) -> None:
    print(text, flush=True)


async def live(client: clients.Client) -> None:
    """Receive frames until the connection ends."""
    await client.connect()
    while frame := await client._frame():
        if frame == b"o":
            say("open")
        elif frame[:1] == b"a":
            for message in json.loads(frame[1:]):
                say(f"message {message[:20]}")
        elif frame[:1] == b"c":
            return


async def main(port: int, name: str) -> None:
    target = Target(port, "/echo")
    (kind,) = (kind for kind in clients.ALL if kind.name == name)
    while True:
        client = kind(target, {})
        client.path += f"-of-{name}"  # other processes count their sessions, too
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await live(client)
        say("ended")


class ClientProcess:
    """`python -m tests.client_process`, started, stopped and continued."""

    def __init__(self, process: AsyncFork) -> None:
        self._process = process

    @classmethod
    async def start(cls, port: int, kind: type[clients.Client]) -> "ClientProcess":
        return cls(await AsyncFork.start("-m", __name__, str(port), kind.name))

    async def until(self, text: str) -> list[str]:
        """Wait until it says `text`; return what it has said before."""
        lines: list[str] = []
        async with async_timeout.timeout(PATIENCE):
            while (line := (await self._process.stdout.readline()).decode().strip()) != text:
                assert line, lines
                lines.append(line)
        return lines

    def stop(self) -> None:
        """Have it do nothing: only its kernel answers."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))

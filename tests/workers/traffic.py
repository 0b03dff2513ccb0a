"""Users who have a service count for them, and come back whenever they are told to."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.clients import Client, Jsonp, Xhr
from tests.target import Target

RESTART = b'c[1012,"Service restart"]'
PAUSE = 0.03
FAILURES = (OSError, asyncio.IncompleteReadError, AssertionError, aiohttp.ClientError)


class PoliteXhr(Xhr):
    """Goes to another connection where this one ends, as browsers do."""

    async def _frame(self) -> bytes:
        reply = await self.wire.reply()
        assert reply.status == 200, reply
        if reply.header("Connection") == "close":
            self.wire.close()
            self.wire = await self.served.wire()
        self._ask()
        return self._undress(reply.body)


class PoliteJsonp(PoliteXhr, Jsonp):
    """The same with scripts."""


class User:
    """One user: what it gets in each of its sessions, and what it should not have met.

    Like sockjs-client it opens another session when its own was closed, and asks for another
    response, perhaps of another worker, when one has ended.
    """

    def __init__(self, served: Target, transport: type[Client]) -> None:
        self.served = served
        self.transport = transport
        self.received: dict[str, list[int]] = {}
        self.surprises: list[Any] = []
        self.is_done = False
        self.sends = 0

    def is_counted_for(self, sessions: int) -> bool:
        """Tell whether it has been in so many sessions, and has got something in the last."""
        return len(self.received) >= sessions and len(list(self.received.values())[-1]) > 20

    @property
    def state(self) -> tuple[Any, ...]:
        """What a test says if it does not go on."""
        counts = {session_id: len(got) for session_id, got in self.received.items()}
        return self.transport.name, counts, self.surprises

    async def run(self) -> None:
        """Be there until the end."""
        while not self.is_done:
            client = self.transport(self.served, {})
            try:
                await self._be_in(client)
            except FAILURES as error:
                self.surprises.append((self.transport.name, client.path, error))
                await asyncio.sleep(0.1)
            finally:
                if hasattr(client, "wire") or hasattr(client, "socket"):
                    await client.leave()

    async def _be_in(self, client: Any) -> None:
        await client.connect()
        assert await client.frame() == b"o"
        self.received[client.path[5:]] = []
        await client.send("count")
        sending = asyncio.create_task(self._talk(client))
        try:
            await self._listen(client)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _talk(self, client: Client) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            status = await client.send_payload('["talk"]')
            if status == 404:
                return  # closed: the frame that says so is on its way
            if status not in (200, 204):
                self.surprises.append((self.transport.name, client.path, status))
            self.sends += 1

    async def _listen(self, client: Any) -> None:
        got = self.received[client.path[5:]]
        while True:
            frame = await client.frame()
            if frame[:1] == b"a":
                got += [int(text) for text in json.loads(frame[1:]) if text != "talk"]
            elif frame[:1] == b"c":
                assert frame == RESTART, frame
                return
            elif frame == b"":
                assert client.is_http
                await client.connect()  # the response was full, or its worker retires

    def assert_nothing_lost(self, notes: Path) -> None:
        """Compare what was received with what was sent to the sessions that have ended."""
        assert not self.surprises, self.surprises
        sent = dict(line.split(" ") for line in notes.read_text().splitlines())
        assert self.received.keys() <= sent.keys()
        for session_id, numbers in self.received.items():
            assert numbers == list(range(int(sent[session_id]))), session_id

"""Clients that keep their connections, and number what they send over them."""

import asyncio
import json
from dataclasses import dataclass, field

from tests.target import Target
from tests.wire import Reply, Wire

ENDED = (OSError, asyncio.IncompleteReadError)

PAUSE = 0.01
"""Seconds between two rounds, in which the servers may compute: they start workers meanwhile."""


@dataclass
class Conversation:
    """One session: what was sent in it, and what came back."""

    path: str
    accepted: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    """Sent over connections that ended without an answer."""
    received: list[int] = field(default_factory=list)
    end: bytes = b""

    def complaint(self) -> str:
        """Return what was lost, doubled or in disorder; empty if nothing was."""
        sure = [number for number in self.received if number not in self.doubtful]
        wrong = sure != self.accepted[: len(sure)] or len(set(self.received)) != len(self.received)
        missing = self.accepted[len(sure) :]
        if wrong or (missing and not self.end):
            return f"{self.path}: {self.accepted} became {self.received}, {self.end!r}"
        return ""


class Talker:
    """Sends a number and polls its echo, again and again, in one or more sessions in turn.

    All share two connections, one for sends and one for polls, as a browser's tabs may.
    """

    def __init__(self, served: Target, name: str, sessions: int) -> None:
        self.served = served
        self.name = name
        self.sessions = sessions
        self.steps = 0
        self.is_done = False
        self.breaks = 0
        """How many connections ended without an answer."""
        self.refused = 0
        """How many requests got 503, as a worker was missing."""
        self.conversations: list[Conversation] = []
        self._wires: dict[str, Wire] = {}

    async def run(self) -> None:
        """Talk until `is_done`, and wait for the last echo."""
        talks = [await self._open() for _ in range(self.sessions)]
        while not self.is_done:
            for place, talk in enumerate(talks):
                self.steps += 1
                await self._send(talk, self.steps)
                await self._poll(talk)
                if talk.end:
                    talks[place] = await self._open()
            await asyncio.sleep(PAUSE)
        for wire in self._wires.values():
            wire.close()

    async def _open(self) -> Conversation:
        talk = Conversation(f"/0/{self.name}{len(self.conversations)}")
        self.conversations.append(talk)
        while True:
            reply = await self._ask("poll", talk, "xhr", b"")
            if reply is not None and reply.body == b"o\n":
                return talk
            talk.path += "x"

    async def _send(self, talk: Conversation, number: int) -> None:
        reply = await self._ask("send", talk, "xhr_send", json.dumps([str(number)]).encode())
        if reply is None:
            talk.doubtful.append(number)
        elif reply.status == 204:
            talk.accepted.append(number)
        else:
            assert reply.status == 404, reply

    async def _poll(self, talk: Conversation) -> None:
        """Poll until all echoes have come, or the session has ended."""
        while not talk.end and len(talk.received) < len(talk.accepted):
            reply = await self._ask("poll", talk, "xhr", b"")
            if reply is None:
                continue
            frame = reply.body
            if frame[:1] == b"a":
                talk.received += map(int, json.loads(frame[1:]))
            elif frame[:1] == b"c":
                talk.end = frame
            else:
                assert frame in (b"h\n", b"o\n"), reply
        if talk.end or not talk.doubtful:
            return
        # a message in doubt may come late: it must not be taken for another session's
        talk.end = b"in doubt"

    async def _ask(self, use: str, talk: Conversation, end: str, body: bytes) -> Reply | None:
        wire = self._wires.get(use)
        try:
            if wire is None:
                wire = self._wires[use] = await self.served.wire()
            reply = await wire.request("POST", f"{self.served.prefix}{talk.path}/{end}", body)
        except ENDED:
            self._wires.pop(use, None)
            self.breaks += 1
            return None
        if reply.header("Connection") == "close":
            self._wires.pop(use).close()
        if reply.status == 503:
            self.refused += 1
            return None
        return reply

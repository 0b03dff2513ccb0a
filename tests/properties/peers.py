"""Clients of sessions without a server: what they do, and what they must have seen."""

import asyncio
import collections
import json
import re
from typing import Any

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.request_session import RequestHooks, RequestSession
from sockjs_aio.core.websocket_session import InlineHooks, InlineSession
from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.protocol.ends import LOST
from sockjs_aio.protocol.framing import SOCKJS
from tests.fake_writer import FakeInfo, FakeWriter

SEND_QUEUE_LIMIT = 60_000
FOREVER = 100_000
COMMANDS = [
    "",
    "send",
    "sleep",
    "send",
    "sleep",
    "flood",
    "drain",
    "forever",
    "raise",
    "cancel",
    "close",
]
"""What a hook does; also messages that make `on_message` do it."""


class Application(SockJSConnection):
    """Does what its peer says, and notes in it which hooks are called."""

    peer: "Peer"

    async def on_open(self, info: ConnectionInfo) -> Any:
        await self.note("open", self.peer.on_open)
        return not self.peer.is_refused

    async def on_message(self, message: str) -> None:
        if self.close_info is not None and self.close_info.initiator not in ("network", "timeout"):
            self.peer.problems.append(f"{message!r} is handled after {self.close_info}")
        await self.note(message, message.split(" ")[1])

    async def on_close(self) -> None:
        if not self.is_closed or self.close_info is None:
            self.peer.problems.append("on_close and not closed")
        await self.note("close", self.peer.on_close)

    async def note(self, what: str, command: str) -> None:
        if self.peer.is_in_hook:
            self.peer.problems.append(f"{what!r} while another hook runs")
        self.peer.seen.append(what)
        self.peer.is_in_hook = True
        try:
            await self.obey(command)
        finally:
            self.peer.is_in_hook = False

    async def obey(self, command: str) -> None:
        if command == "send":
            self.peer.send(10)
        elif command == "flood":
            for _ in range(5):
                self.peer.send(20_000)
        elif command == "drain":
            self.peer.send(20_000)
            await self.drain()
        elif command == "sleep":
            await asyncio.sleep(3)
        elif command == "forever":
            await asyncio.sleep(FOREVER)
        elif command == "raise":
            raise ZeroDivisionError("asked for")
        elif command == "cancel":
            raise asyncio.CancelledError("asked for")
        elif command == "close":
            self.close(3001, "asked for")


class Peer:
    """One client and its session; `check` compares what both have seen.

    Args:
        registry: Where to open the session.
        number: Makes the session's id.
        ip: Address of the client.
        hooks: What `on_open` and `on_close` do.
        is_refused: Whether `on_open` returns False.
    """

    is_http = True

    def __init__(
        self,
        registry: SessionRegistry,
        number: int,
        ip: str,
        hooks: tuple[str, str],
        is_refused: bool,
    ) -> None:
        self.id = f"session{number}"
        self.on_open, self.on_close = hooks
        self.is_refused = is_refused
        self.is_in_hook = False
        self.problems: list[str] = []  # an assertion in a hook would be logged and forgotten
        self.seen: list[str] = []  # by the hooks
        self.sent: list[str] = []  # by the application, while the session was open
        self.offered: list[str] = []  # by the client, and accepted
        self.receivers: list[FakeWriter] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._registry = registry
        make = registry.open if self.is_http else registry.open_inline
        self.session = make(self.id, FakeInfo(ip), SOCKJS)
        self.connection = self.session.connection
        assert isinstance(self.connection, Application)
        self.connection.peer = self

    @property
    def receiver(self) -> FakeWriter | None:
        """The receiver that the session has, as far as the client knows."""
        last = self.receivers[-1] if self.receivers else None
        return last if last and last.is_alive and not last.is_released else None

    @property
    def is_found(self) -> bool:
        """Whether a request would find the session."""
        return self._registry.get(self.id) is self.session

    @property
    def _queue(self) -> RequestHooks:
        assert isinstance(self.session, RequestSession)
        return self.session.hooks

    # What the client does.

    def poll(self, limit: int | None) -> None:
        """Come with a receiver that takes `limit` frames."""
        if not self.is_found:
            return
        receiver = FakeWriter(limit=limit)
        had = self.receiver
        try:
            self.session.attach(receiver)
        except ReceiverConflictError:
            assert self.receiver is had is not None
            assert not receiver.frames
        else:
            assert had is None or had.is_released
            self.receivers.append(receiver)
            self._queue.start()

    def post(self, commands: list[str]) -> None:
        """Send messages as a request does."""
        self.tasks.append(asyncio.get_running_loop().create_task(self._post(commands)))

    async def _post(self, commands: list[str]) -> None:
        session = self.session
        if not session.is_open or not self.is_found:
            return
        async with self._queue.inbox.turn:
            messages = self.numbered(commands)
            if session.is_open and await self._queue.accept(messages, 100):
                self.offered += messages

    def numbered(self, commands: list[str]) -> list[str]:
        """Make messages of commands, each different from all others."""
        first = len(self.offered)
        return [f"{first + index} {command}" for index, command in enumerate(commands)]

    def leave(self, is_seen: bool) -> None:
        """Lose the connection; the session may have to find out."""
        receiver = self.receiver
        if receiver is not None:
            receiver.is_alive = False
            if is_seen:
                self.session.connection_lost(receiver)
                assert self.session.is_closed

    def stop_reading(self, buffered: int) -> None:
        if self.receiver is not None:
            self.receiver.is_stuck = True
            self.receiver.buffered = buffered

    def stop_answering(self) -> None:
        """Ignore pings, where there are any."""

    def go_on_reading(self) -> None:
        receiver = self.receiver
        if receiver is not None and receiver.is_stuck:
            receiver.is_stuck, receiver.buffered = False, 0
            self.session.writer_changed()

    # What the application does.

    def send(self, size: int, count: int = 1) -> None:
        for _ in range(count):
            message = f"{len(self.sent)} {'x' * size}"
            if not self.session.is_closed:
                self.sent.append(message)
            self.connection.send(message)

    def send_and_poll(self, limit: int | None) -> None:
        """Send what ends a poll, and have the next one come in the same turn of the loop."""
        receiver = self.receiver
        is_ended = receiver is not None and not receiver.is_full and receiver.left == 1
        self.send(10)
        self.poll(limit)
        if is_ended and self.is_found:
            assert receiver is not self.receiver

    def close(self) -> None:
        self.connection.close(3002, "asked for")

    # What must be true.

    def check(self) -> None:
        """Compare, once all that can happen has happened."""
        assert not self.problems
        frames = [frame for receiver in self.receivers for frame in receiver.frames]
        assert frames.count(b"o") <= 1
        assert b"o" not in frames[1:]
        received = [x for frame in frames if frame[:1] == b"a" for x in json.loads(frame[1:])]
        assert received == self.sent[: len(received)], "in order, none doubled, none left out"
        for receiver in self.receivers:
            ends = [index for index, x in enumerate(receiver.frames) if x[:1] == b"c"]
            assert ends in ([], [len(receiver.frames) - 1]), "one close frame, the last"
            assert receiver.is_released or not receiver.is_done
        self.check_hooks()
        if self.session in self._registry._sessions:
            self.check_live(received)

    def check_hooks(self) -> None:
        if not self.seen:
            return
        first, *rest = self.seen
        assert first == "open"
        if rest[-1:] == ["close"]:
            assert self.session.close_info is not None
            rest.pop()
        assert rest == self.offered[: len(rest)]

    def check_live(self, received: list[str]) -> None:
        queued = re.search(r"(\d+) bytes queued", repr(self.session))
        assert queued and int(queued[1]) <= SEND_QUEUE_LIMIT + 21_000
        receiver = self.receiver
        if receiver is not None and not receiver.is_full:
            if self.session.is_open:
                assert received == self.sent, "nothing is kept back"
            assert not self.session.is_closed or not self.is_http, "a poll gets its close frame"
        if self.is_told and self.is_closed_by_us:
            assert received == self.sent, "what was sent before comes first"

    @property
    def is_told(self) -> bool:
        """Whether a close frame has come."""
        return any(x[:1] == b"c" for receiver in self.receivers for x in receiver.frames)

    @property
    def is_closed_by_us(self) -> bool:
        """Whether the session has ended in a way that leaves its queue to be written."""
        info = self.session.close_info
        return info is not None and info.initiator in ("server", "error", "shutdown")

    def check_end(self) -> None:
        """Check what must be true when all is over."""
        self.check()
        assert self.session.is_closed
        if self.seen:
            assert self.seen[-1] == "close" and self.seen.count("close") == 1
        assert all(task.done() for task in self.tasks)

    def check_idle(self) -> None:
        """Check what must be true long after the last event."""
        self.check()
        commands = {self.on_open, self.on_close, *(x.split(" ")[1] for x in self.offered)}
        info = self.session.close_info
        if info is None or "forever" in commands:
            return
        assert not self.seen or self.seen[-1] == "close", "also if it has waited in drain()"
        harmless = {"", "send", "sleep"}
        if info.initiator in ("network", "timeout") and commands <= harmless:
            assert self.seen[1:-1] == self.offered, "all that was accepted is handled"


class WebSocketPeer(Peer):
    """A client whose session lives as long as its connection."""

    is_http = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._incoming: collections.deque[str] = collections.deque()
        self._is_leaving = self._has_left = self._has_begun = False
        self.receivers.append(FakeWriter(is_http=False, on_abort=self._cut))
        asyncio.get_running_loop().call_soon(self._begin)

    @property
    def _hooks(self) -> InlineHooks:
        assert isinstance(self.session, InlineSession)
        return self.session.hooks

    def _begin(self) -> None:
        """Do what the transport does."""
        self.session.attach(self.receivers[0])
        self._hooks.begin(self)
        self._hooks.open_now()
        self._has_begun = True
        self.process()

    def process(self) -> None:
        hooks = self._hooks
        while self._has_begun and not hooks.is_running:
            if not self._incoming or hooks.is_dropping:
                self._finish()
                return
            [message] = self.numbered([self._incoming.popleft()])
            self.offered.append(message)
            hooks.steps([message], 0.0)

    def _finish(self) -> None:
        if self._has_left or self._hooks.is_dropping:
            self._hooks.close_now()
            if not self._hooks.is_running:
                if self._has_left:
                    self.session.end_now()
                    self.receivers[0].is_alive = False
                self.session.hooks_returned()

    def _cut(self) -> None:
        if not self._is_leaving:
            self._is_leaving = True
            asyncio.get_running_loop().call_soon(self._lost)

    def _lost(self) -> None:
        self._has_left = True
        self.session.peer_failed(LOST)
        self.process()

    def poll(self, limit: int | None) -> None:
        """It has no other requests."""

    def stop_answering(self) -> None:
        self.receivers[-1].answers_probes = False

    def post(self, commands: list[str]) -> None:
        if not self._is_leaving:
            self._incoming.extend(commands)
            asyncio.get_running_loop().call_soon(self.process)

    def leave(self, is_seen: bool) -> None:
        self._cut()

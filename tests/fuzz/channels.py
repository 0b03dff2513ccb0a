"""Messages of websocket-multiplex: the channels' hooks against a model of them."""

import asyncio
from typing import Any

from sockjs_aio import ConnectionInfo, Settings, SockJSConnection
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.protocol.ends import LOST
from sockjs_aio.protocol.framing import SOCKJS
from tests.fake_writer import FakeInfo, FakeWriter
from tests.virtual_loop import VirtualLoop


class Member(SockJSConnection):
    """Echoes, closes when told so, refuses to open on the channel of that name."""

    seen: list[tuple[Any, ...]]  # by all of them

    @property
    def name(self) -> str:
        return self.session.name  # type: ignore[attr-defined, no-any-return]

    async def on_open(self, info: ConnectionInfo) -> bool:
        Member.seen.append(("open", self.name))
        return self.name != "refuses"

    async def on_message(self, message: str) -> None:
        Member.seen.append(("message", self.name, message))
        self.send(message)
        if message == "close":
            self.close()

    async def on_close(self) -> None:
        Member.seen.append(("close", self.name))


NAMES = {"a", "b c", "b%20c", "refuses"}
Carrier = MultiplexConnection.get(**{"a": Member, "b c": Member, "refuses": Member})
LOOP = VirtualLoop()
REGISTRY = SessionRegistry(Carrier, Settings(send_queue_limit=1 << 30))


def fuzz_multiplex(data: bytes) -> None:
    """One message in each line."""
    messages = data.decode("utf-8", "replace").split("\n")
    seen, sent = model(messages)
    receiver = LOOP.run_until_complete(carry(messages))
    assert Member.seen == seen
    assert b"".join(receiver.frames) == b"o" + b"".join(
        b"a[%b]" % b",".join(map(SOCKJS.encode, batch)) for batch in sent if batch
    )
    assert len(REGISTRY) == 0


class Connection:
    """Brings messages the way that a WebSocket does, and ends.

    Args:
        session: The session that carries the channels.
        messages: All that come.
    """

    def __init__(self, session: InlineSession, messages: list[str]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._session = session
        self._messages = messages[::-1]

    def begin(self) -> None:
        self._session.hooks.begin(self)
        self._session.hooks.open_now()
        self.process()

    def process(self) -> None:
        # one frame for each message's answers
        asyncio.get_running_loop().call_later(0.001, self._go_on)

    def _go_on(self) -> None:
        hooks = self._session.hooks
        if hooks.is_running or self.ended.done():
            return
        if self._messages:
            hooks.steps([self._messages.pop()], 0.0)
        else:
            self._session.peer_failed(LOST)
            hooks.close_now()
        if hooks.is_running:
            return
        if self._session.is_closed:
            self._session.end_now()
            self._session.hooks_returned()
            self.ended.set_result(None)
        else:
            self.process()


async def carry(messages: list[str]) -> FakeWriter:
    """Bring `messages`, and end."""
    Member.seen = []
    receiver = FakeWriter(is_http=False)
    session = REGISTRY.open_inline("id", FakeInfo(), SOCKJS)
    session.attach(receiver)
    connection = Connection(session, messages)
    asyncio.get_running_loop().call_soon(connection.begin)
    await connection.ended
    await asyncio.sleep(0.001)
    return receiver


def model(messages: list[str]) -> tuple[list[tuple[Any, ...]], list[list[str]]]:
    """Return which hooks are called, and what is sent for each of the messages."""
    seen: list[tuple[Any, ...]] = []
    sent: list[list[str]] = []
    subscribed: list[str] = []
    for message in messages:
        verb, name, data = [*message.split(",", 2), "", ""][:3]
        answers: list[str] = []
        is_over = False
        if verb == "sub" and name in NAMES and name not in subscribed:
            subscribed.append(name)
            seen.append(("open", name))
            is_over = name == "refuses"
        elif verb == "msg" and message.count(",") >= 2 and name in subscribed:
            seen.append(("message", name, data))
            answers.append(f"msg,{name},{data}")
            is_over = data == "close"
        elif verb == "uns" and name in subscribed:
            subscribed.remove(name)
            seen.append(("close", name))
        if is_over:
            answers.append(f"uns,{name}")
            subscribed.remove(name)
            seen.append(("close", name))
        sent.append(answers)
    return seen + [("close", name) for name in subscribed], sent

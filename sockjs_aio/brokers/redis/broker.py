"""The broker for several processes.  It needs redis-py: ``pip install 'sockjs-aio[redis]'``."""

import contextlib
import functools
import itertools
import logging
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

try:
    from sockjs_aio.brokers.redis.link import Link
    from sockjs_aio.brokers.redis.server import Server
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "RedisBroker needs redis: pip install 'sockjs-aio[redis]'"
    ) from _error
from sockjs_aio.brokers.base import Broker, State
from sockjs_aio.brokers.checks import check_delay, check_prefix, check_size
from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.gap_notices import GapNotices
from sockjs_aio.brokers.redis.payload import (
    MAX_LABEL,
    CloseOrder,
    GapNotice,
    PayloadError,
    Reader,
    make_close_label,
    make_gap_notice,
    make_label,
    pack,
)
from sockjs_aio.brokers.redis.presence import Presence, members_question
from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.errors import BrokerUnavailableError, SettingsError

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")

Policy: TypeAlias = Literal["raise", "drop"]


@dataclass(frozen=True)
class _Work:
    """What exists between `connect` and `disconnect`."""

    node: str
    reader: Reader
    presence: Presence
    notices: GapNotices
    link: Link
    claims: dict[str, tuple[int, list[SockJSConnection]]]
    """For each channel, the last order that keeps sessions, and these, until Redis has sent the
    order back.  Orders that come before that are older, and do not concern these sessions."""


class RedisBroker(Broker):
    """Carries messages and members between all processes that use the same Redis and `prefix`.

    A process has two connections to Redis, and one subscription for each channel, no matter how
    many sessions it has.  A message that you publish is delivered to this process's sessions at
    once, and sent to Redis for the other processes.

    If no router has started the broker, `publish` and `members` connect for each call.  To stay
    connected, use ``async with RedisBroker(url) as broker:``.

    Args:
        url: A URL for redis-py, such as ``redis://:password@host:6379``, ``rediss://`` for TLS, or
            ``unix:///path``.  With Sentinel: ``redis+sentinel://host:26379,host:26379/service``.
        prefix: The beginning of the names of channels and keys in Redis.
        on_unavailable: What `publish` and `members` do when Redis does not answer.  ``"drop"``
            drops the message for other processes, and returns only this process's members.
            ``"raise"`` raises `BrokerUnavailableError`; if a hook does not catch it, its session
            is closed.
        timeout: After this many seconds without an answer from Redis, close the connections.
        max_retry_delay: The longest delay between two attempts to connect, in seconds.
        member_expiry: Seconds after which the members of a dead process disappear.  Use the same
            value in all processes.
        publish_queue_limit: Bytes that may wait for Redis.  Above it, Redis counts as unavailable.
        max_message_size: Bytes of a message in UTF-8, in both directions.
        max_channels: How many channels one session may be subscribed to at a time.

    Raises:
        SettingsError: If an argument is not valid.
    """

    refused: int = 0
    """How many messages from Redis were too large or not readable."""
    dropped: int = 0
    """How many published messages may not have reached other processes."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "sockjs:",
        on_unavailable: Policy = "drop",
        timeout: float = 4,
        max_retry_delay: float = 5,
        member_expiry: float = 15,
        publish_queue_limit: int = 8 << 20,
        max_message_size: int = 1 << 20,
        max_channels: int = 1000,
    ) -> None:
        super().__init__(max_message_size=max_message_size, max_channels=max_channels)
        check_size("publish_queue_limit", publish_queue_limit)
        for name, value in (
            ("timeout", timeout),
            ("max_retry_delay", max_retry_delay),
            ("member_expiry", member_expiry),
        ):
            check_delay(name, value)
        if on_unavailable not in ("raise", "drop"):
            raise SettingsError(
                f'on_unavailable={on_unavailable!r} is not valid: it must be "raise" or "drop"'
            )
        check_prefix(prefix)
        self._prefix = prefix
        self._on_unavailable = on_unavailable
        self._timeout = timeout
        self._max_retry_delay = max_retry_delay
        self.member_expiry: float | None = member_expiry
        self._member_expiry = member_expiry
        self._queue_limit = publish_queue_limit
        self._rate_limited = RateLimitedLog(logger)
        try:
            # a replica refuses this, even if the key does not exist
            self._server = Server(url, timeout, probe=("DEL", f"{prefix}probe"))
        except ValueError as error:
            raise SettingsError(f"the Redis URL is not valid: {error}") from None
        self._work: _Work | None = None
        self._claim_numbers = itertools.count(1)
        # its names from earlier starts: what they have sent may come back only now
        self._former: deque[str] = deque(maxlen=10)

    async def __aenter__(self) -> "RedisBroker":
        self.start(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop(self)

    @property
    def state(self) -> State:
        """``"stopped"``, ``"connecting"`` at first, ``"connected"`` or ``"reconnecting"``.

        ``"degraded"`` if it is connected but Redis refuses some channels.
        """
        return self._work.link.state if self._work else "stopped"

    async def members(self, channel: str) -> set[str]:
        """See `Broker`.  Without Redis, return this process's members or raise, as you chose."""
        try:
            return await super().members(channel)
        except BrokerUnavailableError as error:
            if self._on_unavailable == "raise":
                raise
            self._rate_limited.warn(
                "asked", "channel %r: members in other processes are unknown: %s", channel, error
            )
            return self.local_members(channel)

    # The contract.

    def connect(self) -> None:
        """See `Broker`."""
        node = secrets.token_hex(8)
        presence = Presence(
            node,
            self,
            prefix=self._prefix,
            expiry=self._member_expiry,
            rate_limited=self._rate_limited,
        )
        notices = GapNotices(self.end_gap, self._gap_notice, self._max_retry_delay)
        link = Link(
            self._server,
            f"{self._prefix}\0{node}".encode(),  # no channel's name has a NUL
            functools.partial(self._receive, node),
            serve=(presence.keep, notices.keep),
            lost=self._count_gap,
            found=lambda name: self.end_gap(self._channel(name)),
            timeout=self._timeout,
            max_retry_delay=self._max_retry_delay,
            queue_limit=self._queue_limit,
            rate_limited=self._rate_limited,
        )
        self._work = _Work(node, Reader(node, self._former), presence, notices, link, {})
        self._former.append(node)
        for channel in self.channels:
            self.listen(channel)

    async def disconnect(self) -> None:
        """See `Broker`."""
        work, self._work = self._work, None
        if work is not None:
            await work.link.stop(work.presence.clear)

    def listen(self, channel: str) -> None:
        """See `Broker`."""
        if (work := self._here()) is not None:
            work.link.listen(self._name(channel))

    def unlisten(self, channel: str) -> None:
        """See `Broker`."""
        if (work := self._here()) is not None:
            work.link.unlisten(self._name(channel))
            work.claims.pop(channel, None)  # the order does not come back

    def announce(self, channel: str, member: str) -> None:
        """See `Broker`."""
        if (work := self._here()) is not None:
            work.presence.announce(work.link, channel, member)

    def withdraw(self, channel: str, member: str) -> None:
        """See `Broker`."""
        if (work := self._here()) is not None:
            work.presence.withdraw(work.link, channel, member)

    async def ready(self, channel: str) -> None:
        """See `Broker`."""
        work = self._here()
        if work is not None:
            await work.link.confirmed(self._name(channel))
            if channel in self.populated:
                with contextlib.suppress(BrokerUnavailableError):
                    await work.link.call(("PING",))  # Redis answers it after the announcements

    async def send(self, channel: str, message: str, key: str | None) -> None:
        """See `Broker`."""
        await self._send(channel, message, self._label(key))

    async def send_close(
        self, channel: str, code: int, reason: str, kept: list[SockJSConnection]
    ) -> None:
        """See `Broker`."""
        work, claim = self._here(), next(self._claim_numbers) if kept else None
        claims = {} if work is None or channel not in self.channels else work.claims
        if claim is not None:
            claims[channel] = claim, kept
        is_sent = False
        try:
            is_sent = await self._send(
                channel, reason, make_close_label(code, claim, self._label())
            )
        finally:
            if not is_sent:
                _end_claim(claims, channel, claim)

    def _gap_notice(self, channel: str) -> Command:
        return ("PUBLISH", self._name(channel), make_gap_notice(self._label()))

    def _label(self, key: str | None = None) -> bytes:
        work = self._here()
        if work is not None:
            return make_label(work.node, work.link.number, key)
        return b"" if key is None else make_label(key=key)

    async def _send(self, channel: str, text: str, label: bytes) -> bool:
        """Send `text`, and return whether Redis has it."""
        work, command = self._here(), ("PUBLISH", self._name(channel), pack(text, label))
        drop = functools.partial(self._drop, work, channel)
        try:
            if work is None:
                await self._server.call(command)
            else:
                await work.link.call(command, failed=drop)
        except BrokerUnavailableError as error:
            drop()
            if self._on_unavailable == "raise":
                raise
            warning = "channel %r: dropping messages for other processes: %s"
            self._rate_limited.warn("sent", warning, channel, error)
            return False
        return True

    def _drop(self, work: _Work | None, channel: str) -> None:
        self.dropped += 1
        if work is not None:
            work.notices.owe(channel)

    async def remote_members(self, channel: str) -> set[str]:
        """See `Broker`."""
        work = self._here()
        question = members_question(self._prefix, channel, work.node if work else "")
        answer = await (work.link.call(question) if work else self._server.call(question))
        return {member.decode("utf-8", "replace") for member in answer}

    # What comes from Redis.

    def _receive(self, node: str, name: bytes, payload: bytes) -> None:
        if self._work is None or self._work.node != node:
            return  # the broker is ending, or was started again meanwhile
        channel = self._channel(name)
        try:
            if len(payload) > self.max_message_size + MAX_LABEL:
                raise PayloadError(f"{len(payload)} bytes")
            content = self._work.reader.read(payload)
            if isinstance(content, CloseOrder):
                self._obey(channel, content)
            elif isinstance(content, GapNotice):
                self._work.notices.missed(channel)
            elif content is not None:
                text, key = content
                self.deliver(channel, text, key=key)
        except PayloadError as error:
            self.refused += 1
            self._rate_limited.warn(
                "refused", "channel %r: dropped a message from Redis: %s", channel, error
            )
            self._work.notices.missed(channel)
        except Exception:
            logger.exception("channel %r: delivering a message failed", channel)

    def _obey(self, channel: str, order: CloseOrder) -> None:
        assert self._work is not None, "it has received the order"
        claims = self._work.claims
        if order.is_own:
            _end_claim(claims, channel, order.claim)
            return
        kept: list[SockJSConnection] = []
        if order.claim is not None and channel in claims:
            kept = claims[channel][1]
        self.close_sessions(channel, order.code, order.reason, kept)

    def _count_gap(self) -> None:
        super()._count_gap()
        if self._work is not None:
            self._work.claims.clear()  # orders may not come back

    def _here(self) -> _Work | None:
        self.check_loop()
        return self._work

    def _name(self, channel: str) -> bytes:
        return (self._prefix + channel).encode()

    def _channel(self, name: bytes) -> str:
        return name.decode()[len(self._prefix) :]


def _end_claim(
    claims: dict[str, tuple[int, list[SockJSConnection]]], channel: str, claim: int | None
) -> None:
    """Forget the claim of `channel`, unless a newer one has replaced it."""
    if channel in claims and claims[channel][0] == claim:
        del claims[channel]

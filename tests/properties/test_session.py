"""Sessions, their registry and their hooks, whatever clients and applications do when.

Only the receivers are not real, and the time is virtual.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sockjs_aio import Settings
from sockjs_aio.registry import SessionRegistry
from tests.properties.peers import COMMANDS, SEND_QUEUE_LIMIT, Application, Peer, WebSocketPeer
from tests.virtual_loop import VirtualLoop

MAX_SESSIONS = 4
MAX_SESSIONS_PER_IP = 2
QUIET = 0.001

commands = st.sampled_from(COMMANDS)
kinds = st.sampled_from([Peer, WebSocketPeer])
peers = st.integers(0, MAX_SESSIONS - 1)


class Sequences(RuleBasedStateMachine):
    """A registry, and up to `MAX_SESSIONS` clients at a time."""

    @initialize(kinds=st.lists(kinds, min_size=2, max_size=3))
    def begin(self, kinds: list[type[Peer]]) -> None:
        self.steps = 0
        self.loop = VirtualLoop()
        self.problems: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(str(context)))
        self.registry = SessionRegistry(
            Application,
            Settings(
                heartbeat_delay=4,
                disconnect_delay=2,
                session_check_interval=0.5,
                send_queue_limit=SEND_QUEUE_LIMIT,
                receive_queue_limit=500,
                max_sessions=MAX_SESSIONS,
                max_sessions_per_ip=MAX_SESSIONS_PER_IP,
                shutdown_timeout=10,
            ),
        )
        self.peers: list[Peer] = []
        self.live: list[Peer] = []
        self.draining: asyncio.Task[None] | None = None
        for number, kind in enumerate(kinds):
            self.open(kind, f"10.1.1.{number}", ("", ""), False, 1)

    def do(self, function: Callable[..., Any], *arguments: Any, seconds: float = QUIET) -> None:
        """Call `function` inside the loop; then let happen what can happen in `seconds`."""

        async def call() -> None:
            function(*arguments)
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(call())
        self.live = [peer for peer in self.peers if peer.session in self.registry._sessions]

    def with_peer(self, number: int, action: str, *arguments: Any) -> None:
        """Let one of the clients whose sessions live do something."""
        # no preconditions: which of them are left after drain() is not the same in each run
        if self.live:
            peer = self.live[number % len(self.live)]
            self.do(getattr(peer, action), *arguments)

    # Clients.

    @rule(
        kind=kinds,
        ip=st.sampled_from(["10.0.0.1", "10.0.0.2", "fe80::1", "fe80::2"]),
        hooks=st.one_of(st.just(("", "")), st.just(("", "")), st.tuples(commands, commands)),
        is_refused=st.sampled_from([False] * 9 + [True]),
        limit=st.sampled_from([1, 2, None]),
    )
    def come(self, **client: Any) -> None:
        self.open(**client)

    def open(
        self, kind: type[Peer], ip: str, hooks: tuple[str, str], is_refused: bool, limit: int | None
    ) -> None:
        registry = self.registry
        if registry.is_closing or registry.is_full or registry.addresses.is_full(ip):
            return

        def start() -> None:
            peer = kind(registry, len(self.peers), ip, hooks, is_refused)
            self.peers.append(peer)
            peer.poll(limit)

        self.do(start)

    @rule(number=peers, limit=st.sampled_from([1, 1, 1, 3, None]))
    def poll(self, number: int, limit: int | None) -> None:
        self.with_peer(number, "poll", limit)

    @rule(number=peers, messages=st.lists(commands, min_size=1, max_size=4))
    def post(self, number: int, messages: list[str]) -> None:
        self.with_peer(number, "post", messages)

    @rule(number=peers, is_seen=st.booleans())
    def leave(self, number: int, is_seen: bool) -> None:
        self.with_peer(number, "leave", is_seen)

    @rule(number=peers, buffered=st.sampled_from([0, 1000, SEND_QUEUE_LIMIT]))
    def stop_reading(self, number: int, buffered: int) -> None:
        self.with_peer(number, "stop_reading", buffered)

    @rule(number=peers)
    def go_on_reading(self, number: int) -> None:
        self.with_peer(number, "go_on_reading")

    # The application.

    @rule(number=peers, size=st.sampled_from([0, 10, 10, 20_000]), count=st.integers(1, 4))
    def send(self, number: int, size: int, count: int) -> None:
        self.with_peer(number, "send", size, count)

    @rule(number=peers, limit=st.sampled_from([1, None]))
    def send_and_poll(self, number: int, limit: int | None) -> None:
        self.with_peer(number, "send_and_poll", limit)

    @rule(number=peers)
    def close(self, number: int) -> None:
        self.with_peer(number, "close")

    # Time, and the end.

    @rule(seconds=st.sampled_from([0.1, 0.6, 0.6, 1.9, 4.1]))
    def pass_time(self, seconds: float) -> None:
        self.do(lambda: None, seconds=seconds)

    @precondition(lambda self: self.steps > 15 and self.draining is None)
    @rule(over=st.sampled_from([0, 1, 20]))
    def drain(self, over: float) -> None:
        def start() -> None:
            self.draining = asyncio.get_running_loop().create_task(self.registry.drain(over))

        self.do(start)

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.steps += 1
        for peer in self.peers:
            peer.check()
        assert len(self.registry) <= MAX_SESSIONS
        self.check_addresses()
        assert not self.problems

    def check_addresses(self) -> None:
        ips = [peer.session.info.ip for peer in self.live]
        counts = Counter("fe80::" if str(ip).startswith("fe80") else ip for ip in ips)
        assert self.registry.addresses._counts == counts
        assert all(count <= MAX_SESSIONS_PER_IP for count in counts.values())

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(self.end())
        finally:
            self.loop.close()

    async def end(self) -> None:
        await asyncio.sleep(60)
        for peer in self.peers:
            peer.check()
            peer.check_idle()
        await self.registry.shutdown()
        if self.draining is not None:
            await self.draining
        await asyncio.sleep(QUIET)
        for peer in self.peers:
            peer.check_end()
        assert len(self.registry) == 0
        assert not self.registry.addresses._counts
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not self.problems


@pytest.mark.logs("asked for")
@pytest.mark.timeout(300)
def test_hooks_and_frames_keep_their_promises_in_any_sequence_of_events() -> None:
    run_state_machine_as_test(Sequences, settings=settings(stateful_step_count=40))

"""Sessions, their registry and their hooks, whatever clients and applications do when.

Only the receivers are not real, and the time is virtual.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockjs_aio import Settings
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.observers.log import Log
from tests.properties.peers import COMMANDS, SEND_QUEUE_LIMIT, Application, Peer, WebSocketPeer
from tests.virtual_loop import VirtualLoop

MAX_SESSIONS = 4
MAX_SESSIONS_PER_IP = 2
QUIET = 0.001
TURNS = 20
SETTINGS = Settings(
    heartbeat_delay=4,
    disconnect_delay=2,
    session_check_interval=0.5,
    send_queue_limit=SEND_QUEUE_LIMIT,
    receive_queue_limit=500,
    max_sessions=MAX_SESSIONS,
    max_sessions_per_ip=MAX_SESSIONS_PER_IP,
    shutdown_timeout=10,
)

commands = st.sampled_from(COMMANDS)
hooks = st.one_of(st.just(("", "")), st.just(("", "")), st.tuples(commands, commands))
limits = st.sampled_from([1, 1, 1, 3, None])
clients = st.tuples(
    st.sampled_from([Peer, Peer, WebSocketPeer]),
    st.sampled_from(["10.0.0.1", "10.0.0.2", "fe80::1", "fe80::2"]),
    hooks,
    st.sampled_from([False] * 9 + [True]),
)

# what one of the clients, or its application, does: the method of `Peer`, and its arguments
ACTIONS: dict[str, list[st.SearchStrategy[Any]]] = {
    "poll": [limits],
    "post": [st.lists(commands, min_size=1, max_size=4)],
    "send": [st.sampled_from([0, 10, 10, 20_000]), st.integers(1, 4)],
    "send_and_poll": [limits],
    "stop_reading": [st.sampled_from([0, 1000, SEND_QUEUE_LIMIT])],
    "stop_answering": [],
    "go_on_reading": [],
    "leave": [st.booleans()],
    "close": [],
}
OFTEN = ["poll", "poll", "poll", "post", "post", "send", "send_and_poll", "go_on_reading"]
actions = st.sampled_from([*ACTIONS, *OFTEN]).flatmap(
    lambda name: st.tuples(st.just(name), st.tuples(*ACTIONS[name]))
)
pauses = st.sampled_from([*[0] * 4, *[QUIET] * 10, *[0.1] * 3, 0.6, 1.9, 4.1])
steps = st.one_of(
    *[st.tuples(st.integers(0, MAX_SESSIONS - 1), actions, pauses)] * 6,
    st.tuples(st.just("come"), clients, pauses),
)


class World:
    """A registry, and up to `MAX_SESSIONS` clients at a time."""

    def __init__(self) -> None:
        self.registry = SessionRegistry(Application, SETTINGS, observers=[Log()])
        self.peers: list[Peer] = []
        self.problems: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(str(context)))

    @property
    def live(self) -> list[Peer]:
        """Those whose session is not forgotten."""
        return [peer for peer in self.peers if peer.session in self.registry._sessions]

    def come(self, kind: type[Peer], ip: str, hooks: tuple[str, str], is_refused: bool) -> None:
        """Open a session if there is room, as an endpoint does."""
        registry = self.registry
        if registry.closing.is_begun or registry.is_full or registry.addresses.is_full(ip):
            return
        peer = kind(registry, len(self.peers), ip, hooks, is_refused)
        self.peers.append(peer)
        peer.poll(1)

    async def take(self, step: tuple[Any, ...]) -> None:
        """Do what `step` says, let time pass, and check all."""
        who, what, pause = step
        if who == "come":
            self.come(*what)
        elif live := self.live:
            name, arguments = what
            getattr(live[who % len(live)], name)(*arguments)
        await asyncio.sleep(pause)
        if pause:
            await self.settle()
            self.check()

    async def settle(self) -> None:
        """Have all happen that can happen at this time: a hook may wake up together with us."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def check(self) -> None:
        for peer in self.peers:
            peer.check()
        assert len(self.registry) <= MAX_SESSIONS
        ips = [peer.session.info.ip for peer in self.live]
        counts = Counter("fe80::" if str(ip).startswith("fe80") else ip for ip in ips)
        assert self.registry.addresses._counts == counts
        assert all(count <= MAX_SESSIONS_PER_IP for count in counts.values())
        assert not self.problems

    async def end(self) -> None:
        """Shut down, and check that nothing is left."""
        await self.registry.shutdown()
        await asyncio.sleep(QUIET)
        for peer in self.peers:
            peer.check_end()
        assert len(self.registry) == 0
        assert not self.registry.addresses._counts
        assert not self.problems


async def live_through(
    first: list[tuple[Any, ...]], then: list[tuple[Any, ...]], drains_over: float | None
) -> None:
    world = World()
    for client in first:
        await world.take(("come", client, QUIET))
    for step in then:
        await world.take(step)
    if drains_over is None:
        await asyncio.sleep(60)
        for peer in world.peers:
            peer.check_idle()
    else:
        draining = asyncio.get_running_loop().create_task(world.registry.closing.drain(drains_over))
        for step in reversed(then):
            await world.take(step)
        await draining
    await world.end()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.logs("asked for")
@pytest.mark.timeout(300)
@given(
    st.lists(clients, min_size=1, max_size=3),
    st.lists(steps, min_size=15, max_size=50),
    st.sampled_from([None, None, 0, 1, 20]),
)
def test_hooks_and_frames_keep_their_promises_whatever_happens(
    first: list[tuple[Any, ...]], then: list[tuple[Any, ...]], drains_over: float | None
) -> None:
    run(first, then, drains_over)


def test_hook_that_wakes_up_at_the_time_of_a_check() -> None:
    first = [(Peer, "10.0.0.1", ("", ""), False)]
    steps: list[tuple[str, tuple[Any, ...], float]] = [
        ("poll", (None,), QUIET),
        ("post", (["sleep", "close"],), 0.6),
    ]
    steps += [("stop_answering", (), 0.6)] * 4  # in the end it has slept for 3 seconds
    run(first, [(0, (name, what), pause) for name, what, pause in steps], None)


def test_shutdown_in_the_turn_in_which_a_session_opens() -> None:
    run([], [("come", (Peer, "10.0.0.1", ("", ""), False), 0)], 0)


def run(
    first: list[tuple[Any, ...]], then: list[tuple[Any, ...]], drains_over: float | None
) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(live_through(first, then, drains_over))
    finally:
        loop.close()

"""The soak can fail: what a server does wrong is seen by the clients, and fails the run."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Serve
from tests.soak import links, verdict
from tests.soak.link import Link
from tests.soak.load import Load
from tests.soak.member import Member
from tests.soak.numbering import Sequence, Tally, number_of
from tests.soak.server import Numbered
from tests.soak.soaking import Result, Sample
from tests.soak.websocket_links import WebSocket

# The numbering.


@pytest.mark.parametrize(
    ("numbers", "tally"),
    [
        ([0, 1, 2, 3], Tally(seen=4)),
        ([0, 1, 3], Tally(seen=3, lost=1)),
        ([1, 2, 3], Tally(seen=3, lost=1)),
        ([0, 1, 2], Tally(seen=3, lost=1)),
        ([], Tally(lost=4)),
        ([0, 1, 1, 2, 3], Tally(seen=5, doubled=1)),
        ([0, 1, 2, 3, 0], Tally(seen=5, doubled=1)),
        ([0, 2, 1, 3], Tally(seen=4, reordered=1)),
        ([3, 0, 1, 2], Tally(seen=4, reordered=3)),
        ([2, 0, 0, 3], Tally(seen=4, lost=1, doubled=1, reordered=1)),
        ([0, 1, 2, 3, 4], Tally(seen=5, garbled=1)),
    ],
    ids=str,
)
def test_sequence_of_four_is_verified(numbers: list[int], tally: Tally) -> None:
    sequence = Sequence()
    for number in numbers:
        sequence.see(number)
    assert sequence.finish(4) == tally
    assert tally.is_clean == (numbers == [0, 1, 2, 3])


def test_what_comes_after_the_last_number_seen_is_not_lost_if_the_end_is_unknown() -> None:
    sequence = Sequence(5)
    for number in (5, 6, 8):
        sequence.see(number)
    assert sequence.finish() == Tally(seen=3, lost=1)


# A client, and a server that makes mistakes.


class Mistaken(Numbered):
    """Does something wrong with message 3."""

    mistake = ""

    async def _echo(self, message: str) -> None:
        number = number_of(message)
        if self.mistake == "garble" and number == 3:
            message = message[:-1] + "?"
        if self.mistake == "reorder" and number in (3, 4):
            message = message.replace("34"[number - 3], "43"[number - 3], 1)
        if not (self.mistake == "lose" and number == 3):
            self.send(message)
        if self.mistake == "double" and number == 3:
            self.send(message)


@pytest.mark.parametrize("kind", links.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("mistake", "tally"),
    [
        ("", Tally(seen=10)),
        ("lose", Tally(seen=9, lost=1)),
        ("double", Tally(seen=11, doubled=1)),
        ("reorder", Tally(seen=10, reordered=1, garbled=2)),
        ("garble", Tally(seen=10, garbled=1)),
    ],
)
async def test_client_sees_a_mistake(
    serve: Serve,
    kind: type[Link],
    mistake: str,
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mistaken, "mistake", mistake)
    served = await serve(Mistaken, "/soak")
    load = Load(served.port, mean=1, wave=1)
    member = Member(load, kind(served.port, 1), "test")
    await member.open()
    await member.link.send(member.next_texts(10))
    await member.until_echoed()
    member.finish(e=member.sent)
    assert load.tallies["echo"] == tally
    assert load.tallies["broadcast"].is_clean
    assert not load.faults


@pytest.mark.parametrize("kind", links.ALL, ids=lambda kind: kind.name)
async def test_client_counts_broadcasts_from_its_welcome_to_its_close_frame(
    serve: Serve, kind: type[Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Numbered, "next_broadcast", 7)
    served = await serve(Numbered, "/soak")
    load = Load(served.port, mean=1, wave=1)
    member = Member(load, kind(served.port, 1), "test")
    await member.open()
    await member.until(lambda: member.is_welcome)
    assert member.come["b"].next == 7
    monkeypatch.setattr(Numbered, "next_broadcast", 9)  # two were not sent
    await member.link.send(["last 5"])
    await member.until(lambda: member.is_over)
    assert member.close_frame == [4000, "5 9"]
    member.finish(l=5, b=9)
    assert load.tallies["last"] == Tally(seen=5)
    assert load.tallies["broadcast"] == Tally(lost=2)


@pytest.mark.parametrize("said, faults", [("client", 0), ("network", 1)])
async def test_session_that_ends_otherwise_than_it_had_to_is_a_fault(
    said: str, faults: int
) -> None:
    load = Load(0, mean=1, wave=1)
    member = Member(load, WebSocket(0, 1), "test")
    member.expect_end("client")
    member.server_says(said)
    assert load.faults.total() == faults


# Hooks.


async def test_hooks_that_overlap_or_come_again_are_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Numbered, "faults", copy.copy(Numbered.faults))
    connection = Numbered(None)
    with connection._alone("on_open", "new"), connection._alone("on_message", "open"):
        pass
    assert dict(Numbered.faults) == {
        "on_message while another hook runs": 1,
        "on_message of a session that is new": 1,
    }


# The verdict.


@pytest.fixture
def result() -> Result:
    """Make what a soak without fault has measured."""
    clean = {"seen": 1, "lost": 0, "doubled": 0, "reordered": 0, "garbled": 0}
    idle = Sample(0, sessions=0, tasks=4, descriptors=8, resident=40_000_000)
    causes = ("client", "server", "network", "timeout", "overflow", "shutdown")
    return Result(
        20,
        idle,
        [Sample(n, 9, 22, 20, 60_000_000) for n in range(20)],
        {"websocket": [(0.0, 0.001)]},
        end=replace(idle),
        server={
            "opened": 9,
            "closed": 9,
            "ends": dict.fromkeys(causes, 1),
            "faults": {},
            "received": clean,
            "broadcasts": 1,
        },
        load={
            "tallies": {x: dict(clean) for x in ("echo", "broadcast", "large", "last")},
            "faults": {},
            "last_broadcasts": {"7": 3},
        },
        exit_status=0,
        exit_seconds=1.0,
        log="WARNING sockjs_aio.session: session 1… (xhr): closed (overflow, 1008 'Slow', …)\n",
    )


def failures(result: Result) -> list[str]:
    return [check.name for check in verdict.checks(result) if not check.holds]


def test_good_result_passes(result: Result) -> None:
    assert failures(result) == []
    assert "FAILED" not in verdict.report(result)


def change(path: str, value: Any, name: str) -> Any:
    return pytest.param(path, value, name, id=f"{path}={value}")


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        change("load/tallies/echo/lost", 1, "lost"),
        change("load/tallies/broadcast/doubled", 1, "doubled"),
        change("load/tallies/last/reordered", 1, "reordered"),
        change("server/received/garbled", 1, "garbled"),
        change("load/tallies/large/seen", 0, "large messages"),
        change("load/faults/late", 1, "faults seen by clients"),
        change("load/last_broadcasts", {"6": 1, "7": 9}, "disagreement about the last broadcast"),
        change("load/last_broadcasts/7", 0, "clients told of the restart"),
        change("server/faults/on_close", 1, "faults in calling hooks"),
        change("server/closed", 8, "on_open without on_close"),
        change("server/ends/overflow", 0, "sessions ended by overflow"),
        change("probe_faults", ["it ended"], "faults of probes"),
        change("exit_status", -9, "exit status"),
        change("exit_seconds", 14.0, "seconds from SIGTERM to exit"),
        change("log", "ERROR asyncio: failed", "complaints in the server's log"),
        change("log", "WARNING sockjs_aio.session: session", "complaints in the server's log"),
        change("log", "Task was destroyed", "complaints in the server's log"),
        change("end/sessions", 1, "sessions after the load"),
        change("end/tasks", 5, "tasks after the load"),
        change("end/descriptors", 9, "descriptors after the load"),
        change("end/resident", 80_000_000, "MB after the load"),
    ],
)
def test_each_figure_can_fail_the_run(result: Result, path: str, value: Any, name: str) -> None:
    *steps, last = path.split("/")
    thing: Any = result
    for step in steps:
        thing = thing[step] if isinstance(thing, dict) else getattr(thing, step)
    if isinstance(thing, dict):
        thing[last] = value
    else:
        setattr(thing, last, value)
    assert failures(result) == [name]
    assert f"FAILED {name}" in verdict.report(result)


def test_growth_under_load_fails_the_run(result: Result) -> None:
    for number, sample in enumerate(result.samples):
        sample.resident += number * 1_000_000
    assert failures(result) == ["MB late under load"]

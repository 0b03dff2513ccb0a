"""The load: many clients on all transports, in a process of its own.

`python -m tests.soak.load --port 8081` begins at once.  It obeys lines on its standard input:
``pause`` (end all sessions; it answers when the server has none of them), ``resume``, ``end`` (the
server is going to stop).  Each second, and when it has paused or ended, it prints what it has seen.
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import sys
from dataclasses import asdict
from typing import Any

from tests.soak import links, plans
from tests.soak.link import GONE, Gone, Link
from tests.soak.member import KINDS, Member
from tests.soak.numbering import Tally
from tests.wire import Wire

BURST_INTERVAL = 15.0
"""Seconds between two bursts of abandoned sessions."""


class Load:
    """All members, and what they have seen.

    Args:
        port: Where the server listens.
        mean: How many members there are, on average.
        wave: Seconds in which their number goes from half of that up to one and a half, and back.
    """

    def __init__(self, port: int, mean: int, wave: float) -> None:
        self.port = port
        self.mean = mean
        self.wave = wave
        # what the members tell
        self.members: dict[int, Member] = {}
        self.tallies = {name: Tally() for name in KINDS.values()}
        self.faults: collections.Counter[str] = collections.Counter()
        self.last_broadcasts: collections.Counter[int] = collections.Counter()
        self.opened = 0
        # what they are told
        self.is_pausing = False
        self.is_ending = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = itertools.count(1)

    def fault(self, what: str) -> None:
        self.faults[what] += 1
        if self.faults[what] == 1:
            self.note(what)

    def note(self, what: str) -> None:
        """Log who has seen something wrong."""
        print(what, file=sys.stderr, flush=True)

    def report(self, event: str) -> None:
        """Print what has been seen so far."""
        figures = {
            "event": event,
            "opened": self.opened,
            "tallies": {name: asdict(tally) for name, tally in self.tallies.items()},
            "faults": dict(self.faults),
            "last_broadcasts": dict(self.last_broadcasts),
        }
        print(json.dumps(figures), flush=True)

    # Members.

    def new_member(self, kind: type[Link], plan: str, *, small: bool = False) -> Member:
        return Member(self, kind(self.port, next(self._tokens), small=small), plan)

    def start(self, plan: plans.Plan, kind: type[Link]) -> None:
        """Have a new member carry out `plan`."""
        member = self.new_member(kind, plan.__name__, small=plan in plans.SMALL)
        task = asyncio.ensure_future(self.carry_out(plan, member))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def carry_out(self, plan: plans.Plan, member: Member) -> None:
        try:
            await plan(member)
        except (*GONE, Gone, asyncio.TimeoutError) as error:
            if not self.is_ending:
                member.fault(f"{type(error).__name__}: {error}")
        except Exception as error:
            member.fault(repr(error))
        finally:
            if member.link.token in self.members:
                member.finish()
            member.link.close()

    # Phases.

    async def run(self) -> None:
        """Keep up the number of members until there is to be a pause or an end."""
        clock = asyncio.get_running_loop().time
        start = clock()
        next_burst = start + BURST_INTERVAL / 2
        for kind in links.ALL:
            self.start(plans.stay, kind)
        ends = asyncio.ensure_future(self._watch_ends())
        while not (self.is_pausing or self.is_ending):
            phase = (clock() - start) % self.wave / self.wave
            target = self.mean * (0.5 + 2 * min(phase, 1 - phase))
            missing = round(target) - len(self._tasks)
            for _ in range(min(missing, 10)):
                self.start(*_any_plan())
            if clock() >= next_burst:
                next_burst += BURST_INTERVAL
                for number in range(self.mean):
                    self.start(plans.abandon, links.ALL[2 + number % 5])
            await asyncio.sleep(0.1)
        if self._tasks:
            await asyncio.wait(self._tasks)
        ends.cancel()
        await asyncio.gather(ends, return_exceptions=True)

    async def _watch_ends(self) -> None:
        """Ask the server which sessions have ended, and how; tell their members."""
        wire = await Wire.connect(self.port)
        try:
            while True:
                reply = await wire.request("GET", "/ends")
                for token, initiator in json.loads(reply.body):
                    if token in self.members:
                        self.members[token].server_says(initiator)
                await asyncio.sleep(0.5)
        except GONE:
            if not self.is_ending:
                self.fault("/ends does not answer")
        finally:
            wire.close()
            for member in list(self.members.values()):
                member.server_has_gone()


def _any_plan() -> tuple[plans.Plan, type[Link]]:
    while True:
        (plan,) = random.choices(list(plans.WEIGHTS), list(plans.WEIGHTS.values()))
        kind = random.choice(links.ALL)
        if plans.is_possible(plan, kind):
            return plan, kind


async def obey(load: Load) -> None:
    """Run the load as standard input says."""
    reader = asyncio.StreamReader()
    protocol: Any = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: protocol, sys.stdin)
    running = asyncio.ensure_future(load.run())
    while line := (await reader.readline()).decode().strip():
        if line == "pause":
            load.is_pausing = True
            await running
            load.report("paused")
        elif line == "resume":
            load.is_pausing = False
            running = asyncio.ensure_future(load.run())
        elif line == "end":
            load.is_ending = True
            await running
            load.report("ended")
            break
    pipe.close()


async def report_each_second(load: Load) -> None:
    while True:
        await asyncio.sleep(1)
        load.report("running")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--wave", type=float, required=True)
    options = parser.parse_args()
    load = Load(options.port, options.members, options.wave)
    reports = asyncio.ensure_future(report_each_second(load))
    await obey(load)
    reports.cancel()


if __name__ == "__main__":
    asyncio.run(main())

"""What members of the load do, from the first request to the end of their session.

A plan raises `Gone`, or what a lost connection raises, when its session ends before its time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.soak.http_links import Xhr
from tests.soak.link import Link
from tests.soak.member import Member

LARGE = 100_000
"""Bytes of a large message: about what the buffers on its way take."""

PAUSE = 2.0
"""Seconds that some clients wait between two requests; less than `disconnect_delay`."""

Plan = Callable[[Member], Awaitable[None]]


async def _live(member: Member, seconds: float | None = None) -> None:
    """Open the session and echo for a while."""
    link = member.link
    if isinstance(link, Xhr):
        link.pipelined = random.random() < 0.25
    if link.is_http and random.random() < 0.15:
        link.pause = PAUSE
    await member.open()
    await member.echo_for(random.uniform(0.5, 15) if seconds is None else seconds)


async def leave(member: Member) -> None:
    """Echo, wait for all, leave."""
    await _live(member)
    await member.until_echoed()
    await member.leave()
    member.finish(e=member.sent)


async def stay(member: Member) -> None:
    """Echo as long as the load runs, then have the server close."""
    await _live(member, float("inf"))
    await _be_closed(member)


async def be_closed(member: Member) -> None:
    """Echo, then have the server close with messages queued."""
    await _live(member)
    await _be_closed(member)


async def _be_closed(member: Member) -> None:
    count = random.choice((0, 1, 10, 200))
    member.check_alive()
    member.expect_end("server")
    await member.link.send([f"last {count}"])
    await member.until(lambda: member.is_over)
    if member.load.is_ending:
        member.finish()
    elif member.close_frame is None or member.close_frame[0] != 4000:
        member.fault(f"no close frame of the application's: {member.close_frame}")
        member.finish()
    else:
        last, broadcasts = map(int, member.close_frame[1].split())
        await member.until_ended()
        member.finish(e=member.sent, l=last, b=broadcasts)


async def abort(member: Member) -> None:
    """Echo, then reset the connections in the middle of anything."""
    await _live(member)
    member.check_alive()
    member.expect_end("network", *(["timeout"] if member.link.is_http else []))
    sending = await _be_in_the_middle(member)
    member.link.abort()
    await asyncio.gather(sending, return_exceptions=True)
    await member.until_ended()
    member.finish()


async def _be_in_the_middle(member: Member) -> "asyncio.Future[None]":
    link = member.link
    what = random.choice(("wait", "send half", "send", "receive"))
    if what == "send half":
        await link.send_half()
    elif what == "send":
        sending = asyncio.ensure_future(link.send(member.next_texts(10)))
        await asyncio.sleep(random.choice((0, 0.001)))
        return sending
    elif what == "receive":
        await link.send([f"pour {LARGE} 3"])
        await asyncio.sleep(random.choice((0, 0.005)))
    return asyncio.ensure_future(asyncio.sleep(0))


async def run_away(member: Member) -> None:
    """Reset the connection while the session is being opened, or somewhat later or earlier."""
    link = member.link
    opening = asyncio.ensure_future(link.open())
    await asyncio.sleep(random.uniform(0, 0.01))
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    link.abort()


async def expire(member: Member) -> None:
    """Echo, then do not come back."""
    await _live(member, random.uniform(0, 5))
    await member.until_echoed()
    member.expect_end("timeout")
    link = member.link
    if not isinstance(link, Xhr):
        # a response ends with it; if that is the one before, it is never fetched
        await link.send([f"pour {LARGE} 1"])
    link.returns = False
    await member.until(lambda: member.is_over)
    await member.until_ended()
    member.finish(e=member.sent)


async def abandon(member: Member) -> None:
    """Open and forget."""
    await member.open()
    member.expect_end("timeout", "network")
    member.link.close()
    await member.until_ended()
    member.finish()


async def be_mute(member: Member) -> None:
    """Read all, but answer no ping."""
    await member.open()
    member.expect_end("timeout")
    member.link.returns = False
    await member.until_ended()
    member.finish()


async def be_slow(member: Member) -> None:
    """Take large messages one by one, with pauses; the server has to wait, and not to close."""
    await member.open()
    count = random.choice((5, 15))
    member.reading_pause = 4.5 / count
    await member.link.send([f"pour {LARGE} {count}"])
    await member.until_large(count)
    member.reading_pause = 0
    await member.leave()
    member.finish(p=count)


async def overflow(member: Member) -> None:
    """Stop reading while messages come that do not wait."""
    await member.open()
    member.expect_end("overflow")
    await member.link.send([f"flood {LARGE} 1000"])
    member.stop_reading()
    await member.until_ended()
    member.finish()


async def stall(member: Member) -> None:
    """Stop reading; what the server sends waits for room that never comes."""
    await member.open()
    member.expect_end("timeout", "network")
    await member.link.send([f"pour {LARGE} 50"])
    member.stop_reading()
    await member.until_ended()
    member.finish()


WEIGHTS: dict[Plan, float] = {
    leave: 20,
    be_closed: 20,
    abort: 20,
    run_away: 10,
    expire: 8,
    be_mute: 3,
    be_slow: 6,
    overflow: 4,
    stall: 4,
}
"""How often each plan is begun, relative to the others."""

SMALL = (be_slow, overflow, stall)
"""Plans whose connections have small buffers."""


def is_possible(plan: Plan, kind: type[Link]) -> bool:
    """Tell whether `plan` makes sense with a transport."""
    if plan is expire:
        return kind.is_http
    return plan is not be_mute or not kind.is_http

"""The command line of the benchmark: checks that the service echoes, and puts load on it."""

import argparse
import asyncio
import contextlib
import functools
import json
import secrets
import signal
import sys
import time
from collections.abc import Sequence

import async_timeout

from sockjs_aio.cli.bench.load import SMALLEST, Load, Plan
from sockjs_aio.cli.bench.report import Bar, as_dict, as_text
from sockjs_aio.cli.session import add_options, add_transports, new_session, seconds
from sockjs_aio.cli.terminal import harmless
from sockjs_aio.client import TRANSPORTS, ConnectError, ConnectionClosedError, connect
from sockjs_aio.errors import SettingsError

_CANNOT = 2
"""The exit status if nothing could be measured."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} bench",
        description="Measure a SockJS service that echoes: many sessions send messages, and wait "
        "for them to come back.  Each message has a number, so one that is lost, doubled or out of "
        "order is noticed.  The exit status is 1 if there was one or a session failed, and 2 if "
        "nothing could be measured.",
    )
    add_options(parser)
    add_transports(parser)
    _add_own_options(parser)
    options = parser.parse_args(arguments)
    plan = Plan(
        url=options.url,
        transports=tuple(options.transport or TRANSPORTS),
        new_session=functools.partial(new_session, options),
        sessions=options.sessions,
        in_flight=options.in_flight,
        size=options.size,
        seconds=options.seconds,
        timeout=options.timeout,
    )
    try:
        return asyncio.run(_bench(plan, is_json=options.json))
    except SettingsError as error:
        parser.error(str(error))


def _add_own_options(parser: argparse.ArgumentParser) -> None:
    for name, default, help in (
        ("--sessions", 10, "how many sessions talk at the same time"),
        ("--in-flight", 1, "how many messages of a session are on their way"),
        ("--size", 100, f"characters of a message, {SMALLEST} or more"),
    ):
        least = SMALLEST if name == "--size" else 1
        parser.add_argument(
            name,
            type=functools.partial(_count, least),
            default=default,
            metavar="N",
            help=f"{help}; default: %(default)d",
        )
    for name, default, help in (
        ("--seconds", 10, "for how long messages are sent"),
        ("--timeout", 5, "how long to wait for the last messages, and for the first one"),
    ):
        parser.add_argument(
            name,
            type=seconds,
            default=default,
            metavar="SECONDS",
            help=f"{help}; default: %(default)g",
        )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _count(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {least} or more")
    return number


async def _bench(plan: Plan, *, is_json: bool) -> int:
    if reason := await _why_not(plan):
        print(harmless(reason), file=sys.stderr)
        return _CANNOT
    load = Load(plan)
    with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C ends all at once
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupt, load)
    showing = asyncio.create_task(_show(load)) if sys.stderr.isatty() else None
    try:
        await load.run()
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    print(json.dumps(as_dict(load), indent=2) if is_json else as_text(load))
    if load.is_interrupted:
        return 130
    return 0 if load.tally.is_clean else 1


async def _why_not(plan: Plan) -> str:
    """Return why the service cannot be measured; "" if it can."""
    probe = f"sockjs-aio bench: does this come back? {secrets.token_hex(4)}"
    try:
        async with (
            plan.new_session() as session,
            connect(plan.url, transports=plan.transports, session=session) as socket,
            async_timeout.timeout(plan.timeout),
        ):
            await socket.send(probe)
            while await socket.receive() != probe:
                pass
    except ConnectError as error:
        return str(error)
    except ConnectionClosedError as error:
        return f"the service closes the session: {error}"
    except asyncio.TimeoutError:
        return (
            f"the service does not echo: a message did not come back within {plan.timeout:g} s; "
            "measure a service that sends every message back, such as examples/echo.py"
        )
    return ""


def _interrupt(load: Load) -> None:
    """End the benchmark; a second Ctrl-C ends the program at once."""
    load.interrupt()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


async def _show(load: Load) -> None:
    bar = Bar(sys.stderr, load.plan.seconds)
    began = last = time.perf_counter()
    received = 0
    try:
        while True:
            await asyncio.sleep(0.25)
            now, tally = time.perf_counter(), load.tally
            if not tally.sent:
                began = now
                bar.show(0, f"{load.opened:,} of {load.plan.sessions:,} sessions are open")
            else:
                rate = (tally.received - received) / (now - last)
                bar.show(now - began, f"{tally.received:,} messages, {rate:,.0f}/s")
            last, received = now, tally.received
    finally:
        bar.clear()

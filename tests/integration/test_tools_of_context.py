"""docs/observing.md: structlog and Sentry know whose hook runs.

Both are set up for a whole process, so each test runs in one of its own.
"""

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.require import require
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.programs

PAGE = ROOT / "docs/observing.md"

PRELUDE = """
import asyncio, json, sys
from typing import Any
from aiohttp import web
from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.client import ConnectionClosedError, connect
from sockjs_aio.testing import serve

exec(compile(sys.argv[1], "shown", "exec"))

async def authorize(request):
    return request.query["user"]

async def talk(connection):
    app = web.Application()
    SockJSRouter(connection, "/chat", authorize=authorize).attach(app)
    async with serve(app) as url:
        for transport in ("websocket", "xhr", "xhr_streaming", "eventsource", "jsonp"):
            try:
                path = f"{url}/chat?user=user+of+{transport}"
                async with connect(path, transports=[transport]) as client:
                    await client.send("hello")
                    await client.receive()
            except ConnectionClosedError:
                pass
"""

WITH_STRUCTLOG = """
class Closing(Room):
    async def on_message(self, message):
        await super().on_message(message)
        self.send("seen")
        self.close(4000, self.session.id)

set_up_logging()
asyncio.run(talk(Closing))
"""

WITH_SENTRY = """
events = []

class Recording(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        events.extend(item.get_event() for item in envelope.items if item.get_event())

init = sentry_sdk.init
sentry_sdk.init = lambda *arguments, **options: init(*arguments, transport=Recording, **options)
set_up_sentry("https://key@127.0.0.1/1")

class Failing(Orders):
    async def on_message(self, message):
        raise ZeroDivisionError

asyncio.run(talk(Failing))
print(json.dumps(events, default=str))
"""

TRANSPORTS = ("websocket", "xhr", "xhr_streaming", "eventsource", "jsonp")


def run(part: str, program: str) -> "subprocess.CompletedProcess[str]":
    (shown,) = [block for block in blocks(PAGE, "python") if part in block]
    command = [sys.executable, "-c", PRELUDE + program, shown]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)


def test_each_line_has_what_the_session_has_bound() -> None:
    require(importlib.util.find_spec("structlog"), "structlog")
    done = run("structlog", WITH_STRUCTLOG)
    said: list[dict[str, Any]] = [json.loads(x) for x in done.stdout.splitlines()]
    assert [line["event"] for line in said] == ["message"] * len(TRANSPORTS)
    lines = [json.loads(x) for x in done.stderr.splitlines()]
    ends = [line for line in lines if line["event"].startswith("session ")]
    assert [line["transport"] for line in ends] == list(TRANSPORTS)
    for own, last in zip(said, ends, strict=True):
        assert own["session"] == last["session"] == last["close_reason"]
        assert own["ip"] == last["ip"] == "127.0.0.1"
    assert len({line["session"] for line in said}) == len(TRANSPORTS)


def test_sentry_knows_whose_hook_has_failed() -> None:
    require(importlib.util.find_spec("sentry_sdk"), "sentry-sdk")
    events = json.loads(run("sentry_sdk", WITH_SENTRY).stdout)
    assert [event["user"]["id"] for event in events] == [f"user of {x}" for x in TRANSPORTS]
    for event, transport in zip(events, TRANSPORTS, strict=True):
        assert event["exception"]["values"][-1]["type"] == "ZeroDivisionError"
        assert event["logger"] == "sockjs_aio.hooks"
        assert event["transaction"].endswith(f".sockjs_{transport}")

"""Who knows a session's id can act as its client: no log line and no error tells it.

Access logs have it, as they have whole URLs; so does what aiohttp logs of requests that it cannot
parse.  That is for who runs the server to know.
"""

import asyncio
import logging
from typing import Any, ClassVar

import pytest
from aiohttp import web

from tests import clients
from tests.conftest import SHORT, Recorder, Serve
from tests.hostile.refusals import assert_aiohttp_refused
from tests.hostile.urls import OPENING, URLS, answered, started

pytestmark = pytest.mark.virtual_time

ID = "k5s3cr3tz"
PATH = f"/s3rv3r/{ID}"

every = pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
transports = pytest.mark.parametrize("transport", URLS)
openers = pytest.mark.parametrize("transport", OPENING)
Kind = type[clients.Client]


class Told:
    """All that the server says in a test: in its log, and in answers that a test notes."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self.log = log
        self.bodies: list[bytes] = []

    def check(self, *expected: str) -> None:
        """Make sure that the log has `expected`, and that nobody tells the id."""
        formatter = logging.Formatter("%(name)s %(message)s")
        texts = [formatter.format(record) for record in self.log.records]
        for text in expected:
            assert any(text in line for line in texts), texts
        for line in [*texts, *(body.decode() for body in self.bodies)]:
            assert ID not in line and ID[:5] not in line, line


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "sockjs_aio")
    return Told(caplog)


class Failing(Recorder):
    """Fails as the message says."""

    hook: ClassVar[str] = ""

    async def on_open(self, info: Any) -> Any:
        await super().on_open(info)
        if self.hook == "refuse":
            return False
        if self.hook == "open":
            raise ZeroDivisionError
        return None

    async def on_message(self, message: str | bytes) -> None:
        if message == "raise":
            raise ZeroDivisionError
        if message == "close":
            self.close(3001, "x")
        while message == "pour" and not self.is_closed:
            self.send("x" * 1000)
        if message == "wait":
            await asyncio.sleep(60)

    async def on_close(self) -> None:
        await super().on_close()
        if self.hook == "close":
            raise ZeroDivisionError


async def opened(kind: Kind, served: Any) -> Any:
    client = kind(served, {})
    client.path = PATH
    await client.connect()
    assert await client.frame() == b"o"
    return client


@every
@pytest.mark.logs("ZeroDivisionError")
@pytest.mark.parametrize("hook", ["open", "message", "close"])
async def test_failing_hooks(serve: Serve, kind: Kind, told: Told, hook: str) -> None:
    class Bad(Failing):
        pass

    Bad.hook = hook
    client = await opened(kind, await serve(Bad, settings=SHORT))
    await Bad.until("open")
    if hook == "message":
        await client.send("raise")
    elif hook == "close":
        await client.leave()
    await Bad.until("close")
    await client.leave()
    told.check(f"session k5s3… ({kind.name}): Bad.on_{hook} failed", "opened from 127.0.0.1")


ENDS = {"close": "3001", "pour": "1008 'Slow consumer'"}


@every
@pytest.mark.parametrize("command", ENDS)
async def test_ends_that_the_server_causes(
    serve: Serve, kind: Kind, told: Told, command: str
) -> None:
    class Bad(Failing):
        pass

    served = await serve(Bad, settings={**SHORT, "send_queue_limit": 100_000})
    client = await opened(kind, served)
    await client.send(command)
    await Bad.until("close")
    await client.leave()
    await served.until_empty()
    told.check(f"session k5s3… ({kind.name}): closed (", ENDS[command])


@every
@pytest.mark.parametrize("how", ["refused", "leaves", "aborts", "expires", "shut down", "hangs"])
async def test_other_ends(serve: Serve, kind: Kind, told: Told, how: str) -> None:
    class Bad(Failing):
        pass

    Bad.hook = "refuse" if how == "refused" else ""
    served = await serve(Bad, settings={**SHORT, "shutdown_timeout": 0.1})
    client = await opened(kind, served)
    await Bad.until("open")
    if how == "leaves":
        await client.leave()
    elif how == "aborts":
        client.abort()
    elif how == "hangs":
        await client.send("wait")
        await asyncio.sleep(0.02)
    if how in ("shut down", "hangs"):
        await served.router.shutdown()
    elif how == "expires" and kind.is_http:
        client.abort()
    await client.leave()
    await Bad.until("close")
    told.check(f"session k5s3… ({kind.name}): closed (")


@transports
@pytest.mark.parametrize("limit", ["max_sessions", "max_sessions_per_ip", "origins", "authorize"])
async def test_refusals(serve: Serve, told: Told, transport: str, limit: str) -> None:
    async def authorize(request: web.Request) -> bool:
        return False

    settings: dict[str, Any] = {limit: 1}
    if limit == "origins":
        settings = {limit: ["https://good.example"], "allow_jsonp_and_frames": True}
    options = {"authorize": authorize} if limit == "authorize" else {"settings": settings}
    served = await serve(Failing, **options)
    good = {"Origin": "https://good.example"}
    if limit != "authorize":
        assert await served.poll("/000/first", headers=good) == b"o"
    headers = {"Origin": "https://evil.example", "Accept": "text/html"}
    for _ in range(5):  # the first sends are let pass in silence
        reply = await answered(served, PATH, transport, **headers)
        told.bodies.append(reply.body)
        assert reply.status in (403, 404, 429, 503)
    told.check(*(["sends were for unknown sessions"] if reply.status == 404 else []))


@transports
async def test_wrong_methods_and_paths(serve: Serve, told: Told, transport: str) -> None:
    served = await serve(Failing)
    url = URLS[transport][1].partition("?")[0]
    for method in ("PUT", "HEAD", "PROPFIND", "OPTIONS"):
        reply = await served.request(method, PATH + url, headers={"Accept": "text/html"})
        told.bodies.append(reply.body)
    for path in (PATH + url + "x", PATH + "/" + url, f"/{ID}{url}", f"/a%FF/{ID}{url}"):
        reply = await served.request("POST", path, b"", headers={"Accept": "text/html"})
        assert reply.status == 404
        told.bodies.append(reply.body)
    told.check()


@pytest.mark.parametrize("transport", ["xhr_send", "jsonp_send"])
async def test_bad_payloads(serve: Serve, told: Told, transport: str) -> None:
    served = await serve(Failing, settings={"receive_timeout": 0.05, "max_message_size": 1000})
    assert await served.poll(PATH) == b"o"
    for body in (b"", ID.encode(), b'["' + b"x" * 1000 + b'"]'):
        reply = await served.request("POST", f"{PATH}/{transport}", body)
        assert reply.status in (413, 500)
        told.bodies.append(reply.body)
    wire = await served.wire()
    wire.send("POST", f"{served.prefix}{PATH}/{transport}", headers={"Content-Length": "5"})
    reply = await wire.reply()
    assert reply.status == 408
    told.bodies.append(reply.body)
    told.check()


@pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
async def test_second_receivers_and_late_requests(serve: Serve, kind: Kind, told: Told) -> None:
    served = await serve(Failing)
    client = await opened(kind, served)
    await asyncio.sleep(0.02)
    for transport in ("xhr", "jsonp"):
        reply = await answered(served, PATH, transport)
        told.bodies.append(reply.body)
    await client.leave()
    for transport in ("xhr", "jsonp", "xhr_send", "jsonp_send"):
        reply = await answered(served, PATH, transport)
        told.bodies.append(reply.body)
    told.check()


@openers
async def test_info_that_an_application_logs(serve: Serve, told: Told, transport: str) -> None:
    class Noted(Recorder):
        async def on_open(self, info: Any) -> None:
            logging.getLogger("application").info("%r %s %r", info, self.session, self.session)
            self.seen.append("open")

    served = await serve(Noted)
    await started(served, PATH, transport)
    await Noted.until("open")
    told.check(f"<Session k5s3… ({transport})", f"<ConnectionInfo {transport} from 127.0.0.1>")


@pytest.mark.logs("BadStatusLine")
async def test_aiohttp_logs_request_lines_that_it_cannot_parse(serve: Serve, told: Told) -> None:
    served = await serve(Failing)
    wire = await served.wire()
    wire.writer.write(f"GET /echo{PATH}/xhr HTTP/1.7\r\nHost: x\r\n\r\n".encode())
    reply = await wire.reply()
    assert_aiohttp_refused(reply)
    assert ID.encode() in reply.body
    (record,) = [record for record in told.log.records if record.name == "aiohttp.server"]
    assert ID in logging.Formatter().format(record)

"""The callback of jsonp and htmlfile: a name in somebody's page, or an attempt to run a script."""

import asyncio

import pytest

from tests import clients
from tests.cases import case
from tests.conftest import Echo, Recorder, Serve, Served
from tests.hostile.refusals import BAD_CALLBACK, NO_CALLBACK, assert_refused
from tests.wire import Reply

transports = pytest.mark.parametrize("transport", ["jsonp", "htmlfile"])
parameters = pytest.mark.parametrize("name", ["c", "callback"])

BAD = {
    "too-long": "x" * 129,
    "8-KB": "x" * 8000,
    "call": "alert(1)",
    "element": "<script>",
    "end-of-element": "</script><script>alert(1)//",
    "encoded-element": "%3Cscript%3E",
    "twice-encoded": "%253Cscript%253E",
    "newline": "a%0A",
    "newline-in-front": "%0Aa",
    "CR-LF": "a%0D%0ASet-Cookie:%20x=1",
    "NUL": "a%00",
    "blank": "a%20b",
    "plus": "a+b",
    "tab": "%09",
    "letters": "%C3%A9",
    "full-width-letters": "%EF%BC%A1",
    "arabic-digits": "%D9%A1",
    "kelvin-sign": "%E2%84%AA",
    "long-s": "%C5%BF",
    "line-separator": "a%E2%80%A8",
    "zero-width": "a%E2%80%8Bb",
    "not-UTF-8": "%FF",
    "surrogate": "%ED%A0%80",
    "bad-escape": "%zz",
    "brackets": "a[0]",
    "dollar": "$",
    "quote": "a'b",
    "double-quote": "a%22b",
    "backslash": "a%5Cu0062",
    "slash": "a/b",
    "semicolon": "a;b",
    "comma": "a,b",
    "equals-sign": "a=b",
    "comment": "a/**/",
    "template": "`",
    "entity": "%26lt;",
}


async def ask(served: Served, transport: str, query: str) -> Reply:
    return await served.request("GET", f"/000/1/{transport}{query}")


@transports
@parameters
async def test_bad_callback_is_refused_without_touching_a_session(
    serve: Serve, transport: str, name: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    for of, value in BAD.items():
        with case(of):
            assert_refused(await ask(served, transport, f"?{name}={value}"), BAD_CALLBACK)
            assert (served.router.session_count, Noted.seen) == (0, [])


@transports
@pytest.mark.parametrize(
    "query", ["", "?", "?c", "?c=", "?callback=", "?c=&callback=", "?x=a", "?C=a", "?c%00=a"]
)
async def test_missing_callback_is_named(serve: Serve, transport: str, query: str) -> None:
    served = await serve(Echo)
    assert_refused(await ask(served, transport, query), NO_CALLBACK)
    assert served.router.session_count == 0


@transports
@pytest.mark.parametrize(
    ("query", "callback"),
    [
        ("?c=_jp.aXyZ12", "_jp.aXyZ12"),
        ("?callback=_jp.aXyZ12", "_jp.aXyZ12"),
        ("?c=a-b_c.D9", "a-b_c.D9"),
        ("?c=" + "x" * 128, "x" * 128),
        ("?c=%61%5Fb", "a_b"),
        ("?c=a&c=alert(1)", "a"),
        ("?callback=a&callback=alert(1)", "a"),
        ("?callback=alert(1)&c=a", "a"),
        ("?c=&callback=a", "a"),
        ("?t=1&c=a&x=<script>", "a"),
    ],
)
async def test_good_callback_is_used_as_it_is(
    serve: Serve, transport: str, query: str, callback: str
) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("GET", f"{served.prefix}/000/1/{transport}{query}")
    head = await wire.head()
    assert head.status == 200
    assert head.header("X-Content-Type-Options") == "nosniff"
    if transport == "jsonp":
        body = await wire.reader.readexactly(int(head.header("Content-Length") or 0))
        assert body == b'/**/%b("o");\r\n' % callback.encode()
    else:
        prelude = await wire.chunk()
        assert b"\n    var c = parent.%b;\n" % callback.encode() in prelude
        assert prelude.count(b"<script>") == prelude.count(b"</script>") == 1
    wire.close()


@transports
@pytest.mark.parametrize("query", ["?c=alert(1)&c=a", "?c=alert(1)&callback=a"])
async def test_first_of_repeated_callbacks_counts(serve: Serve, transport: str, query: str) -> None:
    served = await serve(Echo)
    assert_refused(await ask(served, transport, query), BAD_CALLBACK)


@transports
@pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
async def test_bad_callback_disturbs_no_session_that_is_there(
    serve: Serve, transport: str, kind: type[clients.Client]
) -> None:
    served = await serve(Echo)
    client = await kind.open(served)
    await asyncio.sleep(0)
    for query, text in [("?c=<script>", BAD_CALLBACK), ("", NO_CALLBACK)]:
        reply = await served.request("GET", f"{client.path}/{transport}{query}")
        assert_refused(reply, text)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()

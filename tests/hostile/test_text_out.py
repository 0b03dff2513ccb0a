"""Text that tries to leave its frame: to end a script element, an event or a line."""

import asyncio
import json
import re
import shutil
from urllib.parse import unquote

import pytest

from tests import clients
from tests.conftest import Echo, Recorder, Serve, Served, require

CALLBACK = "_jp.aXyZ12"

NASTY = {
    "end-of-script": "</script><script>alert(1)</script>",
    "end-in-capitals": "</SCRIPT\t>",
    "comment": "<!--<script>",
    "end-of-comment": "--><!-- --!>",
    "CDATA": "<![CDATA[ ]]>",
    "separators": "\u2028\u2029",
    "quotes": '"\'`"+alert(1)+"',
    "backslashes": '\\\\\\"\\u003c\\u003c/script>\\',
    "backslash-at-the-end": "\\",
    "line-ends": '\r\n\r\ndata: c[3000,"x"]\r\n\r\n',
    "NUL": "a\0b\0",
    "controls": "".join(map(chr, range(0x20))) + "\x7f\x80\x85\x9f",
    "percent": "%0D%0A%00%25%41%u2028%",
    "template": "${alert(1)}",
    "surrogates": "<\ud800</script>\udfff<\U0001f400",
    "other-brackets": "\uff1c/script\uff1e\u2039",
    "BOM": "\ufeff</script>\ufffe\uffff",
    "like-a-frame": 'c[3000,"x"]\nh\no',
}
nasty = pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
LITERAL = re.compile(rb'"(?:[^"\\<\x00-\x1f]|\\["\\]|\\u003c)*"')
"""A JavaScript string that no HTML parser and no line reader can take for anything else."""


class Parting(Recorder):
    """Sends every message back, and closes with it."""

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)
        self.close(3000, str(message))


async def frames_out(served: Served, transport: str, text: str) -> list[bytes]:
    """Have `text` sent and given as the reason; return what carries the two frames."""
    wire = await served.wire()
    url = f"{served.prefix}/000/1/{transport}"
    query, method = f"?c={CALLBACK}", "POST" if transport.startswith("xhr") else "GET"
    is_poll = transport in ("xhr", "jsonp")
    wire.send(method, url + query, b"" if method == "POST" else None)
    if is_poll:
        await wire.reply()  # the open frame
    else:
        await wire.head()
        await wire.chunk()  # the prelude
        await wire.chunk()
    assert await served.post("/000/1", json.dumps([text])) == 204
    if not is_poll:
        return [await wire.chunk(), await wire.chunk()]
    bodies = []
    for _ in range(2):
        wire.send(method, url + query, b"" if method == "POST" else None)
        bodies.append((await wire.reply()).body)
    return bodies


def assert_frames(frames: list[str], text: str) -> None:
    """Make sure that `frames` carry `text` as a message and as a reason."""
    message, close = frames
    assert json.loads(message.removeprefix("a")) == [text]
    assert json.loads(close.removeprefix("c")) == [3000, text]


@nasty
async def test_script_is_one_string_that_cannot_end_its_element(serve: Serve, text: str) -> None:
    for transport, before, after in [
        ("htmlfile", b"<script>\np(", b");\n</script>\r\n"),
        ("jsonp", b"/**/%b(" % CALLBACK.encode(), b");\r\n"),
    ]:
        scripts = await frames_out(await serve(Parting), transport, text)
        literals = []
        for script in scripts:
            assert script.startswith(before) and script.endswith(after)
            literal = script[len(before) : -len(after)]
            assert LITERAL.fullmatch(literal), literal
            assert not {0x2028, 0x2029} & set(map(ord, literal.decode()))
            literals.append(json.loads(literal))
        assert_frames(literals, text)


@nasty
async def test_frame_is_one_event(serve: Serve, text: str) -> None:
    events = await frames_out(await serve(Parting), "eventsource", text)
    frames = []
    for event in events:
        found = re.fullmatch(rb"data: ([^\r\n\x00]*)\r\n\r\n", event)
        assert found, event
        frames.append(unquote(found[1].decode()))  # sockjs-client does the same
    assert_frames(frames, text)


@nasty
@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
async def test_frame_is_one_line(serve: Serve, transport: str, text: str) -> None:
    lines = await frames_out(await serve(Parting), transport, text)
    assert all(line.count(b"\n") == 1 and b"\r" not in line for line in lines)
    assert_frames([line.decode().removesuffix("\n") for line in lines], text)


ENGINE = """
let _jp = {}, input = "", out = [];
_jp.aXyZ12 = p = text => out.push(text);
process.stdin.on("data", data => input += data).on("end", () => {
    for (const script of JSON.parse(input)) (0, eval)(script);
    process.stdout.write(JSON.stringify(out));
});
"""


@pytest.mark.programs
async def test_javascript_engine_reads_every_string_as_meant(serve: Serve) -> None:
    node = shutil.which("node")
    require(node, "node")
    scripts = []
    for text in NASTY.values():
        for transport in ("htmlfile", "jsonp"):
            for script in await frames_out(await serve(Parting), transport, text):
                inner = script.replace(b"<script>", b"").replace(b"</script>", b"")
                scripts.append(inner.decode())
    engine = await asyncio.create_subprocess_exec(
        *(str(node), "-e", ENGINE), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await engine.communicate(json.dumps(scripts).encode())
    frames = json.loads(out)
    assert len(frames) == len(scripts)
    for number, text in enumerate(NASTY.values()):
        assert_frames(frames[number * 4 : number * 4 + 2], text)
        assert_frames(frames[number * 4 + 2 : number * 4 + 4], text)


@nasty
async def test_reason_reaches_raw_websockets_as_utf_8(serve: Serve, text: str) -> None:
    client = await clients.RawWebSocket.open(await serve(Parting))
    sendable = text.encode("utf-8", "replace").decode()
    await client.send(sendable)
    assert await client.messages(1) == [sendable]
    assert json.loads((await client.frame()).removeprefix(b"c")) == [3000, sendable]


async def test_text_of_other_clients_is_no_exception(serve: Serve) -> None:
    class Chat(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.broadcast(self.connections, message)

    served = await serve(Chat)
    victim = await clients.HtmlFile.open(served)  # its pattern lets no bracket pass
    other = await clients.Jsonp.open(served)
    attacker = await clients.WebSocket.open(served)
    await attacker.send(*NASTY.values())
    for client in (victim, other, attacker):
        assert await client.messages(len(NASTY)) == list(NASTY.values())
        await client.leave()


async def test_echo_of_every_dangerous_pair_of_characters(serve: Serve) -> None:
    served = await serve(Echo)
    characters = "</>!-\\\"'%\r\n\0\u2028\ud800"
    texts = [first + second for first in characters for second in characters]
    for kind in clients.SOCKJS:
        client = await kind.open(served)
        await client.send(*texts)
        assert await client.messages(len(texts)) == texts
        await client.leave()

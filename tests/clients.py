"""One client class for each transport, all with the same methods; they speak to real sockets."""

import asyncio
import itertools
import json
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import async_timeout

from tests.target import Target
from tests.wire import Wire

TIMEOUT = 20  # seconds for whatever a test waits for

_numbers = itertools.count()


class Client:
    """A client of one session.

    `frame` gives the next frame as bytes; b"" when a response or the connection has ended.

    Options: `query`, which like sockjs-client's goes along with every request, `headers`, and what
    else `Wire.send` takes.
    """

    name: str
    is_http = True

    def __init__(self, served: Target, options: dict[str, Any]) -> None:
        self.served = served
        self.path = f"/000/session{next(_numbers)}"
        self.query = options.pop("query", "")
        self.headers = options.get("headers", {})
        self.options = options
        self._frames: list[bytes] = []

    @classmethod
    async def open(cls, served: Target, **options: Any) -> Any:
        """Open a session and see its open frame."""
        client = cls(served, options)
        await client.connect()
        assert await client.frame() == b"o"
        return client

    async def connect(self) -> None:
        """Start what receives."""
        raise NotImplementedError

    async def frame(self) -> bytes:
        async with async_timeout.timeout(TIMEOUT):
            return await self._frame()

    async def _frame(self) -> bytes:
        raise NotImplementedError

    async def messages(self, count: int) -> list[str]:
        """Receive `count` messages, in as many frames as it takes, heartbeats between them."""
        messages: list[str] = []
        while len(messages) < count:
            frame = await self.frame()
            if frame == b"h":
                continue
            assert frame[:1] == b"a", frame
            messages += json.loads(frame[1:])
        return messages

    async def send(self, *messages: str) -> None:
        """Send messages in one payload."""
        assert await self.send_payload(json.dumps(messages)) in (200, 204)

    async def send_payload(self, payload: str | bytes) -> int:
        url = self.url("/xhr_send")
        return (await self.served.request("POST", url, payload, headers=self.headers)).status

    def url(self, end: str) -> str:
        """Return where `end` of the session is, with the query."""
        joint = "&" if "?" in end else "?"
        return self.path + end + (joint + self.query if self.query else "")

    async def leave(self) -> None:
        """Close the connection that receives."""
        raise NotImplementedError

    def abort(self) -> None:
        """Reset the connection that receives."""
        raise NotImplementedError

    def stop_reading(self) -> None:
        """Leave what comes to the kernel, until its buffers are full."""
        raise NotImplementedError


class Xhr(Client):
    name = "xhr"

    def _request(self) -> tuple[str, str]:
        return "POST", "/xhr"

    def _undress(self, body: bytes) -> bytes:
        assert body[-1:] == b"\n"
        return body[:-1]

    async def connect(self) -> None:
        self.wire = await self.served.wire()
        self._ask()

    def _ask(self) -> None:
        method, url = self._request()
        body = b"" if method == "POST" else None
        self.wire.send(method, self.served.prefix + self.url(url), body, **self.options)

    async def _frame(self) -> bytes:
        reply = await self.wire.reply()
        assert reply.status == 200, reply
        frame = self._undress(reply.body)
        self._ask()
        return frame

    async def leave(self) -> None:
        self.wire.close()

    def abort(self) -> None:
        self.wire.abort()

    def stop_reading(self) -> None:
        self.wire.stop_reading()


class Jsonp(Xhr):
    name = "jsonp"

    def _request(self) -> tuple[str, str]:
        return "GET", "/jsonp?c=_jp.aXyZ12"

    def _undress(self, body: bytes) -> bytes:
        found = re.fullmatch(rb'/\*\*/_jp\.aXyZ12\((".*")\);\r\n', body)
        assert found, body
        return str(json.loads(found[1])).encode("utf-8", "surrogatepass")

    async def send_payload(self, payload: str | bytes) -> int:
        form = "d=" + quote(payload)
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self.headers}
        url = self.url("/jsonp_send")
        return (await self.served.request("POST", url, form, headers=headers)).status


class XhrStreaming(Client):
    name = "xhr_streaming"
    prelude = rb"h{2048}\n"
    pattern = rb"(?s)(.*)\n"

    def _request(self) -> tuple[str, str]:
        return "POST", "/xhr_streaming"

    def _undress(self, frame: bytes) -> bytes:
        return frame

    async def connect(self) -> None:
        self.wire: Wire = await self.served.wire()
        method, url = self._request()
        body = b"" if method == "POST" else None
        self.wire.send(method, self.served.prefix + self.url(url), body, **self.options)
        reply = await self.wire.head()
        assert reply.status == 200, reply
        self.is_chunked = reply.header("Transfer-Encoding") == "chunked"
        prelude = await self._chunk()
        assert re.fullmatch(self.prelude, prelude), prelude

    async def _chunk(self) -> bytes:
        assert self.is_chunked, "frames can be told apart by their chunks only"
        return await self.wire.chunk()

    async def _frame(self) -> bytes:
        try:
            chunk = await self._chunk()
            while chunk and not chunk.endswith(b"\n"):  # a relay may have taken a chunk apart
                chunk += await self._chunk()
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        return self.undressed(chunk) if chunk else b""

    def undressed(self, chunk: bytes) -> bytes:
        """Take the frame out of a chunk."""
        found = re.fullmatch(self.pattern, chunk)
        assert found, chunk
        return self._undress(found[1])

    async def leave(self) -> None:
        self.wire.close()

    def abort(self) -> None:
        self.wire.abort()

    def stop_reading(self) -> None:
        self.wire.stop_reading()


class EventSource(XhrStreaming):
    name = "eventsource"
    prelude = rb"\r\n"
    pattern = rb"data: ([^\r\n\0]*)\r\n\r\n"

    def _request(self) -> tuple[str, str]:
        return "GET", "/eventsource"

    def _undress(self, frame: bytes) -> bytes:
        assert b"%" not in frame.replace(b"%25", b"")
        return frame.replace(b"%25", b"%")


class HtmlFile(XhrStreaming):
    name = "htmlfile"
    prelude = rb"(?s)<!doctype html>.*var c = parent\.callback;.*</script> +\r\n\r\n"
    pattern = rb'<script>\np\(("[^\r\n<]*")\);\n</script>\r\n'

    def _request(self) -> tuple[str, str]:
        return "GET", "/htmlfile?c=callback"

    def _undress(self, frame: bytes) -> bytes:
        return str(json.loads(frame)).encode("utf-8", "surrogatepass")


class WebSocket(Client):
    name = "websocket"
    is_http = False

    async def connect(self) -> None:
        self.socket: aiohttp.ClientWebSocketResponse = await self.served.session.ws_connect(
            self.served.url(self.url("/websocket")),
            headers=self.headers,
            autoclose=False,
            max_msg_size=0,
        )
        self.served.sockets.append(self.socket)

    async def _frame(self) -> bytes:
        message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return bytes(message.data.encode())
        self.close_code = message.data
        await self.socket.close()
        return b""

    async def send_payload(self, payload: str | bytes) -> int:
        await self.socket.send_str(payload if isinstance(payload, str) else payload.decode())
        return 204

    async def leave(self) -> None:
        await self.socket.close()

    def abort(self) -> None:
        self.socket._writer.transport.abort()

    def stop_reading(self) -> None:
        self.socket._writer.transport.pause_reading()


class RawWebSocket(WebSocket):
    """Shows messages as if they had come in frames, so that the same tests can be run."""

    name = "rawwebsocket"

    def url(self, end: str) -> str:
        return super().url(end).removeprefix(self.path)

    async def connect(self) -> None:
        await super().connect()
        self._frames.append(b"o")

    async def _frame(self) -> bytes:
        if self._frames:
            return self._frames.pop()
        message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return b"a" + json.dumps([message.data]).encode()
        if message.type is aiohttp.WSMsgType.CLOSE and not self.socket.closed:
            await self.socket.close()
            return f"c[{message.data},{json.dumps(message.extra)}]".encode()
        return b""

    async def send(self, *messages: str) -> None:
        for message in messages:
            await self.socket.send_str(message)


ALL = [WebSocket, RawWebSocket, Xhr, XhrStreaming, EventSource, HtmlFile, Jsonp]
SOCKJS = [client for client in ALL if client is not RawWebSocket]
HTTP = [client for client in ALL if client.is_http]
STREAMS = [XhrStreaming, EventSource, HtmlFile]
POLLS = [Xhr, Jsonp]

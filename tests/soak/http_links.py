"""Lean clients of the transports over HTTP."""

import asyncio
import json
import os
import random
import re
from urllib.parse import quote

from tests.soak.link import Event, Gone, Link, check_status, connect, parsed, reset
from tests.wire import Wire


class HttpLink(Link):
    """What the transports over HTTP share: a connection that receives, and one that sends."""

    method = "POST"
    query = ""
    sending = "xhr_send"

    def __init__(self, port: int, token: int, *, small: bool = False) -> None:
        super().__init__(port, token, small=small)
        self.up: Wire | None = None
        self.path = f"/soak/{token % 1000:03}/{token}-{os.getpid()}"

    def ask(self) -> None:
        """Send the request that receives."""
        assert self.down is not None
        url = f"{self.path}/{self.name}?client={self.token}{self.query}"
        self.down.send(self.method, url, b"" if self.method == "POST" else None)

    async def open(self) -> None:
        self.down = await connect(self.port, small=self.small)
        if await self.receive() != ("o", None):
            raise Gone("no open frame")

    def undress(self, data: bytes) -> bytes:
        return data

    def payload(self, messages: list[str]) -> tuple[str, dict[str, str]]:
        return json.dumps(messages), {}

    async def send(self, messages: list[str]) -> None:
        if self.up is None:
            self.up = await connect(self.port, small=False)
        body, headers = self.payload(messages)
        self.up.send("POST", f"{self.path}/{self.sending}", body, headers=headers)
        check_status(await self.up.reply(), 200, 204)

    async def send_half(self) -> None:
        if self.up is None:
            self.up = await connect(self.port, small=False)
        head = f"POST {self.path}/{self.sending} HTTP/1.1\r\nHost: localhost\r\n"
        self.up.writer.write(head.encode() + b'Content-Length: 1000\r\n\r\n["half')

    def abort(self) -> None:
        reset(self.down)
        reset(self.up)

    def close(self) -> None:
        for wire in (self.down, self.up):
            if wire is not None:
                wire.close()


class Xhr(HttpLink):
    """Polls; if `pipelined`, what it sends goes in front of a poll on the same connection."""

    name = "xhr"
    is_closed = False
    pipelined = False

    def __init__(self, port: int, token: int, *, small: bool = False) -> None:
        super().__init__(port, token, small=small)
        self._waiting: list[str] = []

    async def receive(self) -> Event | None:
        if self.is_closed or not self.returns:
            return None
        if self.pause:
            await asyncio.sleep(random.uniform(0, self.pause))
        assert self.down is not None
        is_sending = bool(self._waiting)
        if is_sending:
            body, headers = self.payload(self._waiting)
            self._waiting = []
            self.down.send("POST", f"{self.path}/{self.sending}", body, headers=headers)
        self.ask()
        if is_sending:
            check_status(await self.down.reply(), 200, 204)
        reply = await self.down.reply()
        check_status(reply, 200)
        event = parsed(self.undress(reply.body))
        self.is_closed = event[0] == "c"
        return event

    async def send(self, messages: list[str]) -> None:
        if self.pipelined:
            self._waiting += messages
        else:
            await super().send(messages)

    def undress(self, data: bytes) -> bytes:
        assert data[-1:] == b"\n", data
        return data[:-1]


class Jsonp(Xhr):
    name = "jsonp"
    method = "GET"
    query = "&c=_jp.aXyZ12"
    sending = "jsonp_send"

    def payload(self, messages: list[str]) -> tuple[str, dict[str, str]]:
        form = "d=" + quote(json.dumps(messages))
        return form, {"Content-Type": "application/x-www-form-urlencoded"}

    def undress(self, data: bytes) -> bytes:
        assert data.startswith(b"/**/_jp.aXyZ12(") and data.endswith(b");\r\n"), data
        return bytes(json.loads(data[15:-4]).encode())


class XhrStreaming(HttpLink):
    name = "xhr_streaming"
    pattern = re.compile(rb"(?s)(.*)\n")
    is_closed = False
    is_streaming = False

    async def receive(self) -> Event | None:
        assert self.down is not None
        while not self.is_closed:
            if not self.is_streaming:
                if not self.returns:
                    return None
                await self._begin(self.down)
            chunk = await self.down.chunk()
            if chunk:
                return self._event(chunk)
            self.is_streaming = False
        return None

    async def _begin(self, wire: Wire) -> None:
        if self.pause:
            await asyncio.sleep(random.uniform(0, self.pause))
        self.ask()
        reply = await wire.head()
        check_status(reply, 200)
        await wire.chunk()  # the prelude
        self.is_streaming = True

    def _event(self, chunk: bytes) -> Event:
        found = self.pattern.fullmatch(chunk)
        assert found, chunk
        event = parsed(self.undress(found[1]))
        self.is_closed = event[0] == "c"
        return event


class EventSource(XhrStreaming):
    name = "eventsource"
    method = "GET"
    pattern = re.compile(rb"data: ([^\r\n\0]*)\r\n\r\n")

    def undress(self, data: bytes) -> bytes:
        return data.replace(b"%25", b"%")


class HtmlFile(XhrStreaming):
    name = "htmlfile"
    method = "GET"
    query = "&c=callback"
    pattern = re.compile(rb'<script>\np\(("[^\r\n<]*")\);\n</script>\r\n')

    def undress(self, data: bytes) -> bytes:
        return bytes(json.loads(data).encode())

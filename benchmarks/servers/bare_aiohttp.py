"""What aiohttp itself costs: the same traffic without a SockJS server.

The WebSockets echo and broadcast messages as they are.  The HTTP handlers put the bytes of a SockJS
server on the wire, and do nothing else: no checks, no limits, no heartbeats, no end of a session.
"""

import argparse
import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

HEADERS = {
    "Content-Type": "application/javascript; charset=UTF-8",
    "Cache-Control": "no-store, no-cache, no-transform, must-revalidate, max-age=0",
    "Access-Control-Allow-Origin": "*",
}
SENT_HEADERS = HEADERS | {"Content-Type": "text/plain; charset=UTF-8"}
PRELUDE = b"h" * 2048 + b"\n"
RESPONSE_LIMIT = 131072

everybody: set[web.WebSocketResponse] = set()
queues: dict[str, "asyncio.Queue[list[str]]"] = {}
"""What sessions are to be sent, by their id."""


# WebSockets.


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def broadcast(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    everybody.add(socket)
    async for message in socket:
        for receiver in everybody:
            await receiver.send_str(message.data)
    everybody.discard(socket)
    return socket


# The bytes of xhr_streaming and xhr.


def array_frame(messages: list[str]) -> bytes:
    return b"a%b\n" % json.dumps(messages, separators=(",", ":")).encode()


def find(request: web.Request) -> "tuple[asyncio.Queue[list[str]], bool]":
    """Return the queue of a session, and whether it is new."""
    session_id = request.match_info["session_id"]
    if session_id in queues:
        return queues[session_id], False
    queue = queues[session_id] = asyncio.Queue()
    return queue, True


async def xhr(request: web.Request) -> web.StreamResponse:
    queue, is_new = find(request)
    body = b"o\n" if is_new else array_frame(await queue.get())
    return web.Response(body=body, headers=HEADERS)


async def xhr_streaming(request: web.Request) -> web.StreamResponse:
    queue, is_new = find(request)
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    await response.write(PRELUDE)
    if is_new:
        await response.write(b"o\n")
    written = 0
    while written < RESPONSE_LIMIT:
        frame = array_frame(await queue.get())
        await response.write(frame)
        written += len(frame)
    return response


async def xhr_send(request: web.Request) -> web.StreamResponse:
    queue, _ = find(request)
    queue.put_nowait(json.loads(await request.read()))
    return web.Response(status=204, headers=SENT_HEADERS)


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", echo)
    app.router.add_get("/broadcast", broadcast)
    handlers: dict[str, Any] = {"xhr": xhr, "xhr_streaming": xhr_streaming, "xhr_send": xhr_send}
    for name, handler in handlers.items():
        app.router.add_post(f"/echo/{{server_id}}/{{session_id}}/{name}", handler)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    loop = None
    if options.uvloop:
        import uvloop

        loop = uvloop.new_event_loop()
    web.run_app(make_app(), host="127.0.0.1", port=options.port, access_log=None, loop=loop)


if __name__ == "__main__":
    main()

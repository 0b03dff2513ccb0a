"""A client of SockJS services for Python programs, on aiohttp's client.

::

    async with connect("https://example.com/chat") as socket:
        await socket.send("hello")
        async for message in socket:
            print(message)
"""

from sockjs_aio.client.connecting import connect
from sockjs_aio.client.options import TRANSPORTS, ClientOptions
from sockjs_aio.client.socket import ClientSocket
from sockjs_aio.errors import ConnectError, ConnectionClosedError

__all__ = [
    "TRANSPORTS",
    "ClientOptions",
    "ClientSocket",
    "ConnectError",
    "ConnectionClosedError",
    "connect",
]

"""Tests of your own application: real clients on every transport, and a network that fails.

::

    async with client(app, "/chat", transport="xhr") as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"
        await socket.drop()
        assert (await socket.closed()).initiator == "network"

It needs asyncio only, so it works with pytest and with `unittest.IsolatedAsyncioTestCase`.
"""

from sockjs_aio.testing.brokers import LinkedBroker, linked_brokers
from sockjs_aio.testing.clients import TRANSPORTS, Client, ClientFactory, client
from sockjs_aio.testing.server import serve

__all__ = [
    "TRANSPORTS",
    "Client",
    "ClientFactory",
    "LinkedBroker",
    "client",
    "linked_brokers",
    "serve",
]

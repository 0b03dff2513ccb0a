"""Clients behind a proxy that shares its connections; ``--proxy sharing`` runs more tests so."""

import asyncio

import pytest

from tests import clients
from tests.conftest import SHORT, Echo, Serve
from tests.sharing_proxy import SharingProxy

pytestmark = pytest.mark.not_over("tls", "sharing")  # there is one already, which speaks no TLS


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_each_client_gets_what_is_for_it(serve: Serve, kind: type[clients.Client]) -> None:
    served = await serve(Echo, settings=SHORT)
    proxy = SharingProxy(served.port)
    await proxy.start()
    served.port = proxy.port
    members = [await kind.open(served) for _ in range(5)]
    for turn in range(3):
        for number, client in enumerate(members):
            await client.send(f"{number} {turn}")
        answers = await asyncio.gather(*(client.messages(1) for client in members))
        assert answers == [[f"{number} {turn}"] for number in range(5)]
    for client in members:
        await client.leave()
    await served.until_empty()
    assert not kind.is_http or proxy.shared > 5
    await proxy.stop()

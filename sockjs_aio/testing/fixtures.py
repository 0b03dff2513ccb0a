"""The fixture of pytest; load it with ``pytest_plugins = ["sockjs_aio.testing.fixtures"]``."""

import functools
from typing import Any

import pytest

from sockjs_aio.testing.clients import TRANSPORTS, ClientFactory, client


@pytest.fixture(params=TRANSPORTS)
def sockjs(request: pytest.FixtureRequest) -> ClientFactory:
    """`client` with each transport in turn: ``async with sockjs(app, "/chat") as socket:``.

    To run a test on some transports only, write
    ``@pytest.mark.parametrize("sockjs", ["websocket", "xhr"], indirect=True)``.
    """
    transport: Any = request.param
    return functools.partial(client, transport=transport)

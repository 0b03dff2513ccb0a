"""TLS in the process: what asyncio's TLS transports answer once they are closed."""

import ast
from pathlib import Path

import pytest

import sockjs_aio
from tests import clients
from tests.certificate import contexts, make_certificate
from tests.conftest import SHORT, Recorder, Serve

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)

QUESTIONS = {"get_write_buffer_size", "set_write_buffer_limits", "get_extra_info"}
"""What a closed TLS transport fails at."""


@http
@pytest.mark.parametrize("way", ["leave", "abort"])
async def test_client_that_leaves_is_forgotten(
    serve: Serve, kind: type[clients.Client], way: str, tmp_path: Path
) -> None:
    class Left(Recorder):
        pass

    served = await serve(Left, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    client = await kind.open(served)
    if way == "leave":
        await client.leave()
    else:
        client.abort()
    await Left.until("close")
    await served.until_empty()
    assert Left.seen == ["open", "close"]


async def test_client_that_does_not_poll_again_is_forgotten(serve: Serve, tmp_path: Path) -> None:
    class Left(Recorder):
        pass

    served = await serve(Left, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    assert await served.poll("/000/1") == b"o"  # and its connection ends
    await Left.until("close")
    await served.until_empty()
    assert Left.seen == ["open", "close"]


@pytest.mark.parametrize("end", ["close", "leave", "abort"])
@pytest.mark.parametrize("kind", [clients.WebSocket, clients.RawWebSocket])
async def test_websocket_that_ends_leaves_nothing_in_the_log(
    serve: Serve, kind: type[clients.Client], end: str, tmp_path: Path
) -> None:
    class Ended(Recorder):
        pass

    served = await serve(Ended, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    client = await kind.open(served)
    await Ended.until("open")
    if end == "close":
        Ended.connections[0].close(4001, "bye")
    elif end == "leave":
        await client.leave()
    else:
        client.abort()
    await Ended.until("close")
    await client.leave()
    await served.until_empty()


def test_only_one_module_asks_transports_that_may_be_closed() -> None:
    asking = set()
    root = Path(sockjs_aio.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in QUESTIONS:
                asking.add(path.relative_to(root).as_posix())
    assert asking == {"tcp.py"}

"""The Python client behind tinyproxy, a forward proxy such as companies have."""

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import async_timeout
import pytest

from sockjs_aio import SockJSConnection
from sockjs_aio.client import ConnectError, ConnectionClosedError, connect
from sockjs_aio.testing import TRANSPORTS
from tests.certificate import contexts, make_certificate
from tests.conftest import Serve, Served, require
from tests.integration.haproxy import find_program, listens, wait_until
from tests.ports import free_port
from tests.process import PATIENCE
from tests.test_bench_command import run

USER, PASSWORD = "ann", "secret"

pytestmark = pytest.mark.haproxy


class Tinyproxy:
    """The proxy, which asks for a password."""

    def __init__(self, directory: Path, port: int) -> None:
        self.log = directory / "log"
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"

    def count(self, method: str) -> int:
        """Return how many requests with this method it has let through."""
        return self.log.read_text().count(f"): {method} ")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tinyproxy]:
    program = find_program("tinyproxy")
    require(program, "tinyproxy")
    directory, port = tmp_path_factory.mktemp("tinyproxy"), free_port()
    proxy = Tinyproxy(directory, port)
    lines = [f"Port {port}", "Listen 127.0.0.1", "LogLevel Connect", f'LogFile "{proxy.log}"']
    lines += ["MaxClients 50", f"BasicAuth {USER} {PASSWORD}", ""]
    (directory / "conf").write_text("\n".join(lines))
    process = subprocess.Popen([str(program), "-d", "-c", directory / "conf"])
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None
        yield proxy
    finally:
        process.kill()
        process.wait(PATIENCE)


class Obedient(SockJSConnection):
    """Echoes, or closes."""

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4001, "as told")
        else:
            self.send(message)


async def talk(url: str, name: str, session: aiohttp.ClientSession) -> None:
    async with connect(url, transports=name, session=session) as socket:
        for text in ("a", "ä€😀" * 10_000, "b"):
            await socket.send(text)
            assert await socket.receive() == text
        await socket.send("close")
        with pytest.raises(ConnectionClosedError, match="4001 as told"):
            await socket.receive()


async def until_left(served: Served) -> None:
    """Wait until the proxy has closed its connections, which it does after the client."""
    async with async_timeout.timeout(PATIENCE):
        while served.http_connections():
            await asyncio.sleep(0.01)


async def served_over(serve: Serve, tmp_path: Path, scheme: str) -> tuple[Served, ssl.SSLContext]:
    """Serve; return the server, and what its clients need for TLS."""
    server_tls, client_tls = contexts(make_certificate(tmp_path))
    pair = (server_tls, client_tls) if scheme == "https" else None
    return await serve(Obedient, tls=pair), client_tls


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_every_transport_passes_over_tls(
    serve: Serve, proxy: Tinyproxy, tmp_path: Path, name: str
) -> None:
    served, tls = await served_over(serve, tmp_path, "https")
    before = proxy.count("CONNECT")
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(proxy=proxy.url, connector=connector) as session:
        await talk(served.url(), name, session)
    await until_left(served)
    assert proxy.count("CONNECT") > before


@pytest.mark.not_over("tls", "this is about plain HTTP")
@pytest.mark.parametrize("name", [name for name in TRANSPORTS if "websocket" not in name])
async def test_http_transports_pass_without_tls(serve: Serve, proxy: Tinyproxy, name: str) -> None:
    """tinyproxy ends a connection behind each response, without saying so."""
    served = await serve(Obedient)
    before = proxy.count("POST")
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(proxy=proxy.url, connector=connector) as session:
        await talk(served.url(), name, session)
    await until_left(served)
    assert proxy.count("POST") > before


@pytest.mark.not_over("tls", "this is about plain HTTP")
async def test_proxy_that_does_not_pass_websockets_has_the_next_transport_tried(
    serve: Serve, proxy: Tinyproxy
) -> None:
    url = (await serve(Obedient)).url()
    async with (
        aiohttp.ClientSession(proxy=proxy.url) as session,
        connect(url, session=session) as socket,
    ):
        assert socket.transport == "xhr_streaming"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_of_the_environment_is_used(
    serve: Serve,
    proxy: Tinyproxy,
    tmp_path: Path,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served, tls = await served_over(serve, tmp_path, scheme)
    monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
    method = {"http": "POST", "https": "CONNECT"}[scheme]
    before = proxy.count(method)
    async with aiohttp.ClientSession(trust_env=True, connector=connector) as session:
        await talk(served.url(), "xhr", session)
    await until_left(served)
    assert proxy.count(method) > before


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_wrong_password_is_named_and_not_shown(
    serve: Serve, proxy: Tinyproxy, tmp_path: Path, scheme: str
) -> None:
    served, tls = await served_over(serve, tmp_path, scheme)
    wrong = proxy.url.replace(PASSWORD, "wr0ng")
    connector = aiohttp.TCPConnector(ssl=tls)
    # other proxies answer 407
    async with aiohttp.ClientSession(proxy=wrong, connector=connector) as session:
        with pytest.raises(ConnectError, match="401 Unauthorized") as error:
            await connect(served.url(), session=session)
    assert not error.value.is_temporary
    assert "wr0ng" not in str(error.value)
    if scheme == "https":
        assert "the proxy answered the request with" in str(error.value)


@pytest.mark.not_over("tls", "the command would have to be told to trust the test's certificate")
async def test_commands_use_the_proxy_of_the_environment(
    serve: Serve, proxy: Tinyproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (await serve(Obedient)).url()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    before = proxy.count("POST")
    arguments = [url, "--transport", "xhr", "--seconds", "0.3", "--sessions", "2"]
    status, output, said = await run(*arguments)
    assert (status, said) == (0, ""), output
    assert proxy.count("POST") > before

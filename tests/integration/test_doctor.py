"""``sockjs-aio doctor`` behind the real nginx and haproxy, with each of their usual mistakes."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.cli.doctor.tls_check import check_tls
from sockjs_aio.client.address import Address
from tests.certificate import contexts, make_certificate
from tests.client.scripted import response, scripted
from tests.conftest import PATIENCE, Serve, Served, require
from tests.integration.haproxy import find_program, listens, wait_until
from tests.integration.test_nginx import FRAME
from tests.ports import free_port

# not over TLS: the proxies would have to be told to trust the test's certificate
pytestmark = [pytest.mark.haproxy, pytest.mark.not_over("tls")]

ROOT = Path(__file__).parents[2]

NGINX = """
upstream sockjs {{
    {servers}
}}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://sockjs;
        {lines}
    }}
}}
"""
HTTP_1_1 = "proxy_http_version 1.1;"
UPGRADE = (
    HTTP_1_1 + 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
)
FOR_WEBSOCKETS = f"}} location ~ websocket$ {{ proxy_pass http://sockjs; {UPGRADE}"
"""Ends one location and begins another, in which only WebSockets are."""
SIZE = "client_max_body_size 2m;"

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client {timeout}
    timeout server {timeout}
    timeout tunnel {timeout}
frontend clients
    bind 127.0.0.1:{port}
    default_backend sessions
backend sessions
    balance {balance}
    {servers}
"""

STICKY = "hash path,field(-2,/,2)"


@contextlib.contextmanager
def running(directory: Path, port: int, *command: str) -> Iterator[str]:
    """Run a proxy that listens on `port`; yield its URL."""
    with open(directory / "stderr", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (directory / "stderr").read_text()
        yield f"http://127.0.0.1:{port}/echo"
    finally:
        process.kill()
        process.wait(PATIENCE)


@contextlib.contextmanager
def nginx(directory: Path, servers: list[Served], *lines: str) -> Iterator[str]:
    program = find_program("nginx")
    require(program, "nginx")
    port = free_port()
    names = " ".join(f"server 127.0.0.1:{served.port};" for served in servers)
    block = NGINX.format(servers=names, port=port, lines=" ".join(lines))
    (directory / "nginx.conf").write_text(FRAME % block)
    with running(directory, port, str(program), "-p", str(directory), "-c", "nginx.conf") as url:
        yield url


@contextlib.contextmanager
def haproxy(
    directory: Path, servers: list[Served], *, balance: str = STICKY, timeout: str = "60s"
) -> Iterator[str]:
    program = find_program("haproxy")
    require(program, "haproxy")
    port = free_port()
    names = "\n    ".join(
        f"server s{number} 127.0.0.1:{served.port}" for number, served in enumerate(servers)
    )
    text = HAPROXY.format(servers=names, port=port, balance=balance, timeout=timeout)
    (directory / "haproxy.cfg").write_text(text)
    with running(directory, port, str(program), "-db", "-f", str(directory / "haproxy.cfg")) as url:
        yield url


async def command(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sockjs_aio", "doctor", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE * 3)
    return process.returncode, output.decode(), errors.decode()


Findings = dict[str, dict[str, Any]]


async def examine(url: str, *arguments: str, silence: float = 3) -> Findings:
    """Run the doctor; return its findings by what they are about."""
    options = ("--json", "--silence", str(silence), "--timeout", "4", *arguments)
    status, output, errors = await command(url, *options)
    assert errors == "", errors
    found: list[dict[str, Any]] = json.loads(output)
    is_broken = any(finding["verdict"] == "broken" for finding in found)
    assert status == (1 if is_broken else 0)
    return {finding["subject"]: finding for finding in found}


def broken(findings: Findings) -> set[str]:
    return {subject for subject, found in findings.items() if found["verdict"] == "broken"}


BEATING = {"heartbeat_delay": 1, "session_check_interval": 0.1}
STREAMS = {"xhr_streaming", "eventsource", "htmlfile"}
POLLS = {"xhr", "jsonp"}
WEBSOCKETS = {"websocket", "rawwebsocket"}


async def test_service_without_a_proxy_is_well(serve: Serve) -> None:
    served = await serve(settings=BEATING)
    found = await examine(served.url())
    assert broken(found) == set(), found
    for name in STREAMS | POLLS | WEBSOCKETS:
        assert found[name]["verdict"] == "ok", found
        assert "opened in" in found[name]["text"]
    assert found["sizes"]["text"] == "sends of up to 1000000 bytes pass"


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_proxy_that_is_set_up_well_is_well(serve: Serve, tmp_path: Path, proxy: Any) -> None:
    served = await serve(settings=BEATING)
    lines = (UPGRADE, SIZE) if proxy is nginx else ()
    with proxy(tmp_path, [served], *lines) as url:
        found = await examine(url)
    assert broken(found) == set(), found


IGNORING = "proxy_ignore_headers X-Accel-Buffering;"
HOLDING = {
    "buffering": f"proxy_buffering on; {IGNORING}",
    "compression": f"{HTTP_1_1} gzip on; gzip_types *; gzip_min_length 1; {IGNORING}",
}


@pytest.mark.parametrize("lines", HOLDING.values(), ids=HOLDING)
async def test_buffering_is_named(serve: Serve, tmp_path: Path, lines: str) -> None:
    served = await serve(settings=BEATING)
    with nginx(tmp_path, [served], SIZE, lines, FOR_WEBSOCKETS) as url:
        found = await examine(url)
    assert broken(found) == STREAMS, found
    for name in STREAMS:
        text = "the service has answered, but something holds its answer back"
        assert found[name]["text"] == text
        assert "proxy_buffering off" in found[name]["advice"][0]


async def test_upgrade_that_is_not_passed_is_named(serve: Serve, tmp_path: Path) -> None:
    served = await serve(settings=BEATING)
    with nginx(tmp_path, [served], SIZE, HTTP_1_1) as url:
        found = await examine(url)
    assert broken(found) == WEBSOCKETS
    for name in WEBSOCKETS:
        assert "the upgrade does not reach the service" in found[name]["text"]
        assert "proxy_set_header Upgrade $http_upgrade" in found[name]["advice"][0]


async def test_limit_of_64_kib_is_named(serve: Serve, tmp_path: Path) -> None:
    served = await serve(settings=BEATING)
    with nginx(tmp_path, [served], UPGRADE, "client_max_body_size 64k;") as url:
        found = await examine(url)
    assert broken(found) == {"sizes"}
    text = "a send of 70000 bytes is refused (413), one of 10000 bytes is not"
    assert found["sizes"]["text"] == text
    assert "client_max_body_size" in found["sizes"]["advice"][0]


async def test_timeout_of_nginx_is_named(serve: Serve, tmp_path: Path) -> None:
    served = await serve(settings={"heartbeat_delay": 30})
    with nginx(tmp_path, [served], UPGRADE, SIZE, "proxy_read_timeout 1s;") as url:
        found = await examine(url, silence=6)
    assert broken(found) == STREAMS | POLLS | WEBSOCKETS, found
    for name in STREAMS | POLLS | WEBSOCKETS:
        assert "before a heartbeat came" in found[name]["text"]
        assert "nginx: proxy_read_timeout 60s;" in found[name]["advice"]


async def test_timeout_of_haproxy_is_named(serve: Serve, tmp_path: Path) -> None:
    served = await serve(settings={"heartbeat_delay": 30})
    with haproxy(tmp_path, [served], timeout="1s") as url:
        found = await examine(url, silence=6)
    assert broken(found) == STREAMS | POLLS | WEBSOCKETS, found
    for name in STREAMS | POLLS | WEBSOCKETS:
        assert "before a heartbeat came" in found[name]["text"]
        assert "timeout tunnel 60s" in found[name]["advice"][0]


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
async def test_missing_stickiness_is_named(serve: Serve, tmp_path: Path, proxy: str) -> None:
    servers = [await serve(settings=BEATING), await serve(settings=BEATING)]
    behind = (
        nginx(tmp_path, servers, UPGRADE, SIZE)
        if proxy == "nginx"
        else haproxy(tmp_path, servers, balance="roundrobin")
    )
    with behind as url:
        found = await examine(url)
    assert broken(found) == {"sends"} | STREAMS | POLLS, found
    for name in STREAMS | POLLS:
        assert "haproxy/by-session.cfg" in found[name]["advice"][0]
    assert "sends did not find their session" in found["sends"]["text"]
    assert found["websocket"]["verdict"] == "ok"


async def test_stickiness_by_the_path_is_enough(serve: Serve, tmp_path: Path) -> None:
    servers = [await serve(settings=BEATING), await serve(settings=BEATING)]
    with haproxy(tmp_path, servers) as url:
        assert broken(await examine(url)) == set()


async def test_service_that_talks_or_closes_is_no_mistake(serve: Serve) -> None:
    class Busy(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("welcome")
            if info.transport == "websocket":
                self.close(4001, "who are you?")

    served = await serve(Busy, settings=BEATING)
    found = await examine(served.url())
    assert broken(found) == set()
    assert "4001 who are you?" in found["websocket"]["text"]


async def test_application_gets_no_messages(serve: Serve) -> None:
    got = []

    class Silent(SockJSConnection):
        async def on_message(self, message: str) -> None:
            got.append(message)

    served = await serve(Silent, settings=BEATING)
    await examine(served.url())
    assert got == []


async def test_echoes_are_awaited_on_each_transport(serve: Serve) -> None:
    class Echo(SockJSConnection):
        async def on_message(self, message: str) -> None:
            if self.info.transport != "eventsource":
                self.send(message)

    served = await serve(Echo, settings=BEATING)
    found = await examine(served.url(), "--echo", "hello")
    assert broken(found) == {"eventsource"}
    assert "but did not echo" in found["eventsource"]["text"]
    assert {name for name, each in found.items() if ", echoed in " in each["text"]} == {
        *("websocket", "rawwebsocket", "xhr_streaming", "htmlfile", "xhr", "jsonp")
    }


async def test_origin_version_and_disabled_transports_are_told(serve: Serve) -> None:
    allowed = "https://page.example"
    settings = {**BEATING, "origins": [allowed, "https://own.example"]}
    served = await serve(settings={**settings, "disabled_transports": ["xhr"]})
    found = await examine(served.url(), "--origin", allowed, "--page-version", "1.6.1")
    assert broken(found) == set(), found
    assert found["origin"]["verdict"] == "ok"
    for name, setting in {
        "xhr": "disabled_transports",
        "jsonp": "allow_jsonp_and_frames",
        "htmlfile": "allow_jsonp_and_frames",
    }.items():
        assert found[name]["verdict"] == "note"
        assert setting in found[name]["advice"][0]
    assert found["eventsource"]["verdict"] == "ok"
    found = await examine(served.url(), "--origin", "https://evil.example")
    assert found["origin"]["verdict"] == "broken"
    open_to_all = await serve(settings=BEATING, prefix="/other")
    found = await examine(open_to_all.url(), "--page-version", "1.5.0")
    assert found["iframe"]["text"] == "loads sockjs-client 1.6.1, but your page 1.5.0"


@pytest.mark.parametrize("name", ["h2", "http/1.1"])
async def test_version_of_http_is_told(tmp_path: Path, name: str) -> None:
    context, _ = contexts(make_certificate(tmp_path))
    context.set_alpn_protocols([name])
    server = await asyncio.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    address = Address(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/echo")
    (found,) = await check_tls(address, is_insecure=True)
    shown = {"h2": "TLSv1.3; browsers use HTTP/2", "http/1.1": "TLSv1.3; browsers use HTTP/1.1,"}
    assert found.text.startswith(shown[name])
    (untrusted,) = await check_tls(address, is_insecure=False)
    assert untrusted.text.startswith("not examined: [SSL: CERTIFICATE_VERIFY_FAILED]")
    server.close()


async def test_findings_are_readable_without_json(serve: Serve) -> None:
    served = await serve(settings=BEATING)
    status, output, errors = await command(served.url() + "?token=secret", "--silence", "2")
    assert status == 0, output
    assert "ok     websocket: opened in" in output
    assert errors == f"examining {served.url()}; this takes up to 7 s\n"
    status, output, _ = await command(f"http://127.0.0.1:{free_port()}/echo")
    assert status == 1
    assert output.startswith("broken info: http://127.0.0.1:")
    assert "Cannot connect" in output


async def test_server_that_never_answers_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/echo"
        found = await examine(url)
    assert found["info"]["text"].endswith("/info: the server did not answer in time")


async def test_what_a_server_says_does_nothing_to_the_terminal() -> None:
    end = rb'c[4001,"\ud800\u001b]0;mine\u0007"]' + b"\n"
    page = response(b'<script src="\x1b[31m/sockjs.js">')
    async with scripted(**{"xhr": response(end), "iframe.html": page}) as server:
        status, output, errors = await command(server.url, "--silence", "1", "--timeout", "1")
    assert (status, "Traceback" in errors) == (1, False), errors
    assert r"broken xhr: the service closes it at once: 4001 \ud800\x1b]0;mine\x07" in output
    assert r"iframe: loads \x1b[31m/sockjs.js" in output

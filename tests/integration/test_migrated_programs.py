"""Programs written about 2012 to 2014, moved as the tool and the guide say, and run."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from sockjs_aio.migrate import main
from tests import clients
from tests.conftest import Serve, Served
from tests.integration.test_tornado_examples import shown
from tests.ports import free_port
from tests.test_migrate_python2 import PROGRAMS, converted

web = pytest.importorskip("tornado.web")
pytestmark = pytest.mark.timeout(120)

KINDS = [clients.WebSocket, clients.XhrStreaming, clients.Jsonp]
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@asynccontextmanager
async def running(serve: Serve, prefix: str, port: int, *command: Any) -> AsyncIterator[Any]:
    """Run a program until the end of the block, and end it with SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    served: Any = await serve(prefix="/other")
    served.port, served.prefix, served.process = port, prefix, process
    served.is_ending = False
    await served.until_listening()
    try:
        yield served
    finally:
        if not served.is_ending and process.returncode is None:
            process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


@pytest.fixture
def dashboard(tmp_path: Path) -> Path:
    """The dashboard after `migrate --write`, and a template."""
    shutil.copytree(PROGRAMS / "dashboard", tmp_path / "dashboard")
    (tmp_path / "dashboard/index.html").write_text("<b>{{ user }}</b>")
    assert main([str(tmp_path), "--write"]) == 1  # xsrf_cookies need a decision
    return tmp_path / "dashboard/dashboard.py"


def test_report_names_all_that_is_to_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(PROGRAMS)]) == 1
    told = re.findall(r"(\w+\.\w+):(\d+): ", capsys.readouterr().out)
    source = (PROGRAMS / "dashboard/dashboard.py").read_text().splitlines()
    lines = [source[int(line) - 1].strip() for file, line in told if file == "dashboard.py"]
    assert lines == [
        "from sockjs.tornado import SockJSConnection, SockJSRouter",
        "'loggers': {'sockjs.tornado': {'handlers': ['console'], 'level': 'DEBUG'}},",
        "log = logging.getLogger('tornado.general')",
        "class BaseHandler(tornado.web.RequestHandler):",
        "class IndexHandler(BaseHandler):",
        "class LoginHandler(BaseHandler):",
        "user = cookie and tornado.web.decode_signed_value(SECRET, 'user', cookie.value)",
        "class Application(tornado.web.Application):",
        "tornado.web.Application.__init__(",
        "xsrf_cookies=True,",
        "app.listen(options.port, address=options.address, xheaders=True)",
        "ticker.start()",
        "tornado.ioloop.IOLoop.instance().start()",
    ]
    assert ("requirements.txt", "2") in told


@pytest.mark.parametrize(
    "routes",
    ["router.urls", "[(r'/', web.RequestHandler)] + router.urls", "router.apply_routes([])"],
)
def test_program_whose_start_was_not_changed_ends_at_once(tmp_path: Path, routes: str) -> None:
    """It must not listen with half of what it had."""
    program = tmp_path / "a.py"
    program.write_text(
        "from tornado import ioloop, web\n"
        "from sockjs.tornado import SockJSConnection, SockJSRouter\n"
        "router = SockJSRouter(SockJSConnection, '/echo')\n"
        f"app = web.Application({routes})\n"
        f"app.listen({free_port()})\nioloop.IOLoop.current().start()\n"
    )
    assert main([str(program), "--write"]) == 0
    done = subprocess.run([sys.executable, program], capture_output=True, timeout=50, check=False)
    assert done.returncode == 1 and b"RouteDef" in done.stderr


def test_dashboard_whose_start_was_not_changed_ends_at_once(dashboard: Path) -> None:
    command = [sys.executable, str(dashboard), f"--port={free_port()}"]
    done = subprocess.run(command, capture_output=True, timeout=50, check=False)
    assert done.returncode == 1 and b"RouteDef" in done.stderr


def started_anew(dashboard: Path) -> None:
    """Change the start by hand, as the report and the guide say."""
    source = dashboard.read_text()
    old, _, rest = source.partition("class Application(")
    _, _, main_function = rest.partition("def main():\n")
    settings = rest[rest.index("            cookie_secret") : rest.index("def main()")]
    main_function = main_function[: main_function.index("    app = ")]
    new = (
        "handlers = [(r'/', IndexHandler), (r'/login', LoginHandler)]\n"
        f"old = tornado.web.Application(handlers,\n{settings}"
        "\n\nasync def start_ticking(app):\n"
        "    tornado.ioloop.PeriodicCallback(LoadConnection.tick, 100).start()\n\n\n"
        + re.sub("8081.*", "options.old_port, options.address)", beside())
        + f"\n\ndef main():\n{main_function}"
        "    app = web.Application()\n    router.attach(app)\n"
        "    app.cleanup_ctx.append(tornado_beside)\n    app.on_startup.append(start_ticking)\n"
        "    run_app(app, host=options.address, port=options.port, "
        "drain=Drain(notice=0.1))\n\n\nmain()\n"
    )
    imports = "from aiohttp import web\nfrom sockjs_aio import Drain, run_app\n"
    old = old.replace("define('port'", "define('old_port', type=int)\ndefine('port'")
    dashboard.write_text(imports + old + new)


def beside() -> str:
    """Return the function of the guide that has Tornado run beside."""
    found = re.search(r"async def tornado_beside.*?\n\n\n", shown("old = tornado"), re.DOTALL)
    assert found
    return found[0]


@EVERY
async def test_dashboard_runs_after_it_was_moved(
    serve: Serve, dashboard: Path, kind: type[clients.Client]
) -> None:
    started_anew(dashboard)
    port, old_port = free_port(), free_port()
    ports = [f"--port={port}", f"--old-port={old_port}"]
    signed = web.create_signed_value("change me", "user", "ann").decode()
    async with running(serve, "/dashboard", port, dashboard, *ports) as served:
        client = await kind.open(served, headers={"Cookie": f"user={signed}"})
        await client.send("sub,load", "sub,log", "msg,load,hi", "msg,zed,x")
        seen: set[str] = set()
        while len(seen) < 4:  # those of the ticker among them
            seen |= set(await client.messages(1))
        said = ["msg,load,welcome ann", "msg,load,ann: hi", "msg,load,load 0.5", "msg,log,line 1"]
        assert seen == set(said)
        stranger = await kind.open(served)
        await stranger.send("sub,load")
        assert await stranger.messages(1) == ["uns,load"]
        await stranger.leave()
        await use_pages(served, old_port, signed)
        await client.leave()


async def use_pages(served: Served, port: int, signed: str) -> None:
    """Use the pages, which are Tornado's: with its login, its templates and its xsrf check."""
    served.port = port
    headers = {"Cookie": f"user={signed}"}
    url = f"http://127.0.0.1:{port}"
    async with served.session.get(url, headers=headers) as response:
        assert await response.text() == "<b>ann</b>"
    async with served.session.get(url, allow_redirects=False) as response:
        assert response.headers["Location"] == "/login?next=%2F"
    async with served.session.post(url + "/login", data={"name": "ann"}) as response:
        assert response.status == 403


async def test_moved_dashboard_keeps_strangers_out(serve: Serve, dashboard: Path) -> None:
    started_anew(dashboard)
    port, old_port = free_port(), free_port()
    ports = [f"--port={port}", f"--old-port={old_port}"]
    async with running(serve, "/dashboard", port, dashboard, *ports) as served:
        for origin, status in [("http://evil.example", 403), ("https://dash.example.com", 101)]:
            wire = await served.wire()
            headers = {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Origin": origin,
            }
            wire.send("GET", "/dashboard/0/x/websocket", headers=headers)
            assert (await wire.head()).status == status
        with pytest.raises(OSError):  # it had, and has, one address
            await asyncio.open_connection("127.0.0.2", port)


@EVERY
async def test_chat_of_python_2_runs_after_it_was_moved(
    serve: Serve, tmp_path: Path, kind: type[clients.Client]
) -> None:
    chat, port = tmp_path / "chat.py", free_port()
    chat.write_text((PROGRAMS / "chat.py2").read_text())
    converted(chat)
    assert main([str(chat), "--write"]) == 0
    source, _, end = chat.read_text().partition("    app = tornado.web.Application")
    assert "print(" in end
    chat.write_text(
        "from aiohttp import web\nfrom sockjs_aio import Drain, run_app\n"
        f"{source}    app = web.Application()\n    router.attach(app)\n"
        f"    run_app(app, host='127.0.0.1', port={port}, drain=Drain(notice=0.1))\n"
    )
    async with running(serve, "/chat", port, chat) as served:
        first = await kind.open(served)
        second = await clients.WebSocket.open(served)
        assert await first.messages(1) == ["Someone joined."]
        await second.send('{"text": "hello", "more": 1}', "nonsense", "{}")
        assert await first.messages(1) == await second.messages(1) == ["hello"]
        await second.leave()
        assert await first.messages(1) == ["Someone left."]
        await first.leave()


SIDE_BY_SIDE = """\
import sys
import tornado.web, tornado.websocket
from aiohttp import web
from sockjs_aio import readyz, run_app
from sockjs_aio.tornado import SockJSRouter
from sockjs_aio.tornado.migrate import WebsocketHandler
class Page(tornado.web.RequestHandler):
    def get(self):
        self.write("old")
class OldSocket(tornado.websocket.WebSocketHandler):
    pass
class Visitor(WebsocketHandler):
    def on_message(self, message):
        self.send(message)
    def on_close(self):
        print("closed", flush=True)
"""


@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
async def test_snippet_with_tornado_beside_drains_its_clients(
    serve: Serve, tmp_path: Path, kind: type[clients.Client]
) -> None:
    script, old, new = tmp_path / "a.py", free_port(), free_port()
    snippet = shown("old = tornado").replace("8081", str(old))
    # with a page that tells, and time to ask for it on a busy machine
    drain = "from sockjs_aio import Drain\nrun_app(app, drain=Drain(notice=3, over=0.2), "
    ready = f"app.router.add_get('/readyz', readyz)\n{drain}"
    snippet = snippet.replace("run_app(app, ", ready).replace("8082", str(new))
    script.write_text(SIDE_BY_SIDE + snippet)
    async with running(serve, "/chat", new, script) as served:
        async with served.session.get(f"http://127.0.0.1:{old}/") as response:
            assert await response.text() == "old"
        client = await kind.open(served)
        served.process.send_signal(signal.SIGTERM)
        served.is_ending = True
        async with async_timeout.timeout(20):
            while (await served.ask("/readyz")).status != 404:
                await asyncio.sleep(0.02)
        assert (await served.request("GET", "/info")).status == 200  # nobody is refused so far
        await client.send("still here")
        assert await client.messages(1) == ["still here"]
        assert await client.frame() == b'c[1012,"Service restart"]'
        await client.leave()
        async with async_timeout.timeout(20):
            while await served.process.stdout.readline() != b"closed\n":
                pass

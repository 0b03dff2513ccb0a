"""docs/frameworks.md: a service that pages connect to, beside applications that publish."""

import ast
import asyncio
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import async_timeout
import pytest

from sockjs_aio.brokers.redis import RedisPublisher
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.conftest import Serve, Served, require
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.redis

PAGE = ROOT / "docs/frameworks.md"
TEXT = PAGE.read_text()


FRAMEWORKS = ("FastAPI", "Flask")


def shown(part: str, redis: RedisServer) -> dict[str, Any]:
    """Run the block that has `part`, with this Redis."""
    if part in FRAMEWORKS:
        require(importlib.util.find_spec(part.lower()), part)
    (code,) = [block for block in blocks(PAGE, "python") if part in block]
    assert "redis://127.0.0.1:6379" in code
    namespace: dict[str, Any] = {"__name__": "shown"}
    exec(compile(code.replace("redis://127.0.0.1:6379", redis.url), str(PAGE), "exec"), namespace)
    return namespace


@pytest.fixture
async def told(serve: Serve, redis_server: RedisServer) -> AsyncIterator[Callable[[], Any]]:
    """What a page is told by the service that the documentation shows."""
    served: Served = await serve(
        prefix="/other", app=shown("make_service", redis_server)["make_service"]()
    )
    served.prefix = "/notifications"
    people = [await kind.open(served) for kind in (clients.WebSocket, clients.XhrStreaming)]
    async with async_timeout.timeout(20):  # until they have subscribed
        while redis_server.cli("PUBSUB", "NUMSUB", "sockjs:orders").split()[-1] != "1":
            await asyncio.sleep(0.01)

    async def next_messages() -> list[Any]:
        return [(await person.messages(1))[0] for person in people]

    yield next_messages
    for person in people:
        await person.leave()


async def test_fastapi_tells_pages(told: Any, redis_server: RedisServer) -> None:
    app = shown("FastAPI", redis_server)["app"]
    async with app.router.lifespan_context(app):
        for number in (7, 8):
            assert await request_asgi(app, f"/orders/{number}/ship") == {"shipped": number}
            assert await told() == [f"order {number} has shipped"] * 2


async def request_asgi(app: Any, path: str) -> Any:
    """Make a POST request to an ASGI application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST"},
        **{"scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"headers": [], "root_path": "", "server": ("a", 80), "client": ("b", 1)},
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent
    return json.loads(b"".join(message.get("body", b"") for message in sent))


async def test_flask_tells_pages(told: Any, redis_server: RedisServer) -> None:
    app = shown("Flask", redis_server)["app"]
    for number in (7, 8):
        answer = await asyncio.to_thread(app.test_client().post, f"/orders/{number}/ship")
        assert answer.json == {"shipped": number}
        assert await told() == [f"order {number} has shipped"] * 2


def test_flask_answers_without_redis(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = shown("Flask", own_redis)["app"]
    own_redis.kill()
    assert app.test_client().post("/orders/7/ship").json == {"shipped": 7}
    assert "nobody is told of order 7: Redis at" in caplog.text


async def test_django_tells_pages(told: Any, redis_server: RedisServer) -> None:
    """Once the transaction is committed.  Django's settings are those of a process."""
    require(importlib.util.find_spec("django"), "Django")
    (code,) = [block for block in blocks(PAGE, "python") if "django" in block]
    code = code.replace("redis://127.0.0.1:6379", redis_server.url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DJANGO, code),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(output) == {"status": "200 OK", "body": {"shipped": 7}}
    assert await told() == ["order 7 has shipped"] * 2


DJANGO = """
import io, json, sys, types
from django.conf import settings

views = types.ModuleType("views")
sys.modules["views"] = views
database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(
    ROOT_URLCONF="views", ALLOWED_HOSTS=["*"], DATABASES={"default": database}, SECRET_KEY="x"
)
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
exec(compile(sys.argv[1], "views.py", "exec"), views.__dict__)
status = []
environ = {
    "REQUEST_METHOD": "POST", "PATH_INFO": "/orders/7/ship", "SERVER_NAME": "a",
    "SERVER_PORT": "80", "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http",
}
body = b"".join(application(environ, lambda line, headers: status.append(line)))
print(json.dumps({"status": status[0], "body": json.loads(body)}))
"""


def test_every_option_of_the_publisher_is_documented_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \| ", TEXT, re.M))
    parameters = inspect.signature(RedisPublisher).parameters
    defaults = {name: x.default for name, x in parameters.items() if name != "url"}
    assert {name: ast.literal_eval(text) for name, text in table.items()} == defaults

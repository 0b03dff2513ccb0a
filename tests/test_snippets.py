"""The documentation's Python, type-checked as strictly as the package is."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sockjs_aio
from tests.test_docs import PAGES, blocks

# what snippets use and do not define: their reader has it
GIVEN = {
    name: f"from sockjs_aio import {name}" for name in sockjs_aio.__all__ if name != "__version__"
}
GIVEN |= {name: f"import {name}" for name in ("asyncio", "functools", "json", "pytest", "time")}
GIVEN |= {
    "Any": "from typing import Any",
    "web": "from aiohttp import web",
    "clients": "from tests import clients",
    "Serve": "from tests.conftest import Serve",
    "Echo": "from tests.conftest import Echo",
    "RedisBroker": "from sockjs_aio.brokers.redis import RedisBroker",
    "MultiplexConnection": "from sockjs_aio.multiplex import MultiplexConnection",
    "Chat": "class Chat(SockJSConnection): ...",
    "Ann": "class Ann(SockJSConnection): ...",
    "Bob": "class Bob(SockJSConnection): ...",
    "Desk": "class Desk(SockJSConnection): ...",
    "User": "class User: ...",
    "Database": "class Database: ...",
    "Signer": "from examples.authorize.signing import Signer",
    "STAFF": "from examples.authorize import STAFF",
    "Room": "class Room(SockJSConnection): ...",
    "make_app": "def make_app(broker: Broker | None = None) -> web.Application: ...",
    "LOGINS": "LOGINS: dict[str, tuple[str, float]] = {}",
    "notify": "async def notify(broker: Broker, user: str, text: str) -> None: ...",
    "log_out": "async def log_out(broker: Broker, user: str) -> None: ...",
    "app": "app = web.Application()",
    "database": "database = Database()",
    "settings": "settings = Settings()",
    "router": 'router = SockJSRouter(Chat, "/chat")',
    "connection": "connection: Chat",
    "broker": 'broker = RedisBroker("redis://127.0.0.1:6379")',
    "listener": "from sockjs_aio.brokers.base import Listener\nlistener: Listener",
    "orders": "orders: list[str] = []",
    "decoded": "def decoded(token: Any) -> dict[str, Any]: ...",
    "find_user": "async def find_user(token: str | None) -> User | None: ...",
    "all_orders": "async def all_orders() -> str: ...",
    "remember_for_a_while": "async def remember_for_a_while(ip: Any, age: float) -> None: ...",
    "self": "self: SockJSConnection",
    "report": "async def report(name: str) -> list[str]: ...",
}
ADAPTED: dict[str, dict[str, str]] = {
    "migrating-from-aiolibs-sockjs.md": {
        "sockjs": "from sockjs_aio import aiolibs as sockjs",
        "aiohttp_session": "import aiohttp_session",
        "take": "async def take(order: Any) -> None: ...",
        "chat": "async def chat(manager: Any, session: Any, msg: Any) -> None: ...",
    },
    "migrating-from-sockjs-tornado.md": {
        "SockJSConnection": "from sockjs_aio.tornado import SockJSConnection",
        "SockJSRouter": "from sockjs_aio.tornado import SockJSRouter",
        "PeriodicCallback": "from tornado.ioloop import PeriodicCallback",
        "tornado": "import tornado.web\nimport tornado.websocket",
        "login_of": "def login_of(info: Any) -> Any: ...",
        "tell_all": "def tell_all() -> None: ...",
        "Page": "class Page(tornado.web.RequestHandler): ...",
        "OldSocket": "class OldSocket(tornado.websocket.WebSocketHandler): ...",
        "Visitor": "class Visitor(SockJSConnection): ...",
    },
}
"""Pages that show code as it was written for servers without types, and what they use."""


def completed(block: str, known: dict[str, str] = GIVEN) -> str:
    """Return `block` as a module that has what it uses; what awaits is put into a coroutine."""
    tree = compile(block, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    if any(awaits(statement) for statement in tree.body):
        block = "async def main() -> None:\n" + textwrap.indent(block, "    ")
    return "\n".join([*dict.fromkeys(given(tree, known)), block])


def awaits(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.AsyncFunctionDef, ast.FunctionDef, ast.ClassDef)):
        return False
    kinds = (ast.Await, ast.AsyncWith, ast.AsyncFor)
    return any(isinstance(node, kinds) for node in ast.walk(statement))


def given(tree: ast.AST, known: dict[str, str]) -> list[str]:
    """Return the lines that define what `tree` uses and does not define."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    defined = {node.id for node in nodes if isinstance(node, ast.Name) and is_stored(node)}
    for node in nodes:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    lines = []
    for name in sorted((names - defined) & set(known)):
        lines += [line for line in given(ast.parse(known[name]), known) if line not in lines]
        lines.append(known[name])
    return lines


def is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


TYPES = """
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sockjs_aio import CloseInfo, ConnectionInfo, SockJSConnection

if TYPE_CHECKING:
    from typing_extensions import assert_type

USER = web.RequestKey("USER", int)


class Typed(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        assert_type(info[USER], int)
        assert_type(info.get(USER), "int | None")
        assert_type(info.get(USER, "nobody"), "int | str")
        assert_type(info["user"], Any)
        assert_type(info.get("user"), Any)
        assert_type(info.protocol, "str | None")

    async def on_close(self) -> None:
        assert_type(self.close_info, "CloseInfo | None")
"""
"""What is stored by a request key has its type."""


@pytest.mark.programs
@pytest.mark.timeout(300)
def test_snippets_and_what_is_stored_by_request_keys_are_typed_strictly(tmp_path: Path) -> None:
    for page in PAGES:
        if page.name in ADAPTED:
            continue
        for number, block in enumerate(blocks(page, "python")):
            name = f"{page.parent.name}_{page.stem}_{number}".replace("-", "_")
            (tmp_path / f"{name}.py").write_text(completed(block))
    assert len(list(tmp_path.iterdir())) > 20
    (tmp_path / "typed.py").write_text(TYPES)
    check(tmp_path)


@pytest.mark.programs
@pytest.mark.timeout(300)
def test_snippets_for_the_adapters_use_names_that_exist(tmp_path: Path) -> None:
    for package in ("tornado", "aiohttp_session"):
        pytest.importorskip(package)
    for page in PAGES:
        known = GIVEN | ADAPTED.get(page.name, {})
        code = blocks(page, "python") if page.name in ADAPTED else []
        for number, block in enumerate(code):
            if "from sockjs.tornado" not in block:  # the program as it was
                name = f"{page.stem}_{number}".replace("-", "_")
                (tmp_path / f"{name}.py").write_text(completed(block, known))
    assert len(list(tmp_path.iterdir())) >= 10
    check(tmp_path, "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls")


def check(folder: Path, *more: str) -> None:
    """Run mypy over the modules in `folder`."""
    files = sorted(map(str, folder.glob("*.py")))
    options = ["--strict", "--follow-imports=silent", "--disable-error-code=empty-body", *more]
    options += ["--cache-dir", "/dev/null"]  # writing one takes a fifth of the time
    # in a process of its own: what it leaves in memory makes each collection of garbage take long
    command = [sys.executable, "-m", "mypy", *options, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

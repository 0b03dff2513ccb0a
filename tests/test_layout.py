"""The architecture, held against the code: which module may import which."""

import ast
from pathlib import Path

import sockjs_aio

PACKAGE = Path(sockjs_aio.__file__).parent

# From the inside out: a module imports from its own line and from lines above it.
LAYERS = [
    {"errors", "tcp", "receiver", "shield", "info", "close_info", "addresses"}
    | {"stickiness", "loop_thread", "turns", "origins", "forks"},
    {"settings", "liveness", "protocol.websocket", "protocol.json_text"},
    {"protocol.frames"},
    {"protocol.framing", "ended_sessions"},
    {"protocol.machine", "connection"},
    {"brokers.base"},
    {"brokers.backoff", "brokers.redis_url", "brokers.replies"},
    {"brokers.memory", "channels", "brokers.commands", "brokers.complaints", "brokers.payload"},
    {"brokers.subscriber"},
    {"brokers.link"},
    {"brokers.presence"},
    {"brokers.redis"},
    {"inbox"},
    {"hooks"},
    {"session"},
    {"flusher", "closing", "registry"},
    {"transports.headers", "transports.callback", "transports.body", "transports.outlet"}
    | {"transports.response", "transports.client_connection", "transports.handover"},
    {"transports.endpoint"},
    {"transports.handshake", "transports.websocket_receiver"},
    {"transports.websocket_reader"},
    {"transports.pages", "transports.polling", "transports.streaming"}
    | {"transports.upstream", "transports.websocket"},
    {"transports.urls"},
    {"connection_guard"},
    {"router", "running"},
    {"relay.passport", "relay.lost", "relay.exchanges", "relay.upload"},
    {"relay.peers"},
    {"relay.forward"},
    {"relay.carrier"},
    {"nodes.entry", "nodes.claims", "nodes.questions", "nodes.connector"},
    {"nodes.directory"},
    {"nodes.owners"},
    {"nodes.gateway"},
    {"nodes.sweeper"},
    {"nodes.nodes"},
    {"workers.accepting"},
    {"workers.order", "workers.target", "workers.listeners", "workers.places"}
    | {"workers.logs", "workers.environment", "workers.bequest"},
    {"workers.gateway", "workers.control"},
    {"workers.worker"},
    {"workers.child"},
    {"workers.supervisor"},
    {"workers.workers"},
    {"workers.command"},
    {"__init__"},
    {"multiplex", "aiolibs.messages", "aiolibs.request"}
    | {"migrate.counterparts", "migrate.findings", "migrate.source", "migrate.listening"},
    {"migrate.settings_files"},
    {"migrate.files"},
    {"aiolibs.session"},
    {"aiolibs.manager"},
    {"aiolibs.endpoint"},
    {"migrate.facts"},
    {"migrate.strings", "migrate.start", "migrate.loop", "migrate.handlers", "migrate.python2"},
    {"migrate.mover"},
    {"migrate.examination"},
    {"migrate.command"},
    {"migrate.__main__", "__main__"},
    {"tornado.proto", "tornado.stats", "tornado.conn", "tornado.transports.base"},
    {"tornado.session"},
    {"tornado.router", "tornado.migrate", "tornado.multiplex"},
]
PUBLIC_ONLY = ("tornado.", "aiolibs.")
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = ast.parse(path.read_text())
    return found


def imports(tree: ast.Module) -> set[str]:
    """Return what a module imports at run time."""
    typing_only = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    names = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def test_every_module_has_its_place() -> None:
    assert set(modules()) <= set(RANK)


def test_adapters_use_the_public_interface() -> None:
    for name, tree in modules().items():
        if name.startswith(PUBLIC_ONLY):
            for imported in imports(tree):
                if imported.startswith("sockjs_aio."):
                    inner = imported.removeprefix("sockjs_aio.")
                    assert inner in sockjs_aio.__all__ or inner.startswith(
                        ("tornado", "multiplex", "aiolibs")
                    ), imported


def test_imports_point_inwards() -> None:
    for name, tree in modules().items():
        for imported in imports(tree):
            inner = imported.removeprefix("sockjs_aio.")
            if imported != inner and inner in RANK:
                assert RANK[inner] <= RANK[name], f"{name} imports {inner}"


def test_protocol_does_no_io_and_reads_no_clock() -> None:
    forbidden = {"asyncio", "aiohttp", "time", "socket", "datetime", "logging"}
    for name, tree in modules().items():
        if name.startswith("protocol."):
            assert not {imported.split(".")[0] for imported in imports(tree)} & forbidden


def test_session_knows_no_http() -> None:
    for name in ("session", "hooks", "flusher"):
        assert "aiohttp" not in {imported.split(".")[0] for imported in imports(modules()[name])}


def test_functions_are_short() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno and node.end_lineno - node.lineno < 50, (name, node.name)


def test_what_is_exported_is_there_and_documented() -> None:
    assert sorted(sockjs_aio.__all__) == sockjs_aio.__all__
    for name in sockjs_aio.__all__:
        assert getattr(sockjs_aio, name).__doc__, name
    public = {name for name, thing in vars(sockjs_aio).items() if not name.startswith("_")}
    assert public - set(sockjs_aio.__all__) <= {name.split(".")[0] for name in RANK} | {"protocol"}

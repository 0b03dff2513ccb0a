"""The architecture, held against the code: which module may import which; type imports count."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sockjs_aio

PACKAGE = Path(sockjs_aio.__file__).parent

# From the inside out: a module imports from its own room and from those above it in this list.
ROOMS = [
    {"errors", "turns", "cancellations", "version", "hook_names", "exit_status"},
    {"protocol"},
    {"origins", "session_info", "settings", "grant", "gaps", "connection", "stats"},
    {"brokers"},
    {"core"},
    {"multiplex", "observers"},
    {"server"},
    {"client"},
    {"cluster"},
    {"testing"},
    {"sockjs_aio"},
    {"aiolibs", "tornado", "migrate"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

SPEAK_OF_AIOHTTP = {"session_info", "settings"}
"""Their types name aiohttp's classes, which applications use; at run time they do not need it."""

INTERNALS = ("server.aiohttp_internals", "server.aiohttp_protocol")

KNOW_OTHERS = {
    "brokers.redis.sentinel": {"_available_connections", "_in_use_connections"},  # redis-py
    "cluster.workers.environment": {"_AppendAction", "_HelpAction", "_VersionAction"},  # argparse
    "cluster.workers.child": {"_xoptions"},  # sys
    "core.hook_task": {"_must_cancel"},  # asyncio, before Python 3.11
    "core.plain_write": {"_SelectorSocketTransport", "_buffer", "_closing", "_sock"},  # asyncio
    "core.tcp": {"_ssl_protocol", "_transport"},  # asyncio
    "protocol.deflate": {"_Compress", "_Decompress"},  # zlib: types
}
"""Modules that use private names of other packages than aiohttp."""

DOCUMENTED = {"aiohttp", "aiohttp.web", "aiohttp.log", "aiohttp.payload", "aiohttp.typedefs"}
DOCUMENTED |= {"aiohttp.web_log"}
"""The modules whose names aiohttp's documentation mentions."""

UNDOCUMENTED = {
    "app": {"frozen"},
    "connection": {"protocol"},
    "content": {"exception", "feed_eof", "set_exception", "total_bytes"},
    "match_info": {"apps"},
    "request": {"loop", "protocol", "task", "writer"},
}
"""Attributes without an underscore that aiohttp's documentation does not mention, by the names that
our variables have for these objects."""

FEW = ("client", "testing", "cluster", "brokers.redis", "redis")
"""What `import sockjs_aio` does not load, because few applications need it."""

MAX_LINES = 350
MAX_FUNCTION_LINES = 50


def _modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__").replace("__init__", "sockjs_aio")] = path
    return found


MODULES = _modules()


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@functools.cache
def nodes(name: str) -> list[ast.AST]:
    return list(ast.walk(parsed(name)))


@functools.cache
def imported_modules(name: str, *, types: bool) -> set[str]:
    """Return the modules that `name` imports, those of this package by their names in it."""
    for_types = {
        node
        for test in nodes(name)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found: set[str] = set()
    for node in nodes(name):
        if not types and node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module(node.module, alias.name) for alias in node.names}
    return found - {name}


def _module(package: str, name: str) -> str:
    inner = f"{package}.{name}".removeprefix("sockjs_aio.")
    if inner in MODULES:
        return inner
    return package.removeprefix("sockjs_aio.")


def room(module: str) -> str:
    return module.split(".")[0]


def own_imports(name: str) -> set[str]:
    return {module for module in imported_modules(name, types=True) if module in MODULES}


@functools.cache
def reachable(name: str, *, types: bool) -> set[str]:
    """Return what is imported by `name`, and by what that imports, and so on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for module in imported_modules(waiting.pop(), types=types) - found:
            found.add(module)
            if module in MODULES:
                waiting.append(module)
    return found


def circles() -> Iterator[set[str]]:
    for name in MODULES:
        others = {other for other in reachable(name, types=True) if other in MODULES}
        circle = {other for other in others if name in reachable(other, types=True)}
        if circle:
            yield circle | {name}


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in MODULES} == set(RANK)


def test_modules_import_from_their_rooms_and_those_further_in() -> None:
    for name in MODULES:
        for other in own_imports(name):
            assert RANK[room(other)] <= RANK[room(name)], f"{name} imports {other}"


def test_picture_has_every_room() -> None:
    picture = (PACKAGE.parent / "docs/img/architecture.svg").read_text()
    rooms = [path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"]
    assert [name for name in rooms if f"{name}/" not in picture] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = [circle for circle in circles() if not all(room(x) == "tornado" for x in circle)]
    assert found == [], "sockjs-tornado's modules are like that, and the adapter has its names"


def test_core_and_protocol_do_not_reach_aiohttp() -> None:
    for name in [x for x in MODULES if room(x) in ("core", "protocol")]:
        assert "aiohttp" not in {room(other) for other in reachable(name, types=False)}, name
        for other in {name} | reachable(name, types=True):
            if other in MODULES and other not in SPEAK_OF_AIOHTTP:
                assert "aiohttp" not in {room(x) for x in imported_modules(other, types=True)}, (
                    name,
                    other,
                )


def test_protocol_does_no_io_and_reads_no_clock() -> None:
    forbidden = {"asyncio", "aiohttp", "time", "socket", "datetime", "logging"}
    for name in MODULES:
        if room(name) == "protocol":
            assert not {room(other) for other in reachable(name, types=True)} & forbidden, name


def _last_name(node: ast.expr) -> str:
    name = node.attr if isinstance(node, ast.Attribute) else ast.unparse(node)
    return name.lstrip("_")


def _own_private_names(name: str) -> set[str]:
    """Return the private names that a module defines, or sets on `self`."""
    found: set[str] = set()
    for node in nodes(name):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


@functools.cache  # when a test asks: each process of tests imports this module
def _ours() -> set[str]:
    return {own for name in MODULES for own in _own_private_names(name)}


def _attributes(name: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes that are used: the last name of the object, and the attribute."""
    for node in nodes(name):
        if isinstance(node, ast.Attribute):
            yield _last_name(node.value), node.attr
        elif isinstance(node, ast.Call):
            function = _last_name(node.func)
            constants = [str(x.value) for x in node.args if isinstance(x, ast.Constant)]
            if function in ("getattr", "setattr", "hasattr") and constants:
                yield _last_name(node.args[0]), constants[0]
            elif function == "attrgetter":  # it does not say of which object
                for attribute in ".".join(constants).split("."):
                    yield from ((owner, attribute) for owner in UNDOCUMENTED)


def _is_of_others(owner: str, attribute: str) -> bool:
    """Tell whether an attribute is a private one of another package's object."""
    if not attribute.startswith("_") or attribute.endswith("__"):
        return False
    if owner in ("self", "cls") or attribute in ("_replace", "_exit"):  # these are documented
        return False
    if attribute == "_sockjs_hook_name":  # of an application's connection
        return False
    is_of_aiohttp = owner in UNDOCUMENTED or owner in ("protocol", "response", "transport")
    return is_of_aiohttp or attribute not in _ours()


def internals_used(name: str) -> set[str]:
    """Return what a module uses of aiohttp or asyncio that their documentation does not promise."""
    found = {
        attribute
        for owner, attribute in _attributes(name)
        if attribute in UNDOCUMENTED.get(owner, ()) or _is_of_others(owner, attribute)
    }
    for node in nodes(name):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [x.name for x in node.names] if isinstance(node, ast.Import) else []
        found |= {x for x in modules if x and room(x) == "aiohttp"} - DOCUMENTED
    return found


def test_internals_of_aiohttp_are_used_in_two_modules() -> None:
    for name in MODULES:
        if name not in INTERNALS:
            assert internals_used(name) <= KNOW_OTHERS.get(name, set()), name


def test_internals_of_aiohttp_would_be_found() -> None:
    assert {"_make_request", "_lingering_time", "_fut_waiter"} <= internals_used(INTERNALS[0])
    assert {"writer", "feed_eof", "frozen", "apps", "aiohttp.http"} <= internals_used(INTERNALS[0])


def test_adapters_use_the_public_interface() -> None:
    public = {"sockjs_aio", "multiplex"}
    for name in MODULES:
        if room(name) in ("tornado", "aiolibs"):
            others = {room(other) for other in own_imports(name)}
            assert others <= public | {room(name)}, name


def test_functions_are_short() -> None:
    for name in MODULES:
        for node in nodes(name):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno
                assert lines < MAX_FUNCTION_LINES, (name, node.name)


def test_modules_are_short() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path


def test_what_is_exported_is_there_and_documented() -> None:
    assert sorted(sockjs_aio.__all__) == sockjs_aio.__all__
    for name in sockjs_aio.__all__:
        assert getattr(sockjs_aio, name).__doc__, name
    public = {name for name in vars(sockjs_aio) if not name.startswith("_")}
    assert public - set(sockjs_aio.__all__) <= set(RANK) | {"TYPE_CHECKING", "importlib"}


def test_import_of_the_package_does_not_load_what_few_applications_use() -> None:
    loaded = reachable("sockjs_aio", types=False)
    assert "server.router" in loaded
    few = {name for name in loaded if name.startswith(FEW)}
    assert not few


def test_what_is_loaded_when_it_is_used_is_like_any_other_name() -> None:
    assert set(sockjs_aio.__all__) <= set(dir(sockjs_aio))
    with pytest.raises(AttributeError, match="module 'sockjs_aio' has no attribute 'Workrs'"):
        sockjs_aio.Workrs  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Knodes' from 'sockjs_aio'"):
        exec("from sockjs_aio import Knodes")


@pytest.mark.programs
def test_the_package_can_be_imported_on_windows() -> None:
    program = (
        "import asyncio, sys, aiohttp.web\n"
        "sys.platform = 'win32'\n"
        "sys.modules.update(dict.fromkeys(['fcntl', 'termios', 'pwd', 'grp', 'resource']))\n"
        "import sockjs_aio"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_makefile_names_tests_that_exist() -> None:
    named = set(re.findall(r"tests/[\w/]+(?:\.py)?", (PACKAGE.parent / "Makefile").read_text()))
    assert len(named) > 10
    assert sorted(path for path in named if not (PACKAGE.parent / path).exists()) == []

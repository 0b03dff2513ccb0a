"""The architecture, held against the code: which module may import which; type imports count."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sockjs_aio

PACKAGE = Path(sockjs_aio.__file__).parent

# From the inside out: a module imports from its own room and from those above it in this list.
ROOMS = [
    {"errors", "turns", "version"},
    {"protocol"},
    {"origins", "session_info", "settings", "connection"},
    {"brokers"},
    {"core"},
    {"multiplex"},
    {"server"},
    {"cluster"},
    {"sockjs_aio"},
    {"aiolibs", "tornado", "migrate"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

SPEAK_OF_AIOHTTP = {"session_info", "settings"}
"""Their types name aiohttp's classes, which applications use; at run time they do not need it."""

MAX_LINES = 350
MAX_FUNCTION_LINES = 50


def _modules() -> dict[str, ast.Module]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__").replace("__init__", "sockjs_aio")] = ast.parse(
            path.read_text()
        )
    return found


MODULES = _modules()


@functools.cache
def imported_modules(name: str, *, types: bool = True) -> set[str]:
    """Return the modules that `name` imports, those of this package by their names in it."""
    tree = MODULES[name]
    for_types = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
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
    return {module for module in imported_modules(name) if module in MODULES}


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


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_from_its_room_and_those_further_in(name: str) -> None:
    for other in own_imports(name):
        assert RANK[room(other)] <= RANK[room(name)], f"{name} imports {other}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = [circle for circle in circles() if not all(room(x) == "tornado" for x in circle)]
    assert found == [], "sockjs-tornado's modules are like that, and the adapter has its names"


@pytest.mark.parametrize("name", [x for x in MODULES if room(x) in ("core", "protocol")])
def test_core_and_protocol_do_not_reach_aiohttp(name: str) -> None:
    assert "aiohttp" not in {room(other) for other in reachable(name, types=False)}
    for other in {name} | reachable(name, types=True):
        if other in MODULES and other not in SPEAK_OF_AIOHTTP:
            assert "aiohttp" not in {room(x) for x in imported_modules(other)}, other


def test_protocol_does_no_io_and_reads_no_clock() -> None:
    forbidden = {"asyncio", "aiohttp", "time", "socket", "datetime", "logging"}
    for name in MODULES:
        if room(name) == "protocol":
            assert not {room(other) for other in reachable(name, types=True)} & forbidden, name


def test_adapters_use_the_public_interface() -> None:
    public = {"sockjs_aio", "multiplex"}
    for name in MODULES:
        if room(name) in ("tornado", "aiolibs"):
            others = {room(other) for other in own_imports(name)}
            assert others <= public | {room(name)}, name


def test_functions_are_short() -> None:
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
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
    assert public - set(sockjs_aio.__all__) <= set(RANK)


@pytest.mark.programs
def test_the_package_can_be_imported_on_windows() -> None:
    program = (
        "import asyncio, sys, aiohttp.web\n"
        "sys.platform = 'win32'\n"
        "sys.modules.update(dict.fromkeys(['fcntl', 'termios', 'pwd', 'grp', 'resource']))\n"
        "import sockjs_aio"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

"""A pytest plugin: ``--only quick`` for the edit loop, ``--only half`` for another Python.

``quick`` is what needs no other program and little time.  A test that starts a program all the same
fails.  ``half`` is ``quick`` without what no version of Python, of aiohttp or of an event loop
changes, and with `EVERY_PYTHON`: two thirds of the tests, and two fifths of the time.

xdist's workers get the modules in a mixed order, so that those that wait and those that compute run
side by side.
"""

import gc
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

PROGRAMS = ("integration/", "nodes/", "test_tls.py", "test_log_check.py", "test_second_look.py")
"""Tests of these start programs, or nearly all do; others have the mark ``programs``, or"""

MARKS = {"programs", "redis", "browser", "haproxy"}
FIXTURES = frozenset(("redis_server", "own_redis", "command", "server", "telling", "loadgen"))

SLOW = (
    *("stalls/", "workers/relayed/", "brokers/test_refusals.py", "hostile/test_slow.py"),
    *("hostile/test_direct_lane.py", "properties/test_direct_lane.py"),
    *("properties/test_session_machine.py", "properties/test_session.py", "test_dead_peers.py"),
    *("test_far_clients.py", "test_late_requests.py", "test_registration.py"),
    *("client/test_random_bytes.py", "test_resource_leaks.py", "test_snippets.py"),
)
"""Tests of these compute or wait much, or have been run in another way."""

EVERY_PYTHON = (
    *("brokers/test_contract.py", "nodes/test_ends.py", "nodes/test_traffic.py"),
    *("test_dead_peers.py", "test_resource_leaks.py", "test_run_app.py", "test_shutdown.py"),
    *("test_tls.py", "workers/test_ends.py", "workers/test_workers.py"),
)
"""What Python, aiohttp or the loop may change although it is not quick."""

ONE_PYTHON = ("fuzz/", "properties/", "soak/", "test_docs.py", "test_layout.py")
"""What they do not change."""

_forbids_programs = False


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "a part of the tests, see tests/selection.py"
    parser.addoption("--only", choices=("all", "quick", "half"), default="all", help=help)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "programs: starts other programs")
    if config.getoption("--only") == "quick":
        os.environ.setdefault("HYPOTHESIS_PROFILE", "quick")
        sys.addaudithook(_check_program)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    gc.disable()  # it would find nothing, and look at thousands of tests each time
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out whole modules before they are imported: each worker would import them all."""
    if collection_path.suffix != ".py" or not collection_path.is_relative_to(HERE):
        return None
    has_any = HAS_ANY[config.getoption("--only")]
    return None if has_any(place(collection_path)) else True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = config.getoption("--only")
    if only != "all":
        with_programs = EVERY_PYTHON if only == "half" else ()
        chosen: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            is_chosen = place(item.path).startswith(with_programs) or needs_no_program(item)
            (chosen if is_chosen else others).append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.sha1(place(item.path).encode()).digest())


def place(path: Path) -> str:
    """Return a module's path below this folder."""
    return path.relative_to(HERE).as_posix()


def needs_no_program(item: pytest.Item) -> bool:
    """Tell whether a test has no mark and no fixture that starts a program."""
    marks = {mark.name for mark in item.iter_markers()}
    return not (MARKS & marks or FIXTURES & set(getattr(item, "fixturenames", ())))


def is_quick(module: str) -> bool:
    """Tell whether tests of a module need no other program and little time."""
    return not module.startswith(PROGRAMS + SLOW)


def is_in_half(module: str) -> bool:
    """Tell whether another version of something may change what tests of a module say."""
    if module.startswith(EVERY_PYTHON):
        return True
    return is_quick(module) and not module.startswith(ONE_PYTHON)


HAS_ANY = {"all": lambda module: True, "quick": is_quick, "half": is_in_half}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _forbids_programs
    _forbids_programs = item.config.getoption("--only") == "quick"
    try:
        return (yield)
    finally:
        _forbids_programs = False


def _check_program(event: str, arguments: tuple[Any, ...]) -> None:
    if _forbids_programs and event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        raise RuntimeError("this test starts a program: mark it with pytest.mark.programs")

"""A pytest plugin: ``--only quick`` for the edit loop, ``--only half`` for another Python.

``quick`` is what needs no other program and little time.  A test that starts a program all the same
fails.  ``half`` is ``quick`` without what no version of Python, of aiohttp or of an event loop
changes, and with `EVERY_PYTHON`.

xdist's workers get the modules in a mixed order, so that those that wait and those that compute run
side by side.
"""

import gc
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

PROGRAMS = ("integration/", "nodes/", "test_tls.py", "test_log_check.py", "test_second_look.py")
"""Tests of these start programs, or nearly all do; others have the mark ``programs``, or"""

MARKS = ("programs", "redis", "browser", "haproxy")
FIXTURES = frozenset(("redis_server", "own_redis", "command", "server", "telling", "loadgen"))

SLOW = (
    *("stalls/", "workers/relayed/", "brokers/test_refusals.py", "hostile/test_slow.py"),
    *("hostile/test_direct_lane.py", "properties/test_direct_lane.py"),
    *("properties/test_machine.py", "properties/test_session.py", "test_dead_peers.py"),
    *("test_far_clients.py", "test_late_requests.py", "test_leaks.py", "test_registration.py"),
    "test_snippets.py",
)
"""Tests of these compute or wait much, or have been run in another way."""

EVERY_PYTHON = (
    *("brokers/test_contract.py", "nodes/test_traffic.py", "test_dead_peers.py", "test_leaks.py"),
    *("test_run_app.py", "test_shutdown.py", "test_tls.py", "workers/test_workers.py"),
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
        sys.addaudithook(_check_program)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = config.getoption("--only")
    if only != "all":
        is_chosen = is_quick if only == "quick" else is_in_half
        config.hook.pytest_deselected(items=[item for item in items if not is_chosen(item)])
        items[:] = filter(is_chosen, items)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.sha1(place(item).encode()).digest())


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # thousands of tests, which no collection has to look at again


def place(item: pytest.Item) -> str:
    """Return the path of a test's module below this folder."""
    return item.path.relative_to(HERE).as_posix()


def is_quick(item: pytest.Item) -> bool:
    """Tell whether a test needs no other program and little time."""
    return not (
        place(item).startswith(PROGRAMS + SLOW)
        or any(map(item.get_closest_marker, MARKS))
        or FIXTURES & set(getattr(item, "fixturenames", ()))
    )


def is_in_half(item: pytest.Item) -> bool:
    """Tell whether another version of something may change what a test says."""
    if place(item).startswith(EVERY_PYTHON):
        return True
    return is_quick(item) and not place(item).startswith(ONE_PYTHON)


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

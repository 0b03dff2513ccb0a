"""A pytest plugin: ``--only quick`` for the edit loop, ``--only versions`` for another Python.

``quick`` is what needs no other program and little time.  A test that starts a program all the same
fails.  ``versions`` is ``quick`` without what no version of Python, of aiohttp or of an event loop
changes, and with `EVERY_PYTHON`.

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
    *("hostile/test_direct_handshakes.py", "properties/test_direct_handshakes.py"),
    *("properties/test_session_machine.py", "properties/test_session.py", "test_dead_peers.py"),
    *("test_far_clients.py", "test_late_requests.py", "test_registration.py"),
    *("client/test_random_bytes.py", "test_resource_leaks.py", "test_snippets.py"),
    *("workers/test_handover_bytes.py", "properties/test_client_frames.py"),
)
"""Tests of these compute or wait much, or have been run in another way."""

EVERY_PYTHON = (
    *("brokers/test_contract.py", "hostile/test_direct_handshakes.py"),
    *("nodes/test_traffic.py", "test_dead_peers.py"),
    *("test_resource_leaks.py", "test_run_app.py", "test_shutdown.py", "test_tls.py"),
    "workers/test_workers.py",
)
"""What Python, aiohttp or the loop may change although it is not quick."""

ONE_PYTHON = (
    *("fuzz/", "properties/", "soak/", "test_benchmarks.py", "test_docs.py", "test_layout.py"),
    # values that our own parsers and settings see, once Python and aiohttp have read them
    *("brokers/test_payload.py", "brokers/test_redis_url.py", "hostile/test_callbacks.py"),
    *("hostile/test_forms.py", "hostile/test_ids.py", "hostile/test_payloads.py"),
    *("hostile/test_secrecy.py", "hostile/test_text_out.py", "hostile/test_websocket.py"),
    *("hostile/test_websocket_compression.py", "test_origin_patterns.py", "test_origins.py"),
    *("test_refusals_across_origins.py", "test_refusals_of_middlewares.py", "test_settings.py"),
    *("test_tornado_refusals.py", "workers/test_passport.py"),
    # what sessions do, and who is told of it: the core, which knows neither
    *("brokers/test_close_channel.py", "client/test_reconnecting.py", "test_close_after_loss.py"),
    *("test_close_info.py", "test_connect_command.py", "test_latest_only.py", "test_loadgen.py"),
    *("test_max_sessions.py", "test_message_rate.py", "test_multiplex.py", "test_observers.py"),
    *("test_opentelemetry.py", "test_prometheus.py", "test_receive_limits.py"),
    *("test_session_ends.py", "test_stats.py", "test_tornado_multiplex.py"),
)
"""What they do not change."""

_forbids_programs = False


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "a part of the tests, see tests/selection.py"
    parser.addoption("--only", choices=("all", "quick", "versions"), default="all", help=help)


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
        with_programs = EVERY_PYTHON if only == "versions" else ()
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


def depends_on_versions(module: str) -> bool:
    """Tell whether another version of something may change what tests of a module say."""
    if module.startswith(EVERY_PYTHON):
        return True
    return is_quick(module) and not module.startswith(ONE_PYTHON)


HAS_ANY = {"all": lambda module: True, "quick": is_quick, "versions": depends_on_versions}


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

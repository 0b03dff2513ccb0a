"""A pytest plugin: ``--only quick`` for the edit loop, ``--only versions`` for another Python.

``quick`` is what needs no other program and little time.  A test that starts a program all the same
fails.  ``versions`` is ``quick`` without what no version of Python, of aiohttp or of an event loop
changes, and with `EVERY_PYTHON`.  ``loops`` is ``versions`` without what an event loop does not
change.

xdist's workers get the modules in a mixed order, so that those that wait and those that compute run
side by side.  Those with a browser come first, together: then few workers start one.
"""

import functools
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
    *("hostile/test_compressed.py", "hostile/test_ids.py", "hostile/test_payloads.py"),
    *("test_docs_run.py", "workers/test_relay_ends.py"),
)
"""Tests of these compute or wait much, or have been run in another way.  Single tests of other
modules have the mark ``slow``."""

EVERY_PYTHON = (
    *(
        "brokers/test_contract.py",
        "hostile/test_compressed.py",
        "hostile/test_direct_handshakes.py",
    ),
    *("nodes/test_traffic.py", "test_dead_peers.py", "test_resource_leaks.py", "test_run_app.py"),
    *("test_shutdown.py", "test_tls.py", "workers/test_relay_ends.py", "workers/test_workers.py"),
)
"""What Python, aiohttp or the loop may change although it is not quick."""

ONE_PYTHON = (
    *("fuzz/", "properties/", "soak/", "test_benchmarks.py", "test_costs.py", "test_layout.py"),
    *("brokers/test_docs.py", "test_client_docs.py", "test_docs.py", "test_docs_run.py"),
    "test_page_snippets.py",
    *("test_observing_docs.py", "test_security_docs.py", "workers/test_docs.py"),
    # values that our own parsers and settings see, once Python and aiohttp have read them
    *("brokers/test_payload.py", "brokers/test_redis_url.py", "client/test_arguments.py"),
    *("hostile/test_callbacks.py", "hostile/test_forms.py", "hostile/test_ids.py"),
    *("hostile/test_payloads.py", "hostile/test_secrecy.py", "hostile/test_text_out.py"),
    *("hostile/test_websocket.py", "hostile/test_websocket_compression.py"),
    *("protocol/test_session_machine.py", "protocol/test_response_reader.py", "test_api_misuse.py"),
    *("test_direct_grammar.py", "test_origin_patterns.py", "test_origins.py"),
    *("test_refusals_across_origins.py", "test_refusals_of_middlewares.py", "test_settings.py"),
    *("test_tornado_refusals.py", "workers/test_command.py", "workers/test_cpus.py"),
    *("workers/test_passport.py", "workers/test_session_journal.py"),
    # what sessions do, and who is told of it: the core, which knows neither, and what uses it only
    *("brokers/test_close_channel.py", "brokers/test_gaps.py", "brokers/test_presence.py"),
    *("client/test_reconnecting.py", "test_aiolibs.py", "test_authorize.py"),
    *("test_close_after_loss.py", "test_close_info.py", "test_connect_command.py"),
    *("test_latest_only.py", "test_loadgen.py", "test_max_sessions.py", "test_message_rate.py"),
    *("test_multiplex.py", "test_observers.py", "test_opentelemetry.py"),
    *("test_problems_of_other_servers.py", "test_prometheus.py", "test_receive_limits.py"),
    *("test_registry.py", "test_session_ends.py", "test_stats.py", "test_tornado.py"),
    *("test_tornado_multiplex.py", "test_verify.py"),
)
"""What they do not change.  Single tests of other modules have the mark ``one_python``."""

ONE_LOOP = (
    *("hostile/test_compressed.py", "hostile/test_headers.py", "hostile/test_http_heads.py"),
    *("hostile/test_http_versions.py", "hostile/test_websocket_handshake.py", "protocol/"),
    *("test_aiohttp_protocol.py", "test_aiolibs_requests.py", "test_prefixes.py"),
    *("test_router.py", "test_tornado_requests.py", "test_migrate"),
)
"""What aiohttp or Python may change, but no event loop: requests that have been read, and files."""

_forbids_programs = False


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "a part of the tests, see tests/selection.py"
    parser.addoption("--only", choices=tuple(HAS_ANY), default="all", help=help)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "programs: starts other programs")
    config.addinivalue_line("markers", "slow: computes or waits much; not in `make quick`")
    config.addinivalue_line("markers", "one_python: the same on all versions of Python and aiohttp")
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
        is_wanted = is_quick_test if only == "quick" else may_depend_on_versions
        chosen: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            (chosen if is_wanted(item) else others).append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
    if hasattr(config, "workerinput"):
        browse = {item.path for item in items if "browser" in getattr(item, "fixturenames", ())}
        items.sort(key=lambda item: (item.path not in browse, mixed(item.path)))


@functools.cache  # thousands of tests, of a few hundred modules
def mixed(path: Path) -> bytes:
    """Return what puts modules into an order that is mixed, but always the same."""
    return hashlib.sha1(place(path).encode()).digest()


@functools.cache
def place(path: Path) -> str:
    """Return a module's path below this folder."""
    return path.relative_to(HERE).as_posix()


def needs_no_program(item: pytest.Item) -> bool:
    """Tell whether a test has no mark and no fixture that starts a program."""
    marks = {mark.name for mark in item.iter_markers()}
    return not (MARKS & marks or FIXTURES & set(getattr(item, "fixturenames", ())))


def is_quick_test(item: pytest.Item) -> bool:
    """Tell whether a test of a quick module is quick as well."""
    return needs_no_program(item) and not item.get_closest_marker("slow")


def may_depend_on_versions(item: pytest.Item) -> bool:
    """Tell whether a test of a module that depends on versions does so too, and may be run."""
    if item.get_closest_marker("one_python"):
        return False
    return place(item.path).startswith(EVERY_PYTHON) or needs_no_program(item)


def is_quick(module: str) -> bool:
    """Tell whether tests of a module need no other program and little time."""
    return not module.startswith(PROGRAMS + SLOW)


def depends_on_versions(module: str) -> bool:
    """Tell whether another version of something may change what tests of a module say."""
    if module.startswith(EVERY_PYTHON):
        return True
    return is_quick(module) and not module.startswith(ONE_PYTHON)


def depends_on_loops(module: str) -> bool:
    """Tell whether another event loop may change it."""
    return depends_on_versions(module) and not module.startswith(ONE_LOOP)


HAS_ANY = {
    "all": lambda module: True,
    "quick": is_quick,
    "versions": depends_on_versions,
    "loops": depends_on_loops,
}
"""Which modules have tests that are chosen."""


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

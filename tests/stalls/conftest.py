"""Throws inputs at a server, and prints the ten longest stalls."""

import logging
from collections.abc import Iterator

import pytest

from sockjs_aio.protocol import json_text
from tests.stalls.throwing import Thrower, results
from tests.stalls.watch import is_own_loop


@pytest.fixture(scope="session", autouse=True)
def print_longest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the ten longest stalls, after the last test."""
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print("\nlongest callbacks:", *map(str, sorted(results, reverse=True)[:10]), sep="\n")


@pytest.fixture
async def throw(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Thrower:
    """Runs something while callbacks are measured: see `Thrower`."""
    if not is_own_loop():
        pytest.skip("this loop's callbacks cannot be measured")
    caplog.set_level(logging.ERROR, "sockjs_aio")  # pytest keeps every line
    return Thrower(request.node.name)


@pytest.fixture(params=["orjson", "json"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What reads and writes JSON."""
    if request.param == "json":
        monkeypatch.setattr(json_text, "orjson", None)
    return str(request.param)

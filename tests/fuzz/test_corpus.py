"""Every stored input of every fuzz target, without a fuzzer: seeds, and all that once failed."""

import secrets

import pytest

from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.server import websocket_connection
from tests.cases import case
from tests.fuzz.targets import CORPUS, TARGETS

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


MARKS = {
    "lane_tls": pytest.mark.programs,  # one makes a certificate
    "handover": pytest.mark.skipif(not handover_links.is_possible(), reason="sockets stay here"),
}


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=MARKS.get(name, ())) for name in TARGETS]
)
def test_invariants_hold_for_stored_inputs(target: str) -> None:
    before = (secrets.randbits, vars(websocket_connection)["TURN"])
    for path in INPUTS:
        if path.parent.name == target:
            with case(path.name):
                TARGETS[target](path.read_bytes())
    assert (secrets.randbits, vars(websocket_connection)["TURN"]) == before, "other tests follow"


def test_every_input_has_a_target() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)


def test_every_target_has_a_small_corpus() -> None:
    for name in TARGETS:
        sizes = [path.stat().st_size for path in INPUTS if path.parent.name == name]
        assert 5 <= len(sizes) <= 100, name
        assert max(sizes) <= 1024, name

"""Every stored input of every fuzz target, without a fuzzer: seeds, and all that once failed."""

from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_invariants_hold_for_stored_input(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_small_corpus() -> None:
    for name in TARGETS:
        sizes = [path.stat().st_size for path in INPUTS if path.parent.name == name]
        assert 5 <= len(sizes) <= 100, name
        assert max(sizes) <= 1024, name

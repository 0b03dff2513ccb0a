"""CI's second look at failures: what fails alone counts, what passes alone does not."""

from pathlib import Path

import pytest

from tests.second_look import main

ALWAYS = "def test_it(): assert False\n"
ONCE = """
from pathlib import Path
def test_it():
    seen = Path(__file__ + ".seen")
    first = not seen.exists()
    seen.touch()
    assert not first
def test_other():
    assert True
"""


@pytest.fixture(autouse=True)
def few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load none but xdist: there is one pytest after the other here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")


def look(tmp_path: Path, text: str, processes: int = 0) -> int:
    test = tmp_path / "test_made_up.py"
    test.write_text(text)
    options = ["-q", "--no-header", f"--rootdir={tmp_path}", f"--numprocesses={processes}"]
    return main([*options, str(test)])


def test_a_failure_that_does_not_come_again_is_told_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert look(tmp_path, ONCE, processes=2) == 0
    printed = capfd.readouterr().out
    assert printed.count("1 passed, 1 deselected") == 3
    assert "failed beside others, passed 3 times alone: test_made_up.py::test_it" in printed


def test_a_failure_that_comes_again_counts(tmp_path: Path) -> None:
    assert look(tmp_path, ALWAYS) == 1


def test_many_failures_count_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"def test_{number}(): assert False\n" for number in range(4))
    assert look(tmp_path, text) == 1
    assert "once more" not in capfd.readouterr().out


def test_what_is_not_about_single_tests_counts(tmp_path: Path) -> None:
    assert look(tmp_path, "def broken(:\n") != 0
    assert look(tmp_path, "") == 5  # pytest's code for "no tests"

"""The tables of docs/observing.md are those of the code."""

import dataclasses
import re
from pathlib import Path
from typing import get_args

from sockjs_aio import CloseInfo, Observer, Stats
from sockjs_aio.core.events import Reason
from sockjs_aio.protocol import ends

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/observing.md").read_text()


def rows(heading: str) -> list[str]:
    """Return the names in the first column of the first table below a heading."""
    section = PAGE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.M)
    return [name for cell in cells for name in re.findall(r"`([\w.]+)", cell)]


def test_every_number_is_documented() -> None:
    assert sorted(rows("Numbers")) == sorted(field.name for field in dataclasses.fields(Stats))


def test_every_status_is_documented() -> None:
    statuses = {CloseInfo(*end, 0.0, "xhr").status for end in ends.ENDS}
    assert sorted(rows("Statuses")) == sorted(statuses | {"client", "server"})


def test_every_reason_is_documented() -> None:
    assert sorted(rows("Reasons")) == sorted(get_args(Reason))


def test_every_event_is_documented() -> None:
    events = [name for name in vars(Observer) if not name.startswith("_")]
    assert rows("Events") == events


def test_every_logger_is_documented() -> None:
    package = ROOT / "sockjs_aio"
    found = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'getLogger\("(\S+)"\)', path.read_text())
    }
    assert set(rows("Log")) == found

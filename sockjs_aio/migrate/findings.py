"""What the report on a file is made of; nothing here knows how it is found."""

import enum
from dataclasses import dataclass, field
from pathlib import Path


class Kind(enum.Enum):
    """What is to be done about a finding."""

    REWRITE = enum.auto()  # --write does it
    BY_HAND = enum.auto()  # what to do is known, but is more than a change of names
    SUPPORTED = enum.auto()  # stays as it is
    UNDECIDABLE = enum.auto()
    BROKEN = enum.auto()  # the file is skipped


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A line of the report: what was found in line `line`, and what to make of it."""

    line: int
    found: str
    advice: str
    kind: Kind = field(compare=False)

    def render(self, path: Path) -> str:
        """Return the line that is printed for a finding in `path`."""
        place = f"{path}:{self.line}: "
        if self.kind in (Kind.REWRITE, Kind.SUPPORTED):
            return f"{place}{self.found} -> {self.advice}"
        if self.kind is Kind.BY_HAND:
            return f"{place}{self.found} -> {self.advice} (by hand)"
        return f"{place}{self.kind.name.lower()}: {self.found}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Examination:
    """What became of one file: the findings by line, and its new content if that differs."""

    findings: list[Finding]
    rewritten: bytes | None = None
    beside: list[Finding] = field(default_factory=list)  # worth telling if any file is a user
    is_user: bool = False  # it uses sockjs-tornado, or the adapter


def broken(reason: str, line: int = 1, *, found: str = "cannot be read") -> Examination:
    """Return what becomes of a file that is skipped for `reason`."""
    return Examination([Finding(line, found, reason, Kind.BROKEN)])

"""The report on one file: its findings, and how each is printed."""

import enum
from dataclasses import dataclass, field
from pathlib import Path


class Kind(enum.Enum):
    """What to do about a finding."""

    REWRITE = enum.auto()  # --write does it
    BY_HAND = enum.auto()  # the user changes it, as the advice says
    SUPPORTED = enum.auto()  # nothing
    UNDECIDABLE = enum.auto()  # the user must decide first
    BROKEN = enum.auto()  # the user must repair the file, which is skipped


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A line of the report: what was found in line `line`, and what to do about it."""

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
    """The result for one file: its findings by line, and its new content if that differs."""

    findings: list[Finding]
    rewritten: bytes | None = None
    beside: list[Finding] = field(default_factory=list)  # reported if any file is a user
    is_user: bool = False  # it uses sockjs-tornado or the adapter


def broken(reason: str, line: int = 1, *, found: str = "cannot be read") -> Examination:
    """Return the result for a file that is skipped because of `reason`."""
    advice = f"{reason}; fix this, then run the command again"
    return Examination([Finding(line, found, advice, Kind.BROKEN)])

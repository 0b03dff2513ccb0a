"""Files besides the sources that name sockjs-tornado: requirements, and logging's configuration.

They are read line by line, whatever their format, and never rewritten.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath

from sockjs_aio.migrate.findings import Examination, Finding, Kind

MAX_SIZE = 1_000_000
"""Bytes: what is larger is data."""

_ENDINGS = {".cfg", ".conf", ".ini", ".json", ".toml", ".yaml", ".yml"}
_NAMES = re.compile(
    r"(requirements|constraints|dev|test)[\w.-]*\.(txt|in)|Pipfile|Dockerfile[\w.-]*"
)
_LOCKS = {"package.json", "package-lock.json", "composer.json"}  # of other languages

_REQUIREMENT = re.compile(r"(?<![\w.-])sockjs[-_]tornado(?![\w-])", re.IGNORECASE)
_LOGGER = re.compile(r"(?<![\w.])sockjs\.tornado(?!_)\b[\w.]*|(?<![\w.])tornado\.general\b")

REQUIRED = "sockjs-aio; tornado as well, in a line of its own, if other code uses it"
LOGGER = 'the logger is "sockjs_aio" now (sockjs-tornado\'s was "tornado.general")'


def is_settings_file(name: str) -> bool:
    """Tell by its name whether a file may be one of these."""
    path = PurePath(name)
    if path.name in _LOCKS or path.name.endswith(".lock"):
        return False
    is_in_folder = path.parent.name == "requirements" and path.suffix in (".txt", ".in")
    return path.suffix in _ENDINGS or is_in_folder or bool(_NAMES.fullmatch(path.name))


def examine_settings(raw: bytes) -> Examination:
    """Find the lines of a file of content `raw` that name sockjs-tornado."""
    if len(raw) > MAX_SIZE or b"ornado" not in raw:
        return Examination([])
    text = raw.decode(errors="replace")
    findings: list[Finding] = []
    beside: list[Finding] = []
    for number, line in enumerate(text.splitlines(), 1):
        for finding in _of_line(number, line):
            (beside if "tornado.general" in finding.found else findings).append(finding)
    return Examination(findings, beside=beside, is_user=bool(findings))


def _of_line(number: int, line: str) -> Iterator[Finding]:
    if line.lstrip().startswith("#"):
        return
    found = " ".join(line.split())
    found = found if len(found) <= 100 else f"{found[:97]}..."
    if _REQUIREMENT.search(line):
        yield Finding(number, found, REQUIRED, Kind.BY_HAND)
    elif _LOGGER.search(line):
        yield Finding(number, found, LOGGER, Kind.BY_HAND)

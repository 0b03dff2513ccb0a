"""Finds sockjs-tornado in files other than sources: requirements and logging configurations.

It reads them line by line, whatever their format, and never rewrites them.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath

from sockjs_aio.migrate.findings import Examination, Finding, Kind

MAX_SIZE = 1_000_000
"""Bytes; a larger file is data, not settings, and is skipped."""

_ENDINGS = {".cfg", ".conf", ".ini", ".json", ".toml", ".yaml", ".yml"}
_ENDINGS |= {".dockerfile", ".mk", ".sh"}
_NAMES = re.compile(
    r"([\w.-]*require|reqs?|constraints|dep(s|endencies)|dev|test)[\w.-]*\.(txt|in|pip)"
    r"|pip-requires|Pipfile|Dockerfile[\w.-]*|Makefile"
)
_LOCKS = {"package.json", "package-lock.json", "composer.json"}  # of other languages

_REQUIREMENT = re.compile(r"(?<![\w.-])sockjs[-_]tornado(?![\w-])", re.IGNORECASE)
# In scripts, a line that only names it may mean anything.
_SCRIPT = re.compile(r"Makefile|.*\.(mk|sh)")
_INSTALLS = re.compile(r"\binstall\b")
_LOGGER = re.compile(r"(?<![\w.])sockjs\.tornado(?!_)\b[\w.]*|(?<![\w.])tornado\.general\b")

REQUIRED = "require sockjs-aio instead, and tornado on its own line if other code uses it"
LOGGER = 'use the logger "sockjs_aio" instead (sockjs-tornado used "tornado.general")'


def is_settings_file(name: str) -> bool:
    """Tell by its name whether a file may contain requirements or a logging configuration."""
    path = PurePath(name)
    if path.name in _LOCKS or path.name.endswith(".lock"):
        return False
    is_in_folder = path.parent.name == "requirements" and path.suffix in (".txt", ".in")
    return path.suffix in _ENDINGS or is_in_folder or bool(_NAMES.fullmatch(path.name))


def examine_settings(name: str, raw: bytes) -> Examination:
    """Find the lines that name sockjs-tornado in a file called `name` with the content `raw`."""
    if len(raw) > MAX_SIZE or b"ornado" not in raw:
        return Examination([])
    text = raw.decode(errors="replace")
    findings: list[Finding] = []
    beside: list[Finding] = []
    is_script = bool(_SCRIPT.fullmatch(PurePath(name).name))
    for number, line in enumerate(text.splitlines(), 1):
        if is_script and not _INSTALLS.search(line):
            continue
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

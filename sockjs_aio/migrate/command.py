"""The command line: files are examined one by one, and the findings printed."""

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sockjs_aio.migrate.examination import examine_file
from sockjs_aio.migrate.files import files_below, read_file, replace_file
from sockjs_aio.migrate.findings import Examination, Finding, Kind, broken

_START = """\
The start of the server becomes (from aiohttp import web; from sockjs_aio import run_app):
    app = web.Application()
    router.attach(app)
    run_app(app, host=..., port=...)"""

_EPILOG = """\
Without --write nothing is changed. Directories are searched for *.py, requirements and
configurations (*.toml *.cfg *.ini *.conf *.yaml *.json), except in hidden directories, virtual
environments, node_modules and __pycache__; symbolic links in them are not followed.

Only imports are ever rewritten. Lines marked "by hand" say what to change, such as the start of the
server, and what else of Tornado is there: it may stay. Lines marked "undecidable" need a decision
first; "broken" files could not be read or written, Python 2 among them.

exit status:
  0  nothing is left to decide (there may still be changes to make, or lines marked "by hand")
  1  undecidable places or broken files were listed
  2  wrong use, for instance a PATH that does not exist; nothing was changed"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m sockjs_aio.migrate",
        description="Report what code for sockjs-tornado has to change for sockjs_aio.tornado.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="file or directory")
    parser.add_argument("--write", action="store_true", help="rewrite imports and sockjs.tornado.X")
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not os.path.exists(path):
            parser.error(f"{path}: no such file or directory")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a file may not be printable
        sys.stdout.reconfigure(errors="backslashreplace")
    files = 0
    counts: Counter[Kind] = Counter()
    for path, findings in migrate(options.paths, write=options.write):
        files += 1
        for finding in findings:
            counts[finding.kind] += 1
            print(finding.render(path))
    if counts[Kind.BY_HAND]:
        print(_START)
    done = "rewritten" if options.write else "to rewrite (with --write)"
    print(
        f"{_number(files, 'file')}: {_number(counts[Kind.REWRITE], 'place')} {done}, "
        f"{counts[Kind.BY_HAND]} by hand, {counts[Kind.UNDECIDABLE]} undecidable, "
        f"{counts[Kind.BROKEN]} broken"
    )
    return 1 if counts[Kind.UNDECIDABLE] or counts[Kind.BROKEN] else 0


def migrate(paths: Iterable[Path], *, write: bool) -> Iterator[tuple[Path, list[Finding]]]:
    """Examine the files below `paths`, each once, and rewrite them if `write` is true.

    What a file has of Tornado besides is told if any of them uses sockjs-tornado.
    """
    seen = set()
    reports: list[tuple[Path, Examination]] = []
    for path in paths:
        for file in files_below(path):
            if isinstance(file, OSError):
                reports.append((Path(file.filename), broken(file.strerror or str(file))))
            elif (real := file.resolve()) not in seen:
                seen.add(real)
                reports.append((file, _migrated(file, write=write)))
    is_any_user = any(examination.is_user for _, examination in reports)
    for path, examination in reports:
        beside = examination.beside if is_any_user else []
        yield path, sorted({*examination.findings, *beside})


def migrate_file(path: Path, *, write: bool) -> list[Finding]:
    """Examine the file at `path`, rewrite it if `write` is true, and return the findings."""
    return _migrated(path, write=write).findings


def _migrated(path: Path, *, write: bool) -> Examination:
    try:
        examination = examine_file(str(path), read_file(path))
    except OSError as error:
        return broken(error.strerror or str(error))
    rewritten = examination.rewritten
    if write and rewritten is not None:
        try:
            replace_file(path, rewritten)
        except OSError as error:
            failure = broken(error.strerror or str(error), found="cannot be written")
            left = [f for f in examination.findings if f.kind is not Kind.REWRITE]
            return replace(examination, findings=failure.findings + left)
    # the content of many files is not kept
    return replace(examination, rewritten=None)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

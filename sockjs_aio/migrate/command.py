"""The command line: files are examined one by one, and the findings printed."""

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sockjs_aio.migrate.examination import examine
from sockjs_aio.migrate.files import python_files, read_file, replace_file
from sockjs_aio.migrate.findings import Finding, Kind, broken

_THREE_LINES = """\
The start of the server becomes (from aiohttp import web):
    app = web.Application()
    router.attach(app)  # or: app.add_routes(router.urls)
    web.run_app(app, port=...)"""

_EPILOG = """\
Without --write nothing is changed. Directories are searched for *.py, except in hidden directories,
virtual environments, node_modules and __pycache__; symbolic links in them are not followed.

Lines marked "by hand" say what to change where the server starts; --write leaves these alone.
Lines marked "undecidable" need a decision first; "broken" files could not be read or written.

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
        print(_THREE_LINES)
    done = "rewritten" if options.write else "to rewrite (with --write)"
    print(
        f"{_number(files, 'file')}: {_number(counts[Kind.REWRITE], 'place')} {done}, "
        f"{counts[Kind.BY_HAND]} by hand, {counts[Kind.UNDECIDABLE]} undecidable, "
        f"{counts[Kind.BROKEN]} broken"
    )
    return 1 if counts[Kind.UNDECIDABLE] or counts[Kind.BROKEN] else 0


def migrate(paths: Iterable[Path], *, write: bool) -> Iterator[tuple[Path, list[Finding]]]:
    """Examine the Python files below `paths`, each once, and rewrite them if `write` is true."""
    seen = set()
    for path in paths:
        for file in python_files(path):
            if isinstance(file, OSError):
                yield Path(file.filename), broken(file.strerror or str(file)).findings
            elif (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, migrate_file(file, write=write)


def migrate_file(path: Path, *, write: bool) -> list[Finding]:
    """Examine the file at `path`, rewrite it if `write` is true, and return the findings."""
    try:
        examination = examine(read_file(path))
    except OSError as error:
        return broken(error.strerror or str(error)).findings
    findings = examination.findings
    if write and examination.rewritten is not None:
        try:
            replace_file(path, examination.rewritten)
        except OSError as error:
            failure = broken(error.strerror or str(error), found="cannot be written")
            return failure.findings + [f for f in findings if f.kind is not Kind.REWRITE]
    return findings


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

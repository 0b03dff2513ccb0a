"""The command line: examines files one by one and prints the findings."""

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
Start the server like this (from aiohttp import web; from sockjs_aio import run_app):
    app = web.Application()
    router.attach(app)
    run_app(app, host=..., port=...)"""

_EPILOG = """\
Without --write, nothing is changed. In directories, the command examines *.py, requirements,
configuration files (*.toml *.cfg *.ini *.conf *.yaml *.yml *.json), and scripts that install
packages (Makefile, Dockerfile, *.sh). It skips hidden directories, virtual environments,
node_modules and __pycache__, and does not follow symbolic links.

--write changes imports and uses of sockjs.tornado.X, and nothing else. The other lines are for you:
  by hand      change this line as it says, for example where the server starts;
               Tornado's request handlers and the like are listed too, but may stay on Tornado
  undecidable  the command cannot tell what is right: decide, and change the line yourself
  broken       the file cannot be read or written, or is Python 2: fix that, then run this again

exit status:
  0  nothing is left to decide (there may still be imports to rewrite, or lines marked "by hand")
  1  undecidable places or broken files were listed
  2  wrong usage, for example a PATH that does not exist; nothing was changed"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m sockjs_aio.migrate") -> int:
    """Run the command line, called `prog`, and return its exit status; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Report what to change in code for sockjs-tornado to use sockjs_aio.tornado.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="file or directory")
    parser.add_argument(
        "--write", action="store_true", help="rewrite imports and uses of sockjs.tornado.X"
    )
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not os.path.exists(path):
            parser.error(f"{path}: no such file or directory")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may not be printable
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

    Findings about Tornado itself are included only if one of the files uses sockjs-tornado.
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
    # the caller collects the reports of all files: do not keep their content
    return replace(examination, rewritten=None)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

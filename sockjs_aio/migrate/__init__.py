"""Moves code written for sockjs-tornado to the adapter: ``python -m sockjs_aio.migrate``.

Sources are read with `ast` and never run; what cannot be decided from one file alone is listed, not
guessed.  Only imports and ``sockjs.tornado.X`` are rewritten, by putting ``_aio`` behind the word
``sockjs``; the result has to parse to the tree that was meant, or the file is left alone.  Nothing
here imports the rest of the package.
"""

from sockjs_aio.migrate.command import main, migrate, migrate_file
from sockjs_aio.migrate.counterparts import COUNTERPARTS, MISSING, NEW, OLD, why_missing
from sockjs_aio.migrate.examination import examine, examine_file
from sockjs_aio.migrate.files import files_below, read_file, replace_file
from sockjs_aio.migrate.findings import Examination, Finding, Kind

__all__ = [
    "COUNTERPARTS",
    "Examination",
    "Finding",
    "Kind",
    "MISSING",
    "NEW",
    "OLD",
    "examine",
    "examine_file",
    "files_below",
    "main",
    "migrate",
    "migrate_file",
    "read_file",
    "replace_file",
    "why_missing",
]

"""Moves code written for sockjs-tornado to the adapter: ``python -m sockjs_aio.migrate``.

The command parses sources with `ast` and never runs them.  What it cannot decide from one file
alone, it lists instead of guessing.  It rewrites only imports and uses of ``sockjs.tornado.X``, by
turning the word ``sockjs`` into ``sockjs_aio``.  If the result does not parse to the intended tree,
it leaves the file unchanged.  Nothing here imports the rest of the package.
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

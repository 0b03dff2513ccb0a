"""Moves code written for sockjs-tornado to the adapter: ``python -m sockjs_aio.migrate``."""

from sockjs_aio.migrate.examination import (
    COUNTERPARTS,
    MISSING,
    NEW,
    OLD,
    Examination,
    Finding,
    Kind,
    examine,
    main,
    migrate,
    migrate_file,
    python_files,
    read_file,
    replace_file,
    why_missing,
)

__all__ = [
    "COUNTERPARTS",
    "Examination",
    "Finding",
    "Kind",
    "MISSING",
    "NEW",
    "OLD",
    "examine",
    "main",
    "migrate",
    "migrate_file",
    "python_files",
    "read_file",
    "replace_file",
    "why_missing",
]

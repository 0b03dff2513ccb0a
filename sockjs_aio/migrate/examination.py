"""Examines one file: bytes in, findings and new bytes out; does no I/O."""

import unicodedata
from pathlib import PurePath

from sockjs_aio.migrate.application_settings import application_settings
from sockjs_aio.migrate.facts import Facts
from sockjs_aio.migrate.findings import Examination, Finding, Kind, broken
from sockjs_aio.migrate.handlers import Handlers
from sockjs_aio.migrate.loop import BeforeTheLoop
from sockjs_aio.migrate.mover import Mover
from sockjs_aio.migrate.old_tornado import old_tornado
from sockjs_aio.migrate.python2 import is_python2, is_user, leftovers, python2, reject_old_except
from sockjs_aio.migrate.settings_files import examine_settings, is_settings_file
from sockjs_aio.migrate.source import Source
from sockjs_aio.migrate.start import Start
from sockjs_aio.migrate.strings import other_sockjs, requirements, strings, tornado_loggers


def examine_file(name: str, raw: bytes) -> Examination:
    """Find what to change in a file called `name` with the content `raw`."""
    if is_settings_file(name) and PurePath(name).suffix != ".py":
        return examine_settings(name, raw)
    return examine(raw)


def examine(raw: bytes) -> Examination:
    """Find what to change in a Python file with the content `raw`.

    `Examination.rewritten` is None if there is nothing to rewrite.
    """
    source = None
    try:
        source = Source(raw)
        source.parse()
        reject_old_except(source.tree)
        return _examined(source, raw)
    except SyntaxError as error:
        if source is not None and is_python2(source.text, error):
            findings = sorted(python2(source.text, error.lineno))
            return Examination(findings, is_user=is_user(source.text))
        return broken(error.msg, error.lineno or 1)
    except (ValueError, LookupError) as error:  # undecodable; a null byte; an unknown codec
        return broken(str(error))
    except (RecursionError, MemoryError):
        return broken("nested too deeply")


def _examined(source: Source, raw: bytes) -> Examination:
    text = unicodedata.normalize("NFKC", source.text)  # as Python normalizes identifiers
    if "sockjs" not in text and "tornado" not in text:
        return Examination([])
    facts = Facts(source.tree)
    beside = [
        *Start(facts).findings(),
        *BeforeTheLoop(facts).findings(),
        *Handlers(facts).findings(),
        *application_settings(facts),
        *old_tornado(facts),
        *leftovers(facts),
        *tornado_loggers(facts),
    ]
    findings = list(requirements(facts))
    if "sockjs" in text:
        mover = Mover(source, facts)
        findings += [*mover.findings, *strings(facts), *other_sockjs(facts)]
        if facts.is_user:
            return _rewritten(source, raw, mover, findings + beside)
        return Examination(sorted(set(findings)), beside=sorted(set(beside)))
    return Examination(sorted(set(findings)), beside=sorted(set(beside)))


def _rewritten(source: Source, raw: bytes, mover: Mover, findings: list[Finding]) -> Examination:
    rewritten = None
    if mover.places:
        try:
            rewritten = source.rewrite(mover.places, raw)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            findings = [_left(f, str(error)) if f.kind is Kind.REWRITE else f for f in findings]
    return Examination(sorted(set(findings)), rewritten, is_user=True)


def _left(finding: Finding, reason: str) -> Finding:
    advice = f"not rewritten: {reason}; change it by hand"
    return Finding(finding.line, finding.found, advice, Kind.UNDECIDABLE)

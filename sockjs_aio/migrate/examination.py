"""One file from its bytes to its findings and its new bytes; nothing here does I/O."""

import unicodedata

from sockjs_aio.migrate.facts import Facts
from sockjs_aio.migrate.findings import Examination, Finding, Kind, broken
from sockjs_aio.migrate.mover import Mover
from sockjs_aio.migrate.source import Source
from sockjs_aio.migrate.start import Start
from sockjs_aio.migrate.strings import strings


def examine(raw: bytes) -> Examination:
    """Find what code for sockjs-tornado has to change in a Python file of content `raw`.

    The `rewritten` content of the answer is None where nothing is to be rewritten.
    """
    try:
        source = Source(raw)
        if "sockjs" not in unicodedata.normalize("NFKC", source.text):  # as in identifiers
            return Examination([])
        facts = Facts(source.tree)
        mover = Mover(source, facts)
        findings = [*mover.findings, *strings(facts)]
        if facts.is_user:
            findings += Start(facts).findings()
    except SyntaxError as error:
        return broken(error.msg, error.lineno or 1)
    except (ValueError, LookupError) as error:  # undecodable; a null byte; an unknown codec
        return broken(str(error))
    except (RecursionError, MemoryError):
        return broken("nested too deeply")
    if not mover.places:
        return Examination(sorted(set(findings)))
    try:
        rewritten = source.rewrite(mover.places, raw)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        findings = [_left(f, str(error)) if f.kind is Kind.REWRITE else f for f in findings]
        return Examination(sorted(set(findings)))
    return Examination(sorted(set(findings)), rewritten)


def _left(finding: Finding, reason: str) -> Finding:
    return Finding(finding.line, finding.found, f"left: {reason}", Kind.UNDECIDABLE)

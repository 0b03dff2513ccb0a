"""No test here logs an error that it did not ask for: clients must not be able to fill a log."""

import logging
import re
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check the records of a test, and of the end of its server, against its ``logs`` marks."""
    yield
    patterns = [pattern for mark in request.node.iter_markers("logs") for pattern in mark.args]
    formatter = logging.Formatter("%(name)s: %(message)s")
    for phase in ("call", "teardown"):
        for record in caplog.get_records(phase):
            if record.levelno >= logging.ERROR or record.exc_info:
                text = formatter.format(record)
                assert any(re.search(pattern, text) for pattern in patterns), text

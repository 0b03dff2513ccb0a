"""A balancer that scatters the requests of a session is named in the log, not just a bare 404."""

import logging

import pytest

from sockjs_aio.server.missed_sends import WINDOW, MissedSends
from tests.conftest import Serve


@pytest.mark.parametrize("url", ["/xhr_send", "/jsonp_send"])
async def test_sends_without_a_session_are_told_of_once(
    serve: Serve, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    for _ in range(10):
        reply = await served.request("POST", "/000/elsewhere" + url, '["a"]')
        assert (reply.status, reply.body) == (404, b"Unknown session.\n")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "does not send all requests of a session to the same process" in caplog.text
    assert "with Workers on one host (docs/workers.md) or Nodes (docs/nodes.md)" in caplog.text
    assert "elsewhere" not in caplog.text


def test_few_that_come_too_late_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    check = MissedSends()
    check.missed(0.0)
    for _ in range(28):
        check.found()
    check.missed(1.0)
    check.missed(2.0)
    assert caplog.records == []


def test_a_tenth_of_all_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    check = MissedSends()
    check.missed(0.0)
    for _ in range(27):
        check.found()
    check.missed(1.0)
    check.missed(2.0)
    assert "3 of 30 sends were for unknown sessions" in caplog.text


def test_it_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    check = MissedSends()
    for second in range(int(2.5 * WINDOW)):
        check.missed(float(second))
    assert [record.getMessage()[:10] for record in caplog.records] == ["3 of 3 sen"] * 3


def test_what_was_long_ago_does_not_hide_it(caplog: pytest.LogCaptureFixture) -> None:
    check = MissedSends()
    check.missed(0.0)
    for _ in range(1_000_000):
        check.found()
    for second in range(3):
        check.missed(WINDOW + second)
    assert len(caplog.records) == 1

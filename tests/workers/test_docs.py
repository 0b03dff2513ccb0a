"""What docs/workers.md says, against the code."""

import re

import pytest

from sockjs_aio.cluster.relay import peers, signed_header
from sockjs_aio.cluster.workers import command, handover, handover_links, placement, supervisor
from sockjs_aio.server.drain import Drain
from tests.test_docs import ROOT

TEXT = re.sub(r"\s+", " ", (ROOT / "docs/workers.md").read_text())


def test_limits_are_those_that_are_documented() -> None:
    assert peers.BUFFER == 64 << 10 and "at most 64 KiB wait in the relaying worker" in TEXT
    assert handover_links.MAX_DATA == 64 << 10 and "more than 64 KiB have been read" in TEXT
    assert handover.MAX_KEPT == 16 << 10 and "with more than 16 KiB, and" in TEXT
    assert f"The header is valid for {signed_header.VALIDITY:g} seconds" in TEXT
    assert f"open a session on it wait for up to {placement.START_PATIENCE:g} seconds" in TEXT
    assert f"before it has served for {supervisor.STEADY:g} seconds" in TEXT
    delays = [f"{delay:g}" for delay in supervisor.BACKOFF[1:]]
    assert f"The pauses are {', '.join(delays[:-1])} and {delays[-1]} seconds" in TEXT
    assert supervisor.MAX_QUICK_DEATHS == 5 and "dies like this five times in a row" in TEXT


@pytest.mark.parametrize("name", ["notice", "over", "limit"])
def test_options_are_documented_with_their_defaults(name: str) -> None:
    assert re.search(rf"`--drain-{name}` (seconds )?\({getattr(Drain, name):g}\)", TEXT)


def test_help_has_all_options_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["serve", "--help"])
    told = capsys.readouterr().out
    options = set(re.findall(r"--[a-z][a-z-]+", TEXT))
    assert options > {"--workers", "--port", "--drain-notice"}
    for option in options:
        assert option in told, option

"""What the log does not say where requests are handed on."""

import pytest

from tests.workers.conftest import RunTeam


async def test_the_log_does_not_blame_the_balancer_where_workers_find_sessions(
    team: RunTeam, caplog: pytest.LogCaptureFixture
) -> None:
    workers = await team(2)
    for number in range(20):
        assert await workers[0].post(f"/0/{number}", '["x"]') == 404
    assert "balancer" not in caplog.text

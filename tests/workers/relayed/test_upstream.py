"""See conftest.py."""

from tests.transports.test_upstream import *  # noqa: F403

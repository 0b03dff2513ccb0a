"""See conftest.py."""

from tests.test_refusals_across_origins import *  # noqa: F403

"""See conftest.py."""

from tests.hostile.test_http_heads import *  # noqa: F403

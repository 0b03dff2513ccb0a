"""See conftest.py."""

from tests.hostile.test_http_bodies import *  # noqa: F403

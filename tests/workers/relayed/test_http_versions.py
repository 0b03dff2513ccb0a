"""See conftest.py."""

from tests.hostile.test_http_versions import *  # noqa: F403

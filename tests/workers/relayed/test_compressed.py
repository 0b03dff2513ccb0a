"""See conftest.py."""

from tests.hostile.test_compressed import *  # noqa: F403

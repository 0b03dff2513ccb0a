"""What some tests need besides Python, and some machines lack."""

import os

import pytest


def require(tool: object, what: str) -> None:
    """Skip the test if `tool` is missing; in CI nothing may be missing."""
    if not tool:
        if os.environ.get("CI"):
            pytest.fail(f"{what} is not installed")
        pytest.skip(f"{what} is not installed")

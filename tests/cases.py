"""Many values in one test: what fails names its value."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(value: object) -> Iterator[None]:
    """Name `value` where what follows fails."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"with {value!r}: {error}") from error

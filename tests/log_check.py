"""A pytest plugin: a test fails if something is logged that it did not ask for.

What nobody asked for: a traceback, and what asyncio and aiohttp say of things left behind.  A test
that provokes one says which: ``@pytest.mark.logs("ZeroDivisionError")``, a regular expression for
the message or the traceback; and it fails if nothing of the kind is logged.
"""

import gc
import logging
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LEFT_BEHIND = re.compile("Task was destroyed|never retrieved|never awaited|Unclosed")


class Watch(logging.Handler):
    """Keeps the texts of records that need a reason."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.exc_info or LEFT_BEHIND.search(text):
            self.texts.append(text)

    def take(self) -> list[str]:
        """Return what has come since the last call."""
        texts, self.texts = self.texts, []
        return texts


watch = Watch()


@contextmanager
def logs(pattern: str) -> Iterator[None]:
    """Make sure that what follows logs tracebacks that match `pattern`, or none if it is empty.

    The test has them in its mark, too.
    """
    start = len(watch.texts)
    yield
    texts = watch.texts[start:]
    assert bool(texts) == bool(pattern), texts
    assert all(re.search(pattern, text) for text in texts), texts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs(pattern, ...): tracebacks that the test asks for")
    logging.getLogger().addHandler(watch)


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger().removeHandler(watch)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Collect no garbage while pytest parses the source of a test that has failed.

    What such a test leaves open warns when it is collected.  Python parses source for the traceback
    of that too, and before 3.12 it cannot do both at a time: pytest ends with an internal error.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Check after a test's fixtures have been torn down, its server among them."""
    yield
    if nextitem is None or nextitem.fspath != item.fspath:
        gc.collect()  # what was left behind is reported when it is collected: once a module
        gc.freeze()  # what is kept is not looked at again: pytest's reports above all
        # hypothesis's own, which could not be called where a test nears the limit of recursion
        for callback in [x for x in gc.callbacks if x.__module__.startswith("hypothesis")]:
            gc.callbacks.remove(callback)
    patterns = [pattern for mark in item.iter_markers("logs") for pattern in mark.args]
    texts = watch.take()
    surprises = [text for text in texts if not any(re.search(x, text) for x in patterns)]
    assert not surprises, "logged, and not asked for:\n" + "\n".join(surprises)
    for pattern in patterns:
        assert any(re.search(pattern, text) for text in texts), f"not logged: {pattern}"

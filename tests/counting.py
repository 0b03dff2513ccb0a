"""Counts what work costs besides time: writes to connections, tasks, timers, call-backs."""

import asyncio
import collections
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import sockjs_aio
from sockjs_aio.core.hook_task import HookTask
from sockjs_aio.server.direct.first_bytes import FirstBytes

PACKAGE = str(Path(sockjs_aio.__file__).parent)


class CountedTransport:
    """A server's connection that notes what is written to it."""

    def __init__(self, transport: Any, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._transport.write(data)

    def writelines(self, parts: Any) -> None:
        parts = list(parts)
        self._written.append(b"".join(parts))
        self._transport.writelines(parts)


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list of what aiohttp's servers write from now on, on new connections."""
    written: list[bytes] = []
    for kind in (web.RequestHandler, FirstBytes):
        made: Any = kind.connection_made

        def counted(protocol: Any, transport: Any, made: Any = made) -> None:
            if not isinstance(transport, CountedTransport):  # the one may give it to the other
                transport = CountedTransport(transport, written)
            made(protocol, transport)

        monkeypatch.setattr(kind, "connection_made", counted)
    return written


@contextmanager
def count_functions() -> Iterator[collections.Counter[str]]:
    """Count the calls of the package's functions, by their names; those of C are far cheaper."""
    calls: collections.Counter[str] = collections.Counter()

    def note(frame: Any, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_name] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@contextmanager
def count_calls() -> Iterator[collections.Counter[str]]:
    """Count what is scheduled on the running loop: timers, ``call_soon``, and tasks of the package.

    ``own_call_soon`` counts the package's methods.

    Whoever knows the loop's class may schedule past its methods, but not the package.
    """
    loop = asyncio.get_running_loop()
    calls: collections.Counter[str] = collections.Counter()
    is_inside = False  # in asyncio, call_later calls call_at

    def create_task(coroutine: Any, **options: Any) -> Any:
        calls["tasks"] += coroutine.cr_code.co_filename.startswith(PACKAGE)
        return originals["create_task"](coroutine, **options)

    def counting(name: str, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal is_inside
            was_inside, is_inside = is_inside, True
            calls[name] += not was_inside
            if name == "call_soon":
                owner = getattr(arguments[0], "__self__", None)
                calls["own_call_soon"] += type(owner).__module__.startswith("sockjs_aio")
            try:
                return method(*arguments, **options)
            finally:
                is_inside = was_inside

        return call

    names = {"call_later": "timers", "call_at": "timers", "call_soon": "call_soon"}
    originals = {name: getattr(loop, name) for name in (*names, "create_task")}
    for name, counter in names.items():
        setattr(loop, name, counting(counter, originals[name]))
    loop.create_task = create_task  # type: ignore[method-assign,assignment]
    begin = HookTask.__init__

    def begin_counted(task: HookTask) -> None:  # it makes its task without the loop
        calls["tasks"] += 1
        begin(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HookTask, "__init__", begin_counted)
        try:
            yield calls
        finally:
            for name in originals:
                delattr(loop, name)

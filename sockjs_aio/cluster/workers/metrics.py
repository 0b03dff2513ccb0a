"""The metrics of all workers on one page: the supervisor asks them, and adds up what they report.

A worker that has died is still counted.  Otherwise sums would fall, which Prometheus takes for a
restart of the whole service.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from sockjs_aio.cluster.workers.child import Child, WorkerEndedError
from sockjs_aio.observers.prometheus import Metrics, exposition
from sockjs_aio.server.service import services_of

ANSWER_LIMIT = 1.0
"""Seconds within which a worker must report; then its last report counts."""

Report: TypeAlias = list[list[Any]]
"""Metrics as JSON: name, type and description of each, with its samples: name, labels, value."""

_ADD = {"sockjs_server_loop_lag_seconds": max, "sockjs_server_broker_connected": min}
"""How values of several workers are put together, if not by their sum."""


class Reporter:
    """Measures the services of a worker's application.

    Args:
        app: The application, which has not started yet.
    """

    def __init__(self, app: web.Application) -> None:
        self._metrics = Metrics(CollectorRegistry())
        for service in services_of(app):
            service.observe(self._metrics)

    def report(self) -> Report:
        """Return the present numbers."""
        return [
            [
                family.name,
                family.type,
                family.documentation,
                [[sample.name, sample.labels, sample.value] for sample in family.samples],
            ]
            for family in self._metrics.collect()
        ]


class MetricsPage:
    """Answers Prometheus: ``/metrics`` for all workers together, ``/metrics/workers`` for each.

    Args:
        listener: The socket to answer at.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: list[Child] = []
        self._past: dict[int, Report] = {}  # what workers that have ended have counted, by number
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Answer from now on."""
        app = web.Application()
        app.router.add_get("/metrics", self._answer_sum)
        app.router.add_get("/metrics/workers", self._answer_each)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    async def stop(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def add(self, child: Child) -> None:
        """Count a new worker."""
        self._children.append(child)

    async def _answer_sum(self, request: web.Request) -> web.StreamResponse:
        await self._ask_all()
        return exposition(_Page(merged(self._reports().values())), request)

    async def _answer_each(self, request: web.Request) -> web.StreamResponse:
        await self._ask_all()
        reports = self._reports().items()
        each = [_labelled(report, str(number)) for number, report in sorted(reports)]
        return exposition(_Page(merged(each)), request)

    async def _ask_all(self) -> None:
        self._put_past()
        await asyncio.gather(*map(_ask, self._children))
        self._put_past()

    def _put_past(self) -> None:
        """Keep what workers that have ended have counted."""
        for child in [child for child in self._children if child.has_ended]:
            self._children.remove(child)
            before = self._past.get(child.number, [])
            self._past[child.number] = merged([before, _lasting(child.report)])

    def _reports(self) -> dict[int, Report]:
        """Return what each worker has reported, together with its predecessors."""
        found = dict(self._past)
        for child in self._children:
            found[child.number] = merged([found.get(child.number, []), child.report])
        return found


class _Page(Collector):
    """A report, for prometheus-client to write."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        for name, kind, text, samples in self._report:
            family = Metric(name, text, kind)
            family.samples = [Sample(*sample) for sample in samples]
            yield family


async def _ask(child: Child) -> None:
    child.forget("report")
    child.tell("report")
    with contextlib.suppress(WorkerEndedError):
        await child.hear("report", ANSWER_LIMIT)


def merged(reports: Iterable[Report]) -> Report:
    """Add up reports: the samples that have the same name and labels."""
    families: dict[str, tuple[str, str, dict[Any, float]]] = {}
    for report in reports:
        for name, kind, text, samples in report:
            _, _, values = families.setdefault(name, (kind, text, {}))
            for sample, labels, value in samples:
                key = (sample, tuple(labels.items()))
                values[key] = _put_together(name, values[key], value) if key in values else value
    return [
        [name, kind, text, [[sample, dict(labels), n] for (sample, labels), n in values.items()]]
        for name, (kind, text, values) in families.items()
    ]


def _put_together(name: str, one: float, other: float) -> float:
    return _ADD[name](one, other) if name in _ADD else one + other


def _lasting(report: Report) -> Report:
    """Return what a worker that has ended has counted, without what it had at that moment."""
    return [family for family in report if family[1] != "gauge"]


def _labelled(report: Report, worker: str) -> Report:
    """Add a label to each sample."""
    return [
        [
            name,
            kind,
            text,
            [[n, {"worker": worker, **labels}, value] for n, labels, value in samples],
        ]
        for name, kind, text, samples in report
    ]

"""Draw a soak: sessions, memory and latency over time."""

import collections
import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no window

from matplotlib import pyplot
from PIL import Image

from tests.soak import verdict
from tests.soak.soaking import Result

FAMILIES = {
    "WebSocket": ("#1b6ca8", ["websocket", "rawwebsocket"]),
    "streaming": ("#d1700f", ["xhr_streaming", "eventsource", "htmlfile"]),
    "polling": ("#3a8a3f", ["xhr", "jsonp"]),
}
"""Colour and transports of each line of latencies."""

GREY = "#777777"


def draw(result: Result, path: Path) -> None:
    """Write the picture of `result` to `path`, a PNG."""
    figure, (sessions, memory, latency) = pyplot.subplots(
        3, 1, sharex=True, figsize=(9, 8), height_ratios=(2, 2, 3), layout="constrained"
    )
    figure.suptitle(
        f"{result.server['opened']:,} sessions in {result.seconds:g} s on one process",
        weight="bold",
    )
    _draw_sessions(sessions, result)
    _draw_memory(memory, result)
    _draw_latency(latency, result)
    for axes in (sessions, memory, latency):
        axes.axvline(result.seconds, color=GREY, linewidth=0.8, linestyle=":")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.set_xlim(0, result.samples[-1].time)
    latency.set_xlabel("time since the load began (s)")
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
    Image.open(file).convert("RGB").quantize(128).save(path, optimize=True)  # a third of the size


def _draw_sessions(axes: Any, result: Result) -> None:
    times, counts = _series(result, "sessions")
    axes.fill_between(times, counts, color="#1b6ca8", alpha=0.25)
    axes.plot(times, counts, color="#1b6ca8", linewidth=1)
    axes.set_ylim(0, max(counts) * 1.2)
    axes.set_ylabel("sessions")
    axes.annotate(
        "load ends ",
        (result.seconds, 1),
        xycoords=("data", "axes fraction"),
        ha="right",
        va="top",
        color=GREY,
    )


def _series(result: Result, name: str) -> tuple[list[float], list[float]]:
    """Return the times and the values of one figure."""
    samples = [result.start, *result.samples]
    return [sample.time for sample in samples], [getattr(sample, name) for sample in samples]


def _draw_memory(axes: Any, result: Result) -> None:
    times, sizes = _series(result, "resident")
    sizes = [size / 1e6 for size in sizes]
    bound = verdict.resident(verdict.warmed_up(result)) + verdict.RSS_MARGIN
    axes.plot(times, sizes, color="#8a3a6e", linewidth=1.5)
    axes.axhline(bound, color="#c0392b", linewidth=1, linestyle="--")
    axes.annotate(
        f" bound: after warm-up + {verdict.RSS_MARGIN:g} MB",
        (0, bound),
        xytext=(0, -3),
        textcoords="offset points",
        va="top",
        color="#c0392b",
    )
    axes.set_ylim(0, max([*sizes, bound]) * 1.1)
    axes.set_ylabel("server's resident\nmemory (MB)")


def _draw_latency(axes: Any, result: Result) -> None:
    """Draw p50 and p99 of each second, or of as many as leave the lines apart."""
    width = max(1, round(result.seconds / 100))
    for family, (color, transports) in FAMILIES.items():
        slots: dict[int, list[float]] = collections.defaultdict(list)
        for name in transports:
            for sent, taken in result.latencies[name]:
                slots[int(sent // width)].append(taken * 1000)
        times = [(slot + 0.5) * width for slot in sorted(slots)]
        for percent, thickness, alpha in ((50, 1.5, 1.0), (99, 1.0, 0.5)):
            values = [verdict.percentile(slots[slot], percent) for slot in sorted(slots)]
            label = f"{family}, p{percent}"
            axes.plot(times, values, color=color, linewidth=thickness, alpha=alpha, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    span = "second" if width == 1 else f"{width} seconds"
    axes.set_ylabel(f"echo of an undisturbed client,\nper {span} (ms, log scale)")
    axes.legend(ncols=3, loc="upper left", frameon=False, fontsize="small")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 4)  # room for the legend

"""Draws a chart: one panel for each figure, with one bar for each server."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draw without a window

from matplotlib import pyplot
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.contenders import BARE, OURS
from benchmarks.report import number
from benchmarks.scenarios import Row, Scenario
from benchmarks.summary import Runs, figure

COLUMNS = 3
COLOURS = {OURS: "#1b6ca8", BARE: "#555555"}
OTHERS = "#c3c9cf"


def draw(runs: Runs, scenarios: list[Scenario], names: list[str], path: Path) -> None:
    """Draw the chart and save it as an SVG at `path`."""
    panels = [(scenario, row) for scenario in scenarios for row in scenario.rows]
    count = -(-len(panels) // COLUMNS)
    matplotlib.rcParams.update(
        {"svg.hashsalt": "the same picture for the same figures", "svg.fonttype": "none"}
    )
    figure_, grid = pyplot.subplots(
        count,
        COLUMNS,
        figsize=(11, 0.55 + count * 1.75),
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08),
        squeeze=False,
    )
    figure_.suptitle("What the server spends; shorter is better", weight="bold", size=12)
    axes = list(grid.flat)
    for position, (scenario, row) in enumerate(panels):
        _panel(axes[position], runs, scenario, row, names, position % COLUMNS == 0)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    figure_.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure_)


def _panel(
    axes: Any, runs: Runs, scenario: Scenario, row: Row, names: list[str], has_names: bool
) -> None:
    title = row.title.replace("the same", "WebSocket, 16 in flight")
    values = []
    for name in names:
        found = figure(runs, scenario.name, row, name)
        values.append(found.median if found else 0.0)
    positions = range(len(names), 0, -1)
    axes.barh(positions, values, color=[COLOURS.get(name, OTHERS) for name in names], height=0.72)
    for position, value, name in zip(positions, values, names, strict=True):
        weight = "bold" if name == OURS else "normal"
        axes.annotate(
            number(value or None),
            (value, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=8.5,
            weight=weight,
        )
    axes.set_title(f"{title}\n{row.unit}", size=8.5, loc="left")
    axes.set_yticks(list(positions), names if has_names else [""] * len(names), size=8.5)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlim(0, max(values, default=0) * 1.18 or 1)

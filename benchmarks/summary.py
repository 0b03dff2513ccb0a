"""Computes figures from rounds: medians, the best round, and ratios within a round."""

import statistics
from dataclasses import dataclass

from benchmarks.contenders import BARE, OURS
from benchmarks.scenarios import Result, Row, Scenario

Runs = dict[str, dict[str, list[Result]]]
"""Results by scenario and contender: a list with one result for each round."""


@dataclass(frozen=True)
class Figure:
    """A figure of one contender, over all rounds.

    Args:
        median: The median of the rounds.
        best: The value of the least disturbed round.
    """

    median: float
    best: float


def figures(runs: Runs, scenario: str, row: Row, contender: str) -> list[float | None]:
    """Return the figure of each round; None for a round that failed or does not have it."""
    results = runs.get(scenario, {}).get(contender, [])
    return [None if "failed" in result else row.figure(result) for result in results]


def figure(runs: Runs, scenario: str, row: Row, contender: str) -> Figure | None:
    known = [x for x in figures(runs, scenario, row, contender) if x is not None]
    return Figure(statistics.median(known), min(known)) if known else None


def ratio(runs: Runs, scenario: Scenario, row: Row) -> float | None:
    """Return the cost of sockjs-aio relative to bare aiohttp: the median of the rounds' ratios.

    The servers take turns, so both runs of a round have the same disturbances.
    """
    ours = figures(runs, scenario.name, row, OURS)
    bare = figures(runs, row.reference or scenario.name, row, BARE)
    ratios = [mine / its for mine, its in zip(ours, bare, strict=False) if mine and its]
    return statistics.median(ratios) if ratios else None


def median(runs: Runs, scenario: str, contender: str, *keys: str) -> float | None:
    """Return the median of one number in the load generator's results."""
    values: list[float] = []
    for result in runs.get(scenario, {}).get(contender, []):
        value = result
        for key in keys:
            value = value.get(key, {})
        if isinstance(value, (int, float)):
            values.append(value)
    return statistics.median(values) if values else None


def failures(runs: Runs) -> list[str]:
    """Describe the runs that failed, or in which messages were lost, doubled or altered."""
    found = []
    for scenario, contenders in runs.items():
        for contender, results in contenders.items():
            for result in results:
                what = result.get("failed") or (result["errors"] and f"{result['errors']} errors")
                if what:
                    complaints = "; ".join(result.get("complaints", [])[:2])
                    found.append(f"{scenario}, {contender}: {what} {complaints}".rstrip())
    return found

"""Writes down what was measured: tables for people, a file of figures for programs."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.checkpoint.models import Model
from benchmarks.report import machine

Figures = dict[str, dict[str, list[float]]]
"""Figures of every round, by who and by what."""

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "performance-checkpoints.md"
BEGIN: Final = "<!-- what follows is written by python -m benchmarks.checkpoint -->"
END: Final = "<!-- end of what is written by python -m benchmarks.checkpoint -->"

_OURS: Final = ("in process", "server")
_STEPS: Final = {
    "turns": "over all variables in turn",
    "same": "on one variable",
    "control": "that do nothing, while the disk's own writer works",
}


@dataclass(slots=True)
class Run:
    """All figures of a run.

    Attributes:
        saved: of saves and restores, by model.
        trained: of training.
    """

    saved: dict[str, Figures]
    trained: Figures


def tables(run: Run, models: Mapping[str, Model]) -> str:
    """What was measured, for people."""
    parts = [_saves(run.saved, models), _many(run.saved, models), _training(run.trained)]
    return "\n\n".join(part for part in parts if part)


def write(directory: Path, run: Run, models: Mapping[str, Model], load: float) -> None:
    """Writes the documentation's page, and the figures, into a directory.

    What this run did not measure stays as an earlier one left it there.

    Args:
        directory: where to; made if there is none.
        run: what was measured.
        models: of these models.
        load: the machine's load average before the run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / PAGE.name
    earlier = page.with_suffix(".json")
    if earlier.exists():
        kept = json.loads(earlier.read_text())
        saved = kept["saved"] | run.saved
        run = Run(
            {name: saved[name] for name in models if name in saved}, run.trained or kept["trained"]
        )
    about = machine()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    text = (
        f"{tables(run, models)}\n\nMedians of the rounds, with the fastest and the slowest. "
        f"{about['cores']} cores, {about['system']}, Python {about['python']}, {versions}; load "
        f"average before the run {load:.1f}, after it {os.getloadavg()[0]:.1f}."
    )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    figures = {"machine": about, "saved": run.saved, "trained": run.trained}
    page.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


def _saves(saved: Mapping[str, Figures], models: Mapping[str, Model]) -> str:
    """What each peer takes, and how many times faster we are than TensorFlow, round by round."""
    head = ["", "paramserve in process", "on a server", "TensorFlow", "the disk itself"]
    head += ["in process vs TensorFlow", "server vs TensorFlow"]
    rows = [head, ["---"] * len(head)]
    for name, figures in saved.items():
        rival = figures.get("tensorflow", {})
        lines = [("save, durable", "durable", "durable"), ("restore", "restore", "restore")]
        if rival:
            lines.insert(1, ("save, TensorFlow's not synced", "durable", "written"))
        for title, what, theirs in lines:
            ours = [figures[peer][what] for peer in _OURS]
            row = [f"{models[name].title}: {title}", *map(_milliseconds, ours)]
            row.append(_milliseconds(rival[theirs]) if rival else "")
            row.append(_milliseconds(figures["disk"][what]) if what == theirs else "")
            row += [_ratio(rival[theirs], own) if rival else "" for own in ours]
            rows.append(row)
    return _table(rows) if saved else ""


def _many(saved: Mapping[str, Figures], models: Mapping[str, Model]) -> str:
    """What it costs that the bytes are in many variables."""
    if not {"many", "flat"} <= saved.keys():
        return ""
    variables = models["many"].variables
    head = f"{variables:,} variables beside one of as many bytes"
    rows = [[head, *_OURS], ["---"] * 3]
    for what, title in (("durable", "save"), ("restore", "restore")):
        pairs = [(saved["many"][peer][what], saved["flat"][peer][what]) for peer in _OURS]
        rows.append([f"{title}: times as long", *(_ratio(many, one) for many, one in pairs)])
        each = [1e6 * (statistics.median(m) - statistics.median(o)) / variables for m, o in pairs]
        rows.append([f"{title}: more for each variable", *(f"{e:.0f} µs" for e in each)])
    return _table(rows)


def _training(trained: Figures) -> str:
    if not trained:
        return ""
    rows = [["steps", "", "alone (ms)", "while a save runs (ms)", "more"], ["---"] * 5]
    for which, title in _STEPS.items():
        if f"{which} alone" not in trained:
            continue  # An earlier run's, which had no such steps.
        alone, saving = trained[f"{which} alone"], trained[f"{which} saving"]
        for what in ("median", "mean", "longest"):
            pairs = zip(alone[what], saving[what], strict=True)
            more = statistics.median(s / a - 1 for a, s in pairs)
            figures = [_milliseconds(alone[what], ""), _milliseconds(saving[what], "")]
            rows.append([title, what, *figures, f"{100 * more:+.0f} %"])
    return _table(rows)


def _milliseconds(rounds_s: list[float], unit: str = " ms") -> str:
    figures = [1e3 * f for f in (statistics.median(rounds_s), min(rounds_s), max(rounds_s))]
    digits = 2 if figures[0] < 10 else 1 if figures[0] < 100 else 0
    middle, low, high = (f"{figure:.{digits}f}" for figure in figures)
    return f"{middle}{unit} ({low}–{high})"


def _ratio(theirs: list[float], ours: list[float]) -> str:
    """The median over the rounds of how many times longer theirs takes."""
    return f"{statistics.median(t / o for t, o in zip(theirs, ours, strict=True)):.1f}x"


def _table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)

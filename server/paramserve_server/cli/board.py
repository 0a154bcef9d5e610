"""The figures of servers as `paramserve top` shows them to people: a column for each server.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from paramserve_server.cli.checkpoint import size_text
from paramserve_server.cli.figures import Figures
from paramserve_server.cli.inspection import name_text, shape_text


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was seen of one server.

    Attributes:
        address: where it was asked.
        figures: None where it could not be asked.
        largest: its largest variables, as rows of `variable_row`.
        trouble: why it could not be asked.
    """

    address: str
    figures: Figures | None = None
    largest: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""


def board(views: Sequence[View]) -> RenderableType:
    """The figures of all servers, their largest variables, and who cannot be asked."""
    shown = [_rows(view.figures) if view.figures else {} for view in views]
    labels = list(dict.fromkeys(label for rows in shown for label in rows))
    servers = (Column(Text(view.address), justify="right") for view in views)
    table = Table("", *servers, box=None)
    for label in labels:
        table.add_row(label, *(rows.get(label, "-") for rows in shown))
    parts: list[RenderableType] = [table]
    if any(view.largest for view in views):
        parts += ["", _largest(views)]
    parts += [Text(f"{view.trouble}; asking again", style="red") for view in views if view.trouble]
    return Group(*parts)


def _rows(figures: Figures) -> dict[str, str]:
    rows = {
        "task": figures.task,
        "up": _duration(figures.uptime_s),
        "steps/s": f"{figures.steps_per_s:,.1f}",
        "a step waits": _milliseconds(figures.queued_s_per_step),
        "a step runs": _milliseconds(figures.run_s_per_step),
        "calls in flight": str(figures.calls_in_flight),
        "held back": str(figures.messages_waiting),
        "bytes in flight": size_text(figures.inflight_bytes),
    }
    for name, rates in figures.transports.items():
        rows[f"{name} in"] = f"{size_text(round(rates.received_bytes_per_s))}/s"
        rows[f"{name} out"] = f"{size_text(round(rates.sent_bytes_per_s))}/s"
        rows[f"{name} connections"] = str(rates.connections)
    rows["sessions"] = str(figures.sessions)
    rows["variables"] = f"{figures.variables:,}, {size_text(figures.variable_bytes)}"
    for error, failures in sorted(figures.failures.items()):
        rows[error] = f"{failures.total:,} (+{failures.count:,})"
    return rows


def _duration(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:,.3f} ms"


def _largest(views: Sequence[View]) -> Table:
    table = Table("variable", "shape", "dtype", "task", "size", box=None)
    table.columns[4].justify = "right"
    rows = [row for view in views for row in view.largest]
    count = max(len(view.largest) for view in views)
    for row in sorted(rows, key=lambda row: -row["bytes"])[:count]:
        name, shape = Text(name_text(row)), Text(shape_text(row))
        table.add_row(name, shape, row["dtype"], row["task"], size_text(row["bytes"]))
    return table

"""Draws the growth curves: one panel for each, a line for each peer, both axes logarithmic.

Thread rule: one thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measuring import Measurement, spread
from benchmarks.peers import PEERS

_LABELS: Final = {
    "variables": "variables of 256 elements",
    "bytes": "bytes of one variable",
    "workers": "workers on one variable",
    "servers": "servers of 16 variables",
}
_COLOURS: Final = {
    "shm": "#0b6e4f",
    "grpc": "#6bbf59",
    "torch": "#d1495b",
    "torch-tcp": "#edae49",
    "tensorflow": "#5b5f97",
    "ray": "#3d8bd1",
}


def draw(measurements: Sequence[Measurement], path: Path) -> bool:
    """Writes an SVG of the curves; answers False if there are none, or no matplotlib."""
    points = [m for m in measurements if m.workload.curve]
    curves = [name for name in _LABELS if any(m.workload.curve == name for m in points)]
    try:
        import matplotlib
    except ImportError:
        return False
    if not curves:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # The same figures make the same file.
    plt.rcParams["svg.hashsalt"] = "benchmarks"
    columns = min(2, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(5.2 * columns, 3.6 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(curves) :]:
        axis.set_axis_off()
    for axis, curve in zip(axes.flat, curves, strict=False):
        for name, colour in _COLOURS.items():
            line = [
                (m.workload.x, *(1e3 * s for s in spread(m.results[name].rounds_s)))
                for m in points
                if m.workload.curve == curve and name in m.results and m.results[name].rounds_s
            ]
            if line:
                x, low, middle, high = zip(*line, strict=True)
                axis.plot(
                    x, middle, color=colour, marker="o", markersize=3, label=PEERS[name].title
                )
                axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set(xscale="log", yscale="log", xlabel=_LABELS[curve], ylabel="ms: pull and push")
        if curve in ("workers", "servers"):
            ticks = sorted({m.workload.x for m in points if m.workload.curve == curve})
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True

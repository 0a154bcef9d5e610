"""A traced step as a timeline that browsers show: chrome://tracing, https://ui.perfetto.dev.

Each device of the trace is a process of the timeline. Ops that overlap on one device, as two steps
of one task or requests that are under way together do, go to lanes of their own: each op, in the
order in which they began, goes to the first lane that is free, which takes as few lanes as any way
of arranging them.

The format is Chrome's "Trace Event Format": a JSON object with a list of events. Those used here
are complete events ("X"), the two ends of an arrow ("s" and "f"), counters ("C") and names ("M").

Thread rule: a timeline is immutable.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from paramserve._framework.graph import Graph
from paramserve_protos.v1.step_stats_pb2 import NodeExecStats, StepStats

_LABEL: Final = re.compile(r"(?P<name>.*) = (?P<op>.*)\((?P<inputs>.*)\)")

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Op:
    """One op that ran; times in nanoseconds since the first one began.

    Attributes:
        process: the number of its device.
        inputs: as the op's node has them.
        made_bytes: memory that its outputs take and nothing did before.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    process: int
    lane: int
    began_ns: int
    ended_ns: int
    made_bytes: int


class Timeline:
    """The timeline of one step.

    Args:
        step_stats: what `Session.run` wrote into `RunMetadata.step_stats`.
        graph: not needed, and taken because TensorFlow's takes it.

    Raises:
        TypeError: `step_stats` is no StepStats.
    """

    def __init__(self, step_stats: StepStats, graph: Graph | None = None) -> None:
        if not isinstance(step_stats, StepStats):
            raise TypeError(
                "a Timeline is made of a StepStats, the step_stats of a RunMetadata; got "
                f"{type(step_stats).__name__!r}"
            )
        self._devices = [device.device for device in step_stats.dev_stats]
        self._ops = list(_ops(step_stats))

    def generate_chrome_trace_format(
        self, show_dataflow: bool = True, show_memory: bool = False
    ) -> str:
        """The timeline as text, to be written to a file and opened in a browser.

        Args:
            show_dataflow: draw an arrow from an op to each that takes its output in another lane.
            show_memory: draw how much memory the outputs of ops take: from the moment that an op
                makes one until the last op that takes it ends. Variables are not in it.

        Returns:
            JSON in the trace event format. Times are microseconds since the first op began.
        """
        events = [_process(number, device) for number, device in enumerate(self._devices)]
        events += [_complete(op) for op in self._ops]
        if show_dataflow:
            events += self._arrows()
        if show_memory:
            events += self._memory()
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, indent=1)

    def _sources(self) -> Iterator[tuple[_Op, _Op]]:
        """Every op that takes a value, with the one that made it.

        The body of a loop runs often: a value comes from the last run that had ended.
        """
        runs: defaultdict[str, list[_Op]] = defaultdict(list)
        for op in sorted(self._ops, key=_ended_ns):
            runs[op.name].append(op)
        for op in self._ops:
            for name in dict.fromkeys(map(_producer, op.inputs)):
                made = runs.get(name, [])
                count = bisect.bisect_right(made, op.began_ns, key=_ended_ns)
                if count:
                    yield made[count - 1], op

    def _arrows(self) -> Iterator[Event]:
        numbers = itertools.count()
        for made, taken in self._sources():
            if (made.process, made.lane) == (taken.process, taken.lane):
                continue
            arrow = {"cat": "DataFlow", "name": made.name, "id": next(numbers)}
            yield {**arrow, "ph": "s", **_place(made), "ts": _micros(made.ended_ns)}
            # "e": it ends at the event that it enters, not at the next one.
            yield {**arrow, "ph": "f", "bp": "e", **_place(taken), "ts": _micros(taken.began_ns)}

    def _memory(self) -> Iterator[Event]:
        last_use = {id(op): op.ended_ns for op in self._ops}
        for made, taken in self._sources():
            last_use[id(made)] = max(last_use[id(made)], taken.ended_ns)
        changes: list[tuple[int, int, int]] = []
        for op in self._ops:
            if op.made_bytes:
                changes.append((op.ended_ns, op.process, op.made_bytes))
                changes.append((last_use[id(op)], op.process, -op.made_bytes))
        used: defaultdict[int, int] = defaultdict(int)
        # What is made before what is freed at the same moment: the peak is never understated.
        for at_ns, process, change in sorted(changes, key=lambda c: (c[0], -c[2])):
            used[process] += change
            yield {
                "ph": "C",
                "cat": "Memory",
                "name": "memory",
                "pid": process,
                "tid": 0,
                "ts": _micros(at_ns),
                "args": {"bytes": used[process]},
            }


def _ops(stats: StepStats) -> Iterator[_Op]:
    every = [node for device in stats.dev_stats for node in device.node_stats]
    first_ns = min(map(_began_ns, every), default=0)
    for process, device in enumerate(stats.dev_stats):
        nodes = sorted(device.node_stats, key=_began_ns)
        spans = [(_began_ns(node), _began_ns(node) + _took_ns(node)) for node in nodes]
        for node, (began, ended), lane in zip(nodes, spans, _lanes(spans), strict=True):
            label = _LABEL.fullmatch(node.timeline_label)
            inputs = label["inputs"].split(", ") if label and label["inputs"] else []
            yield _Op(
                name=node.node_name,
                op=label["op"] if label else node.timeline_label or node.node_name,
                inputs=tuple(inputs),
                process=process,
                lane=lane,
                began_ns=began - first_ns,
                ended_ns=ended - first_ns,
                made_bytes=sum(
                    output.tensor_description.allocation_description.allocated_bytes
                    for output in node.output
                ),
            )


def _lanes(spans: Iterable[tuple[int, int]]) -> Iterator[int]:
    """For each span, the first lane that is free when it begins; spans by their beginning."""
    free_at: list[int] = []
    for began, ended in spans:
        lane = next((i for i, free in enumerate(free_at) if free <= began), len(free_at))
        free_at[lane:] = [ended, *free_at[lane + 1 :]]
        yield lane


def _began_ns(node: NodeExecStats) -> int:
    """TensorFlow's older traces have microseconds only."""
    return node.all_start_nanos or node.all_start_micros * 1000


def _ended_ns(op: _Op) -> int:
    return op.ended_ns


def _took_ns(node: NodeExecStats) -> int:
    return node.all_end_rel_nanos or node.all_end_rel_micros * 1000


def _producer(text: str) -> str:
    """The node that an input names; one that only orders ops, "^node", takes no value."""
    return text if text.startswith("^") else text.partition(":")[0]


def _micros(nanos: int) -> float:
    return nanos / 1000


def _place(op: _Op) -> Event:
    return {"pid": op.process, "tid": op.lane}


def _process(number: int, device: str) -> Event:
    return {"ph": "M", "name": "process_name", "pid": number, "args": {"name": device}}


def _complete(op: _Op) -> Event:
    arguments = {"name": op.name, "op": op.op}
    arguments.update((f"input{i}", text) for i, text in enumerate(op.inputs))
    if op.made_bytes:
        arguments["bytes"] = str(op.made_bytes)
    return {
        "ph": "X",
        "cat": "Op",
        "name": op.op,
        **_place(op),
        "ts": _micros(op.began_ns),
        "dur": _micros(op.ended_ns - op.began_ns),
        "args": arguments,
    }

"""Records when each op of a stage ran, and what it put out.

A program runs its instructions through one function; a traced run goes through that function with
a stopwatch around it. So tracing has no loop of its own to keep in step with the program's, and a
run without it looks once whether there is a recorder.

What is recorded of a value is its description. Holding the value itself would hold a lease on a
variable, and the update that follows would copy what it otherwise writes in place: the trace would
show a slower step than the one that was asked about.

Thread rule: a recorder belongs to the thread that runs its stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.updating import Ref
from paramserve_core.kernels.registry import DEAD, KernelNode
from paramserve_core.kernels.stacks import Stack
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import service_pb2, step_stats_pb2, types_pb2

Array = NDArray[Any]
Clock = Callable[[], float]

ALLOCATOR: Final = "cpu"

_MAX_OPS: Final = 200_000
"""Of one stage; the body of a loop runs any number of times. About 100 bytes each."""


class Instruction(Protocol):
    """What is looked at of an instruction of a program."""

    @property
    def node(self) -> KernelNode: ...  # noqa: D102
    @property
    def inputs(self) -> Sequence[tuple[int, bool]]: ...  # noqa: D102
    @property
    def first_output(self) -> int: ...  # noqa: D102
    @property
    def output_count(self) -> int: ...  # noqa: D102


Execute = Callable[[Any, StepContext, list[Any]], None]
"""Runs one `Instruction` on the values in their slots."""


class _Output(NamedTuple):
    """A tensor without its elements."""

    slot: int
    dtype: types_pb2.DataType
    shape: TensorShape | tuple[int, ...]
    nbytes: int
    allocated_bytes: int
    variable_bytes: int


class _Run(NamedTuple):
    """One op that ran; times in seconds on the task's clock."""

    name: str
    began_at: float
    ended_at: float
    outputs: tuple[_Output, ...]


class StageRecorder:
    """The recorder of one run of one stage, made when the request for it arrives.

    Args:
        now: the task's clock, in seconds.

    Attributes:
        arrived_at: when it was made, on that clock.
    """

    def __init__(self, now: Clock) -> None:
        self._now = now
        self.arrived_at = now()
        self._began_at = self._ended_at = self.arrived_at
        self._runs: list[_Run] = []
        self._left_out = 0

    def recording(self, execute: Execute) -> Execute:
        """`execute`, and a record of it; the stage begins now."""
        now, runs = self._now, self._runs
        self._began_at = self._ended_at = now()

        def execute_and_record(
            instruction: Instruction, step: StepContext, values: list[Any]
        ) -> None:
            if len(runs) >= _MAX_OPS:
                execute(instruction, step, values)
                self._left_out += 1
                self._ended_at = now()
                return
            taken = _memory_of_inputs(instruction, values)
            began_at = now()
            execute(instruction, step, values)
            self._ended_at = ended_at = now()
            outputs = _described(instruction, values, taken)
            runs.append(_Run(instruction.node.name, began_at, ended_at, outputs))

        return execute_and_record

    def trace(self) -> service_pb2.StageTrace:
        """What was recorded; the answer of the stage is ready."""
        trace = service_pb2.StageTrace(
            began_nanos=self._since_arrival(self._began_at),
            ended_nanos=self._since_arrival(self._ended_at),
            answered_nanos=self._since_arrival(self._now()),
            ops_left_out=self._left_out,
        )
        for run in self._runs:
            self._add(trace.nodes.add(), run)
        return trace

    def _since_arrival(self, at: float) -> int:
        return round((at - self.arrived_at) * 1e9)

    def _add(self, stats: step_stats_pb2.NodeExecStats, run: _Run) -> None:
        stats.node_name = run.name
        stats.all_start_nanos = self._since_arrival(run.began_at)
        stats.all_end_rel_nanos = self._since_arrival(run.ended_at) - stats.all_start_nanos
        for output in run.outputs:
            tensor = stats.output.add(slot=output.slot).tensor_description
            tensor.dtype = output.dtype
            tensor.shape.CopyFrom(TensorShape(output.shape).as_proto())
            allocation = tensor.allocation_description
            allocation.allocator_name = ALLOCATOR
            allocation.requested_bytes = output.nbytes
            allocation.allocated_bytes = output.allocated_bytes
        made_bytes = sum(output.allocated_bytes for output in run.outputs)
        if made_bytes:
            stats.memory.add(
                allocator_name=ALLOCATOR,
                total_bytes=made_bytes,
                peak_bytes=made_bytes,
                live_bytes=made_bytes,
            )
        held_bytes = sum(output.variable_bytes for output in run.outputs)
        if held_bytes:
            stats.memory_stats.persistent_memory_size = held_bytes


def _memory_of_inputs(instruction: Instruction, values: Sequence[Any]) -> frozenset[int]:
    return frozenset(_memory_of(values[slot]) for slot, _ in instruction.inputs)


def _memory_of(value: Any) -> int:
    """Names the memory behind a value, for as long as somebody holds it."""
    if value.__class__ is Ref:
        value = value.variable.read_if_initialized() if value.stored is None else value.stored
    while isinstance(base := getattr(value, "base", None), np.ndarray):
        value = base
    return id(value)


def _described(
    instruction: Instruction, values: Sequence[Any], taken: frozenset[int]
) -> tuple[_Output, ...]:
    first = instruction.first_output
    found = values[first : first + instruction.output_count]
    return tuple(
        _output(slot, value, taken)
        for slot, value in enumerate(found)
        if value is not DEAD and value.__class__ is not Stack
    )


def _output(slot: int, value: Any, taken: frozenset[int]) -> _Output:
    if value.__class__ is Ref:
        variable = value.variable
        return _Output(
            slot,
            dtype=variable.dtype.as_datatype_enum,
            shape=variable.current_shape,
            nbytes=variable.nbytes,
            allocated_bytes=0,
            variable_bytes=variable.nbytes,
        )
    dtype = as_dtype(value.dtype)
    nbytes = value.nbytes
    if dtype is dtypes.string:
        nbytes = sum(map(len, value.reshape(-1).tolist()))
    is_new = _memory_of(value) not in taken
    return _Output(slot, dtype.as_datatype_enum, value.shape, nbytes, nbytes if is_new else 0, 0)

"""What a traced step reports about itself, for timelines.

A master reports no times of single ops, so what is recorded is what the session sees: the step as
a whole, and the tensors that it answered.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve._session.fetches import Array, Fetches
from paramserve_protos.v1.config_pb2 import RunMetadata


def record_step(
    metadata: RunMetadata,
    fetches: Fetches,
    values: Sequence[Array],
    began_ns: int,
    ended_ns: int,
) -> None:
    """Adds the step to `metadata.step_stats`.

    Args:
        metadata: changed in place.
        fetches: what was run.
        values: the arrays that it answered.
        began_ns: when the step began, nanoseconds since 1970.
        ended_ns: when it ended.
    """
    device = metadata.step_stats.dev_stats.add(device="session")
    took_ns = ended_ns - began_ns
    step = device.node_stats.add(
        node_name="step",
        timeline_label=f"step(fetches={len(fetches.tensors)}, ops={len(fetches.operations)})",
        all_start_micros=began_ns // 1000,
        op_end_rel_micros=took_ns // 1000,
        all_end_rel_micros=took_ns // 1000,
    )
    for slot, (tensor, value) in enumerate(zip(fetches.tensors, values, strict=True)):
        output = step.output.add(slot=slot)
        output.tensor_description.dtype = tensor.dtype.base_dtype.as_datatype_enum
        for size in value.shape:
            output.tensor_description.shape.dim.add(size=size)

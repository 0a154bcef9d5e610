"""`create_partitioned_variables`: the parts of a variable by a given cut, without a partitioner.

Thread rule: adds to the default graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from paramserve._framework.graph import get_default_graph
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.shared_variables import Request, Reuse, SharedVariables
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import variable_scope
from paramserve_core.dtypes import as_dtype, float32
from paramserve_core.shapes import as_shape

__all__ = ["create_partitioned_variables"]


def create_partitioned_variables(
    shape: ShapeLike,
    slicing: Sequence[int],
    initializer: Any,
    dtype: DTypeLike = float32,
    trainable: bool = True,
    collections: Iterable[Any] | None = None,
    name: str | None = None,
    reuse: Reuse | None = None,
) -> list[Variable]:
    """A variable in parts; a checkpoint has it as one tensor.

    Args:
        shape: the shape of the whole.
        slicing: the number of parts per dimension, more than 1 for at most one of them.
        initializer: a function of a shape, called for each part; or the initial value of the
            whole.
        dtype: the type.
        trainable: add the parts to the variables that optimizers change.
        collections: the collections to add the parts to.
        name: the name of the whole; "PartitionedVariable", made unique, by default. The parts are
            `name/part_0` and so on.
        reuse: True: the parts must exist; AUTO_REUSE: they may.

    Returns:
        The parts, in order.

    Raises:
        ValueError: `slicing` does not fit `shape`, or the whole exists and should not, or the
            other way round.
    """
    sizes = as_shape(shape)
    if len(slicing) != sizes.ndims:
        raise ValueError(
            f"The 'shape' and 'slicing' of a partitioned Variable must have the length: shape: "
            f"{sizes}, slicing: {list(slicing)}"
        )
    with variable_scope(name, "PartitionedVariable", reuse=reuse) as scope:
        parts = SharedVariables.of(get_default_graph()).get(
            Request(
                name=scope.name,
                shape=sizes,
                dtype=as_dtype(dtype),
                default_dtype=scope.dtype,
                initializer=initializer,
                regularizer=scope.regularizer,
                trainable=trainable,
                collections=collections,
                caching_device=scope.caching_device,
                partitioner=lambda *, shape, dtype: list(slicing),
                validate_shape=True,
                reuse=scope.reuse,
            )
        )
    return [parts] if isinstance(parts, Variable) else list(parts)

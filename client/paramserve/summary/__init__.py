"""Values for TensorBoard: packed in the graph, fetched in a step, written to event files.

`scalar` and `histogram` add ops that pack a value, `merge_all` one that has all of them, and a
`FileWriter` writes what a session answers for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve._framework.collections import GraphKeys
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.summary import merge_all_summaries as _merge_all_summaries
from paramserve._ops.summary import merge_summary as _merge_summary
from paramserve._ops.summary import scoped_histogram as _scoped_histogram
from paramserve._ops.summary import scoped_scalar as _scoped_scalar
from paramserve._summary.writer import FileWriter as FileWriter
from paramserve_protos.v1.event_pb2 import Event as Event
from paramserve_protos.v1.event_pb2 import SessionLog as SessionLog
from paramserve_protos.v1.event_pb2 import TaggedRunMetadata as TaggedRunMetadata
from paramserve_protos.v1.summary_pb2 import Summary as Summary
from paramserve_protos.v1.summary_pb2 import SummaryDescription as SummaryDescription

__all__ = [
    "Event",
    "FileWriter",
    "SessionLog",
    "Summary",
    "SummaryDescription",
    "TaggedRunMetadata",
    "histogram",
    "merge",
    "merge_all",
    "scalar",
]


def scalar(
    name: str,
    tensor: TensorLike,
    collections: Sequence[str] | None = None,
    family: str | None = None,
) -> Tensor:
    """One number.

    Args:
        name: the name of the op, and with the name scopes around it of the series.
        tensor: a real scalar.
        collections: graph collections to add the result to; `GraphKeys.SUMMARIES` by default.
        family: leads the name of the series; TensorBoard shows a family together.

    Returns:
        A scalar string: an encoded `Summary`.
    """
    return _scoped_scalar(name, tensor, collections, family)


def histogram(
    name: str,
    values: TensorLike,
    collections: Sequence[str] | None = None,
    family: str | None = None,
) -> Tensor:
    """The distribution of values.

    Args:
        name: the name of the op, and with the name scopes around it of the series.
        values: finite real numbers, of any shape; others are an InvalidArgumentError in the step.
        collections: graph collections to add the result to; `GraphKeys.SUMMARIES` by default.
        family: leads the name of the series; TensorBoard shows a family together.

    Returns:
        A scalar string: an encoded `Summary`.
    """
    return _scoped_histogram(name, values, collections, family)


def merge(
    inputs: Sequence[TensorLike], collections: Sequence[str] | None = None, name: str | None = None
) -> Tensor:
    """One summary of several; two of one tag are an InvalidArgumentError in the step.

    Args:
        inputs: strings, each an encoded `Summary`.
        collections: graph collections to add the result to; none by default.
        name: the name of the op.

    Returns:
        A scalar string: an encoded `Summary`.

    Raises:
        ValueError: there are no inputs.
    """
    return _merge_summary(inputs, collections, name)


def merge_all(
    key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None
) -> Tensor | None:
    """One summary of all in a collection of the default graph; None where there are none.

    Args:
        key: the collection.
        scope: only those whose names begin so; a regular expression.
        name: the name of the op.
    """
    return _merge_all_summaries(key, scope, name)

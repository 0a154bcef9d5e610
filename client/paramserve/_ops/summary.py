"""Functions that pack values for TensorBoard; a `summary.FileWriter` writes what they give.

Each is there by two names: the older `scalar_summary(tag, value)`, and the newer `scalar`, under
`summary`, which makes the tag of the name scope.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import get_default_graph
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor

__all__ = ["histogram_summary", "merge_all_summaries", "merge_summary", "scalar_summary"]

_NOT_IN_TAGS: Final = re.compile(r"[^-/\w.]", re.ASCII)


def scalar_summary(
    tags: TensorLike,
    values: TensorLike,
    collections: Sequence[str] | None = None,
    name: str | None = None,
) -> Tensor:
    """One number for each of several series.

    Args:
        tags: strings, the names of the series.
        values: real numbers, of the shape of `tags`.
        collections: graph collections to add the result to; `GraphKeys.SUMMARIES` by default.
        name: the name of the op.

    Returns:
        A scalar string: an encoded `Summary`.
    """
    summary = emit_tensor("ScalarSummary", name, tags=tags, values=values)
    return _collected(summary, collections, [GraphKeys.SUMMARIES])


def histogram_summary(
    tag: TensorLike,
    values: TensorLike,
    collections: Sequence[str] | None = None,
    name: str | None = None,
) -> Tensor:
    """The distribution of values.

    Args:
        tag: a scalar string, the name of the series.
        values: finite real numbers, of any shape; others are an InvalidArgumentError in the step.
        collections: graph collections to add the result to; `GraphKeys.SUMMARIES` by default.
        name: the name of the op.

    Returns:
        A scalar string: an encoded `Summary`.
    """
    summary = emit_tensor("HistogramSummary", name, tag=tag, values=values)
    return _collected(summary, collections, [GraphKeys.SUMMARIES])


def merge_summary(
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
    with name_scope(name, "Merge", inputs):
        summary = emit_tensor("MergeSummary", inputs=inputs)
    return _collected(summary, collections, [])


def merge_all_summaries(
    key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None
) -> Tensor | None:
    """One summary of all in a collection of the default graph; None where there are none.

    Args:
        key: the collection.
        scope: only those whose names begin so; a regular expression.
        name: the name of the op.
    """
    found = get_default_graph().get_collection(key, scope)
    return merge_summary(found, name=name) if found else None


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
    with _tag_scope(name, family, [tensor]) as (tag, scope):
        return scalar_summary(tag, tensor, collections, scope)


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
    with _tag_scope(name, family, [values]) as (tag, scope):
        return histogram_summary(tag, values, collections, scope)


@contextmanager
def _tag_scope(name: str, family: str | None, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """A name scope for one summary; gives the tag and the scope."""
    clean = _NOT_IN_TAGS.sub("_", name).lstrip("/")
    prefix = f"{_NOT_IN_TAGS.sub('_', family).lstrip('/')}/" if family else ""
    with name_scope(prefix + clean, None, values) as scope:
        # The family leads, so that TensorBoard groups by it, whatever the scopes around.
        yield prefix + scope.rstrip("/"), scope


def _collected(
    summary: Tensor, collections: Sequence[str] | None, default: Sequence[str]
) -> Tensor:
    summary.graph.add_to_collections(default if collections is None else collections, summary)
    return summary

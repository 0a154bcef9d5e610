"""Softmax, and the losses that are computed from logits.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.arrangement import transpose
from paramserve._ops.array import cast, identity, rank, reshape, shape, stop_gradient, zeros_like
from paramserve._ops.elementary import abs, exp, log1p, negative
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.indexing import strided_slice, where
from paramserve._ops.joining import concat
from paramserve._ops.math import add, floormod, greater_equal, multiply, subtract
from paramserve._ops.math_sequence import range
from paramserve._ops.renamed import needed, one_of
from paramserve_core import dtypes

__all__ = [
    "log_softmax",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]


def softmax(
    logits: TensorLike, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Tensor:
    """Probabilities: `exp(logits)`, divided by their sum along a dimension.

    Args:
        logits: floats of rank 1 or more.
        axis: the dimension along which they add up to 1; the last by default.
        name: the name of the op.
        dim: the older name of `axis`.
    """
    return _along("Softmax", logits, one_of("axis", axis, "dim", dim), name)


def log_softmax(
    logits: TensorLike, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Tensor:
    """The logarithm of `softmax`, without loss of precision. Arguments as of `softmax`."""
    return _along("LogSoftmax", logits, one_of("axis", axis, "dim", dim), name)


def _along(op_type: str, logits: TensorLike, axis: int | None, name: str | None) -> Tensor:
    with name_scope(name, op_type, [logits]) as scope:
        logits = convert_to_tensor(logits)
        if _is_last(logits, axis):
            return emit_tensor(op_type, scope, logits=logits)
        exchange = _exchanged_with_last(logits, axis)
        moved = emit_tensor(op_type, None, logits=transpose(logits, exchange))
        result = transpose(moved, exchange, name=scope)
        result.set_shape(logits.shape)
        return result


def _is_last(logits: Tensor, axis: int | None) -> bool:
    if axis is None or axis == -1:
        return True
    ndims = logits.shape.ndims
    if ndims is None:
        return False
    if not -ndims <= axis < ndims:
        raise ValueError(f"axis {axis} is out of range, {logits!r} has {ndims} dimensions")
    return axis % ndims == ndims - 1


def _exchanged_with_last(logits: Tensor, axis: int | None) -> Tensor:
    """The permutation that exchanges `axis` and the last dimension; it is its own inverse."""
    count = rank(logits)
    assert axis is not None
    where_to = floormod(axis, count)
    last = subtract(count, 1)
    return concat(
        [range(where_to), [last], range(add(where_to, 1), last), [where_to]],
        0,
    )


def softmax_cross_entropy_with_logits(
    logits: TensorLike | None = None,
    labels: TensorLike | None = None,
    dim: int | None = None,
    name: str | None = None,
    axis: int | None = None,
) -> Tensor:
    """The cross entropy of probabilities and `softmax(logits)`, per row.

    Nothing flows back into `labels`; see `softmax_cross_entropy_with_logits_v2`. By position the
    arguments are in the order of old programs, logits first; name them to be clear.

    Args:
        logits: of shape `[..., classes]`, not scaled.
        labels: of the same type and shape, each row a probability distribution.
        dim: the dimension of the classes; the last by default.
        name: the name of the op.
        axis: the newer name of `dim`.

    Returns:
        A tensor with the shape of `logits`, without the classes.

    Raises:
        TypeError: an argument is missing.
        ValueError: shapes that do not fit.
    """
    given = needed("softmax_cross_entropy_with_logits", "labels", labels)
    with name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        constant_labels = stop_gradient(convert_to_tensor(given), name="labels_stop_gradient")
        return softmax_cross_entropy_with_logits_v2(
            labels=constant_labels, logits=logits, axis=one_of("axis", axis, "dim", dim), name=scope
        )


def softmax_cross_entropy_with_logits_v2(
    labels: TensorLike | None = None,
    logits: TensorLike | None = None,
    axis: int | None = None,
    name: str | None = None,
    dim: int | None = None,
) -> Tensor:
    """The cross entropy of probabilities and `softmax(logits)`; gradients flow into both.

    Arguments and errors as of `softmax_cross_entropy_with_logits`.
    """
    function = "softmax_cross_entropy_with_logits"
    labels, logits = needed(function, "labels", labels), needed(function, "logits", logits)
    axis = one_of("axis", axis, "dim", dim)
    with name_scope(name, function, [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="labels")
        # float16 sums of many classes lose too much.
        narrow = logits.dtype.base_dtype in (dtypes.float16, dtypes.bfloat16)
        computed: Tensor = cast(logits, dtypes.float32) if narrow else logits
        wide_labels: Tensor = cast(labels, computed.dtype.base_dtype)
        if not _is_last(computed, axis):
            exchange = _exchanged_with_last(computed, axis)
            computed, wide_labels = (transpose(t, exchange) for t in (computed, wide_labels))
        outer = shape(computed)
        outer = strided_slice(outer, [0], [-1], [1], begin_mask=1)
        static_outer = computed.shape[:-1] if computed.shape.ndims is not None else None
        loss, _ = emit_tensors(
            "SoftmaxCrossEntropyWithLogits",
            None,
            features=_as_rows(computed),
            labels=_as_rows(wide_labels),
        )
        loss = reshape(loss, outer)
        if static_outer is not None:
            loss.set_shape(static_outer)
        if narrow:
            narrowed: Tensor = cast(loss, logits.dtype.base_dtype, name=scope)
            return narrowed
        return identity(loss, name=scope)


def _as_rows(tensor: Tensor) -> Tensor:
    """All dimensions but the last as one."""
    if tensor.shape.ndims == 2:
        return tensor
    classes = strided_slice(shape(tensor), [-1], [0], [1], end_mask=1)
    rows = reshape(tensor, concat([[-1], classes], 0))
    if tensor.shape.ndims is not None:
        rows.set_shape([tensor.shape[:-1].num_elements(), tensor.shape[-1]])
    return rows


def sparse_softmax_cross_entropy_with_logits(
    logits: TensorLike | None = None,
    labels: TensorLike | None = None,
    name: str | None = None,
) -> Tensor:
    """The cross entropy of classes and `softmax(logits)`, per row.

    By position the arguments are in the order of old programs, logits first; name them to be
    clear.

    Args:
        logits: of shape `[..., classes]`, not scaled.
        labels: the class of each row, integers of shape `[...]`.
        name: the name of the op.

    Returns:
        A tensor with the shape of `labels`.

    Raises:
        TypeError: an argument is missing.
        ValueError: shapes that do not fit.
        InvalidArgumentError: at run time, where a class is out of range.
    """
    function = "sparse_softmax_cross_entropy_with_logits"
    labels, logits = needed(function, "labels", labels), needed(function, "logits", logits)
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits", [labels, logits]) as scope:
        labels, logits = convert_to_tensor(labels), convert_to_tensor(logits)
        narrow = logits.dtype.base_dtype in (dtypes.float16, dtypes.bfloat16)
        computed: Tensor = cast(logits, dtypes.float32) if narrow else logits
        if logits.shape.ndims == 0:
            raise ValueError(f"Logits cannot be scalars, got shape {logits.shape}")
        if None not in (logits.shape.ndims, labels.shape.ndims):
            if labels.shape.ndims != logits.shape[:-1].ndims:
                raise ValueError(
                    f"Rank mismatch: Rank of labels (received {labels.shape.ndims}) should equal "
                    f"rank of logits minus 1 (received {logits.shape.ndims})."
                )
            labels.shape.assert_is_compatible_with(logits.shape[:-1])
        loss, _ = emit_tensors(
            "SparseSoftmaxCrossEntropyWithLogits",
            None,
            features=_as_rows(computed),
            labels=labels if labels.shape.ndims == 1 else reshape(labels, [-1]),
        )
        if labels.shape.ndims != 1:
            static = labels.shape
            loss = reshape(loss, shape(labels))
            loss.set_shape(static)
        if narrow:
            narrowed: Tensor = cast(loss, logits.dtype.base_dtype, name=scope)
            return narrowed
        return identity(loss, name=scope)


def sigmoid_cross_entropy_with_logits(
    logits: TensorLike | None = None,
    targets: TensorLike | None = None,
    name: str | None = None,
    labels: TensorLike | None = None,
) -> Tensor:
    """The cross entropy of probabilities and `sigmoid(logits)`, element by element.

    That is `max(x, 0) - x * z + log(1 + exp(-abs(x)))` for logits x and probabilities z, which
    does not overflow.

    Args:
        logits: not scaled.
        targets: probabilities, of the same type and shape.
        name: the name of the op.
        labels: the newer name of `targets`.

    Raises:
        TypeError: an argument is missing.
        ValueError: shapes that differ.
    """
    function = "sigmoid_cross_entropy_with_logits"
    labels = needed(function, "labels", one_of("labels", labels, "targets", targets))
    logits = needed(function, "logits", logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="labels")
        _check_same_shape(logits, labels, "labels")
        # where() instead of maximum(), so that the gradient at 0 is the formula's.
        positive = greater_equal(logits, zeros_like(logits))
        ramp = where(positive, logits, zeros_like(logits))
        minus_abs = where(positive, negative(logits), logits)
        return add(subtract(ramp, multiply(logits, labels)), log1p(exp(minus_abs)), name=scope)


def _check_same_shape(logits: Tensor, other: Tensor, text: str) -> None:
    try:
        other.shape.merge_with(logits.shape)
    except ValueError:
        raise ValueError(
            f"logits and {text} must have the same shape ({logits.shape} vs {other.shape})"
        ) from None


def weighted_cross_entropy_with_logits(
    logits: TensorLike | None = None,
    targets: TensorLike | None = None,
    pos_weight: TensorLike | None = None,
    name: str | None = None,
    labels: TensorLike | None = None,
) -> Tensor:
    """`sigmoid_cross_entropy_with_logits`, with another weight for what is positive.

    That is `(1 - z) * x + l * (log(1 + exp(-abs(x))) + max(-x, 0))` with `l = 1 + (q - 1) * z`.

    Args:
        logits: x, not scaled.
        targets: z, probabilities, of the same type and shape.
        pos_weight: q; above 1 it makes missed positives cost more.
        name: the name of the op.
        labels: the newer name of `targets`.

    Raises:
        TypeError: an argument is missing.
        ValueError: shapes that differ.
    """
    function = "weighted_cross_entropy_with_logits"
    labels = needed(function, "labels", one_of("labels", labels, "targets", targets))
    logits = needed(function, "logits", logits)
    pos_weight = needed(function, "pos_weight", pos_weight)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        logits = convert_to_tensor(logits, name="logits")
        labels = convert_to_tensor(labels, name="targets")
        _check_same_shape(logits, labels, "targets")
        factor = convert_to_tensor(pos_weight, logits.dtype.base_dtype, name="pos_weight")
        weight = (factor - 1) * labels + 1
        tail = log1p(exp(-abs(logits))) + emit_tensor("Relu", None, features=-logits)
        return add((1 - labels) * logits, weight * tail, name=scope)

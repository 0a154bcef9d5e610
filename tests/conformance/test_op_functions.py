"""The public op functions beside TensorFlow's: values, types, static shapes, and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps
from places import everywhere

pytestmark = pytest.mark.oracle

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
CUBE = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
EMPTY = np.zeros((0, 3), np.float32)

CASES: dict[str, Callable[[Any], Any]] = {
    # Constants and shapes.
    "constant": lambda ns: ns.constant([1, 2], shape=[2, 2]),
    "constant of text": lambda ns: ns.constant(["text"]),
    "constant of a type": lambda ns: ns.constant(3, ns.float64),
    "zeros": lambda ns: ns.zeros([2, 3]),
    "zeros of a dynamic shape": lambda ns: ns.zeros(unknown(ns, [2, 3]), ns.int32),
    "zeros of booleans": lambda ns: ns.zeros([2], ns.bool),
    "zeros of text": lambda ns: ns.zeros([2], ns.string),
    "many zeros": lambda ns: ns.zeros([40, 50]),
    "a scalar of zero": lambda ns: ns.zeros([]),
    "ones": lambda ns: ns.ones([2], ns.bool),
    "ones of complex": lambda ns: ns.ones([2], ns.complex64),
    "zeros_like": lambda ns: ns.zeros_like(MATRIX),
    "zeros_like of a type": lambda ns: ns.zeros_like(MATRIX, ns.int32),
    "zeros_like of what is not known": lambda ns: ns.zeros_like(unknown(ns, MATRIX)),
    "zeros_like of a type, not known": lambda ns: ns.zeros_like(unknown(ns, MATRIX), ns.int64),
    "ones_like": lambda ns: ns.ones_like(MATRIX),
    "fill": lambda ns: ns.fill([2, 3], 4.5),
    "shape": lambda ns: ns.shape(MATRIX),
    "shape as int64": lambda ns: ns.shape(unknown(ns, MATRIX), out_type=ns.int64),
    "shape_n": lambda ns: ns.shape_n([MATRIX, EMPTY]),
    "size": lambda ns: ns.size(MATRIX),
    "rank": lambda ns: ns.rank(MATRIX),
    "rank of what is not known": lambda ns: ns.rank(unknown(ns, MATRIX)),
    "size of what is not known": lambda ns: ns.size(unknown(ns, MATRIX)),
    "reshape": lambda ns: ns.reshape(MATRIX, [-1, 2]),
    "reshape by a tensor": lambda ns: ns.reshape(MATRIX, ns.stack([ns.size(MATRIX), 1])),
    "expand_dims": lambda ns: ns.expand_dims(MATRIX, -1),
    "squeeze": lambda ns: ns.squeeze([[[1], [2]]]),
    "squeeze of one": lambda ns: ns.squeeze([[[1]]], [0, -1]),
    "broadcast_to": lambda ns: ns.broadcast_to([1, 2], [3, 2]),
    "broadcast_dynamic_shape": lambda ns: ns.broadcast_dynamic_shape([2, 1], [3]),
    "ensure_shape": lambda ns: ns.ensure_shape(unknown(ns, MATRIX), [None, 3]),
    # Types.
    "cast": lambda ns: ns.cast(MATRIX * 1.7, ns.int32),
    "to_float": lambda ns: ns.to_float([1, 2]),
    "to_double": lambda ns: ns.to_double([1, 2]),
    "to_int32": lambda ns: ns.to_int32([1.7, -2.7]),
    "to_int64": lambda ns: ns.to_int64([1.7, -2.7]),
    "to_bfloat16": lambda ns: ns.to_float(ns.to_bfloat16([1.001, 2.003])),
    "saturate_cast": lambda ns: ns.saturate_cast([-1.0, 100.0, 300.0], ns.uint8),
    "saturate_cast to int32": lambda ns: ns.saturate_cast([-1e20, 3e9, 7.0], ns.int32),
    "saturate_cast of integers": lambda ns: ns.saturate_cast([-1000, 1000, 7], ns.int8),
    "bitcast": lambda ns: ns.bitcast(MATRIX, ns.uint8),
    # Joined and cut.
    "concat": lambda ns: ns.concat([MATRIX, MATRIX], 1),
    "concat of one": lambda ns: ns.concat([MATRIX], 0),
    "split": lambda ns: ns.split(MATRIX, 3, axis=1),
    "split by sizes": lambda ns: ns.split(MATRIX, [1, -1], 1),
    "stack": lambda ns: ns.stack([MATRIX, MATRIX], axis=-1),
    "stack of numbers": lambda ns: ns.stack([1, ns.constant(2), 3]),
    "unstack": lambda ns: ns.unstack(MATRIX, axis=1),
    "meshgrid": lambda ns: ns.meshgrid([1, 2], [3, 4, 5]),
    "meshgrid ij": lambda ns: ns.meshgrid([1, 2], [3, 4, 5], [6], indexing="ij"),
    # Arranged.
    "transpose": lambda ns: ns.transpose(CUBE),
    "transpose by perm": lambda ns: ns.transpose(CUBE, [1, 0, 2]),
    "transpose of what is not known": lambda ns: ns.transpose(unknown(ns, CUBE)),
    "transpose, conjugated": lambda ns: ns.transpose([[1 + 2j, 3 - 1j]], conjugate=True),
    "matrix_transpose": lambda ns: ns.matrix_transpose(CUBE),
    "matrix_transpose, not known": lambda ns: ns.matrix_transpose(unknown(ns, CUBE)),
    "tile": lambda ns: ns.tile(MATRIX, [2, 1]),
    "pad": lambda ns: ns.pad(MATRIX, [[1, 0], [0, 2]]),
    "pad with a value": lambda ns: ns.pad(MATRIX, [[1, 0], [0, 2]], constant_values=7),
    "pad as a mirror": lambda ns: ns.pad(MATRIX, [[1, 0], [0, 2]], "reflect"),
    "reverse": lambda ns: ns.reverse(CUBE, [1, -1]),
    "reverse_sequence": lambda ns: ns.reverse_sequence(MATRIX, [1, 2], 1, 0),
    "invert_permutation": lambda ns: ns.invert_permutation([2, 0, 1]),
    "diag": lambda ns: ns.diag([1, 2]),
    "diag_part": lambda ns: ns.diag_part(np.eye(2)),
    "matrix_band_part": lambda ns: ns.matrix_band_part(MATRIX, 0, -1),
    "eye": lambda ns: ns.eye(2, 3),
    "eye of a batch": lambda ns: ns.eye(2, batch_shape=[3], dtype=ns.int32),
    "trace": lambda ns: ns.trace(CUBE),
    # By index.
    "slice": lambda ns: ns.slice(CUBE, [1, 0, 2], [-1, 2, 1]),
    "strided_slice": lambda ns: ns.strided_slice(CUBE, [1, 0], [2, 3], [1, 2]),
    "t[1]": lambda ns: ns.constant(CUBE)[1],
    "t[-1, 1:]": lambda ns: ns.constant(CUBE)[-1, 1:],
    "t[..., None, ::-2]": lambda ns: ns.constant(CUBE)[..., None, ::-2],
    "t[:, 1, 2]": lambda ns: ns.constant(CUBE)[:, 1, 2],
    "t[5:1]": lambda ns: ns.constant(CUBE)[5:1],
    "t[i]": lambda ns: ns.constant(CUBE)[ns.constant(1), ns.constant(1) : ns.constant(3)],
    "t[i] int64": lambda ns: ns.constant(CUBE)[ns.constant(1, ns.int64), 1:],
    "t[()]": lambda ns: ns.constant(CUBE)[()],
    "t[mask]": lambda ns: ns.constant(CUBE)[ns.constant(CUBE) > 20],
    "gather": lambda ns: ns.gather(MATRIX, [[1, 0]]),
    "gather along an axis": lambda ns: ns.gather(CUBE, [3, 0], axis=2),
    "gather of batches": lambda ns: ns.gather(CUBE, [[1], [2]], batch_dims=1),
    "gather_nd": lambda ns: ns.gather_nd(CUBE, [[0, 1], [1, 2]]),
    "scatter_nd": lambda ns: ns.scatter_nd([[1], [1]], [2, 3], [4]),
    "where": lambda ns: ns.where([[True, False], [True, True]]),
    "where of numbers": lambda ns: ns.where([0.0, 2.0]),
    "where of two": lambda ns: ns.where([True, False], MATRIX, MATRIX * 2),
    "one_hot": lambda ns: ns.one_hot([0, 2, -1], 3),
    "one_hot of values": lambda ns: ns.one_hot([0, 2], 3, on_value=5, off_value=-1, axis=0),
    "one_hot of a type": lambda ns: ns.one_hot([0, 2], 3, dtype=ns.int64),
    "boolean_mask": lambda ns: ns.boolean_mask(CUBE, [[True, False, True], [False, True, False]]),
    "boolean_mask along an axis": lambda ns: ns.boolean_mask(CUBE, [True, False, True], axis=1),
    "boolean_mask, not known": lambda ns: ns.boolean_mask(unknown(ns, CUBE), [True, False]),
    "dynamic_partition": lambda ns: ns.dynamic_partition(MATRIX, [1, 0], 3),
    "dynamic_stitch": lambda ns: ns.dynamic_stitch([[2], [0, 1]], [[7], [8, 9]]),
    "unique": lambda ns: list(ns.unique([3, 1, 3])),
    "unique_with_counts": lambda ns: list(ns.unique_with_counts([3, 1, 3], ns.int64)),
    "setdiff1d": lambda ns: list(ns.setdiff1d([1, 2, 3], [2])),
    "sequence_mask": lambda ns: ns.sequence_mask([1, 3, 0]),
    "sequence_mask of a length": lambda ns: ns.sequence_mask([[1], [3]], 4, ns.int32),
    "sparse_mask": lambda ns: slices(
        ns.sparse_mask(ns.IndexedSlices(ns.constant(MATRIX), ns.constant([5, 7])), [7])
    ),
    # Arithmetic.
    "x / 2 of integers": lambda ns: ns.constant([3, -3]) / 2,
    "x // 2": lambda ns: ns.constant([3, -3]) // 2,
    "x % 2": lambda ns: ns.constant([3, -3]) % 2,
    "div of integers": lambda ns: ns.div(ns.constant([3, -3]), 2),
    "div of floats": lambda ns: ns.div([3.0], 2.0),
    "mod of floats": lambda ns: ns.mod([-3.5], [2.0]),
    "truncatediv": lambda ns: ns.truncatediv([-3], [2]),
    "truncatemod": lambda ns: ns.truncatemod([-3], [2]),
    "2 - x": lambda ns: 2 - ns.constant(MATRIX),
    "1 / x": lambda ns: 1 / ns.constant([2.0]),
    "2 ** x": lambda ns: 2.0 ** ns.constant([2.0]),
    "-x": lambda ns: -ns.constant(MATRIX),
    "abs(x)": lambda ns: abs(ns.constant([-1, 2])),
    "abs of complex": lambda ns: ns.abs([3 + 4j]),
    "x @ y": lambda ns: ns.constant(MATRIX) @ MATRIX.T,
    "~x": lambda ns: ~ns.constant([True, False]),
    "x & y": lambda ns: ns.constant([True, False]) & True,
    "x | y": lambda ns: ns.constant([True, False]) | False,
    "x ^ y": lambda ns: ns.constant([True, False]) ^ True,
    "x < y": lambda ns: ns.constant(MATRIX) < 3,
    "x >= y": lambda ns: ns.constant(MATRIX) >= [1, 2, 3],
    "array + x": lambda ns: MATRIX + ns.constant(MATRIX),
    "float64 array * x": lambda ns: ns.constant(MATRIX) * np.array([1.0, 2.0, 3.0]),
    "add of text": lambda ns: ns.add(["a", "b"], "c"),
    "scalar_mul": lambda ns: ns.scalar_mul(2.0, MATRIX),
    "equal": lambda ns: ns.equal([1, 2], [1, 3]),
    "logical_xor": lambda ns: ns.logical_xor([True, True], [False, True]),
    "complex": lambda ns: ns.complex([1.0], [2.0]),
    "real of real": lambda ns: ns.real([1.0]),
    "angle of real": lambda ns: ns.angle([-1.0, 2.0]),
    "conj": lambda ns: ns.conj([1 + 2j]),
    "round": lambda ns: ns.round([0.5, 1.5, -2.5]),
    "round of integers": lambda ns: ns.round([1, 2]),
    "rint": lambda ns: ns.rint([0.5, 1.5, -2.5]),
    "log_sigmoid": lambda ns: ns.log_sigmoid([-100.0, 0.0, 100.0]),
    "is_nan": lambda ns: ns.is_nan([np.nan, 1.0]),
    "sign of complex": lambda ns: ns.sign([3 + 4j, 0]),
    # Reductions and sequences.
    "reduce_sum": lambda ns: ns.reduce_sum(CUBE),
    "reduce_sum of what is not known": lambda ns: ns.reduce_sum(unknown(ns, CUBE)),
    "reduce_mean of integers": lambda ns: ns.reduce_mean([1, 2]),
    "reduce_max": lambda ns: ns.reduce_max(CUBE, axis=[0, -1], keep_dims=True),
    "reduce_all": lambda ns: ns.reduce_all([[True, False], [True, True]], 1),
    "reduce_any": lambda ns: ns.reduce_any([[True, False], [False, False]], 1),
    "reduce_prod of nothing": lambda ns: ns.reduce_prod(EMPTY, 0),
    "reduce_logsumexp": lambda ns: ns.reduce_logsumexp([[1000.0, 1000.0]], 1),
    "reduce_logsumexp of -inf": lambda ns: ns.reduce_logsumexp([-np.inf, -np.inf]),
    "reduce_logsumexp, kept": lambda ns: ns.reduce_logsumexp(MATRIX, 0, keepdims=True),
    "count_nonzero": lambda ns: ns.count_nonzero([[0, 1], [2, 3]], axis=0),
    "count_nonzero of text": lambda ns: ns.count_nonzero(["", "a"]),
    "argmax": lambda ns: ns.argmax(MATRIX, 1),
    "argmin": lambda ns: ns.argmin(MATRIX, output_type=ns.int32),
    "cumsum": lambda ns: ns.cumsum(MATRIX, 1, exclusive=True),
    "cumprod": lambda ns: ns.cumprod(MATRIX, 1, reverse=True),
    "add_n": lambda ns: ns.add_n([MATRIX, MATRIX]),
    "accumulate_n": lambda ns: ns.accumulate_n([MATRIX, MATRIX]),
    "range": lambda ns: ns.range(3),
    "range by steps": lambda ns: ns.range(10, 1, -3),
    "range of floats": lambda ns: ns.range(1, 2, 0.25),
    "range of a type": lambda ns: ns.range(3, dtype=ns.float32),
    "linspace": lambda ns: ns.lin_space(1.0, 2.0, 5),
    "bincount": lambda ns: ns.bincount([1, 1, 3]),
    "bincount of weights": lambda ns: ns.bincount([1, 1], weights=[0.5, 2.0], minlength=4),
    "bincount up to a length": lambda ns: ns.bincount([1, 1, 3], maxlength=2),
    "segment_sum": lambda ns: ns.segment_sum(MATRIX, [0, 2]),
    "unsorted_segment_max": lambda ns: ns.unsorted_segment_max(MATRIX, [1, 1], 2),
    "sparse_segment_mean": lambda ns: ns.sparse_segment_mean(MATRIX, [0, 1], [0, 0]),
    "matmul": lambda ns: ns.matmul(MATRIX, MATRIX, transpose_b=True),
    "matmul of batches": lambda ns: ns.matmul(CUBE, CUBE, transpose_a=True),
    "matmul, transposed complex": lambda ns: ns.matmul(
        [[[1 + 1j]]], [[[2 - 1j]]], transpose_a=True, adjoint_b=True
    ),
    "cross": lambda ns: (ns.cross if ns is ps else ns.linalg.cross)([1.0, 2, 3], [3.0, 2, 1]),
    # Norms.
    "clip_by_value": lambda ns: ns.clip_by_value(MATRIX, 1, 4),
    "clip_by_norm": lambda ns: ns.clip_by_norm(MATRIX, 2.0),
    "clip_by_norm of columns": lambda ns: ns.clip_by_norm(MATRIX, 2.0, axes=[0]),
    "clip_by_norm of nothing": lambda ns: ns.clip_by_norm([0.0, 0.0], 2.0),
    "clip_by_average_norm": lambda ns: ns.clip_by_average_norm(MATRIX, 0.1),
    "global_norm": lambda ns: ns.global_norm([MATRIX, None, MATRIX]),
    "clip_by_global_norm": lambda ns: ns.clip_by_global_norm([MATRIX, MATRIX], 1.0)[0],
    "clip_by_global_norm of inf": lambda ns: ns.clip_by_global_norm([[np.inf, 1.0]], 1.0)[0],
    # Networks.
    "relu6": lambda ns: ns.nn.relu6([-1.0, 3.0, 7.0]),
    "bias_add": lambda ns: ns.nn.bias_add(MATRIX, [1.0, 2.0, 3.0]),
    "xw_plus_b": lambda ns: ns.nn.xw_plus_b(MATRIX, MATRIX.T, [1.0, 2.0]),
    "relu_layer": lambda ns: ns.nn.relu_layer(-MATRIX, MATRIX.T, [1.0, 2.0]),
    "dropout of nothing": lambda ns: ns.nn.dropout(MATRIX, keep_prob=1.0),
    "l2_normalize": lambda ns: ns.nn.l2_normalize(MATRIX, 1),
    "zero_fraction": lambda ns: ns.nn.zero_fraction([0.0, 1.0, 0.0]),
    "moments": lambda ns: list(ns.nn.moments(MATRIX, [0])),
    "moments of float16": lambda ns: list(ns.nn.moments(MATRIX.astype(np.float16), [0, 1])),
    "moments, kept": lambda ns: list(ns.nn.moments(MATRIX, [-1], keep_dims=True)),
    "sufficient_statistics": lambda ns: list(ns.nn.sufficient_statistics(MATRIX, [0], shift=1.0))[
        :3
    ],
    "normalize_moments": lambda ns: list(ns.nn.normalize_moments(3.0, [6.0], [15.0], 1.0)),
    "batch_normalization": lambda ns: ns.nn.batch_normalization(
        MATRIX, *(ns.constant([i, 2.0, 3.0]) for i in (1.0, 4.0, 5.0, 6.0)), 1e-3
    ),
    "top_k": lambda ns: list(ns.nn.top_k(MATRIX, 2)),
    "in_top_k": lambda ns: ns.nn.in_top_k(MATRIX, [0, 2], 2),
    "softmax": lambda ns: ns.nn.softmax(MATRIX),
    "softmax, first axis": lambda ns: ns.nn.softmax(MATRIX, 0),
    "softmax of a vector": lambda ns: ns.nn.softmax([1.0, 2.0]),
    "log_softmax": lambda ns: ns.nn.log_softmax(CUBE.astype(np.float32), 1),
    "softmax_cross_entropy": lambda ns: ns.nn.softmax_cross_entropy_with_logits(
        logits=CUBE.astype(np.float32), labels=np.full((2, 3, 4), 0.25, np.float32)
    ),
    "softmax_cross_entropy, dim 0": lambda ns: ns.nn.softmax_cross_entropy_with_logits(
        logits=MATRIX, labels=np.full((2, 3), 0.5, np.float32), dim=0
    ),
    "softmax_cross_entropy of float16": lambda ns: ns.nn.softmax_cross_entropy_with_logits(
        logits=MATRIX.astype(np.float16), labels=np.full((2, 3), 1 / 3, np.float16)
    ),
    "sparse_softmax_cross_entropy": lambda ns: ns.nn.sparse_softmax_cross_entropy_with_logits(
        logits=CUBE.astype(np.float32), labels=[[0, 1, 2], [3, 0, 1]]
    ),
    "sigmoid_cross_entropy": lambda ns: ns.nn.sigmoid_cross_entropy_with_logits(
        logits=[-100.0, 0.0, 100.0], labels=[1.0, 0.5, 0.0]
    ),
    "conv2d": lambda ns: ns.nn.conv2d(images(4), filters(3, 4, 2), [1, 2, 1, 1], "SAME"),
    "conv2d, padded": lambda ns: ns.nn.conv2d(
        images(4), filters(3, 4, 2), [1, 1, 1, 1], [[0, 0], [1, 2], [0, 1], [0, 0]]
    ),
    "conv2d, dilated": lambda ns: ns.nn.conv2d(
        images(4), filters(2, 4, 2), [1, 1, 1, 1], "VALID", dilations=[1, 2, 1, 1]
    ),
    "conv2d_transpose": lambda ns: ns.nn.conv2d_transpose(
        images(4), filters(3, 2, 4), [2, 10, 12, 2], [1, 2, 2, 1]
    ),
    "atrous_conv2d": lambda ns: ns.nn.atrous_conv2d(images(4), filters(2, 4, 3), 2, "VALID"),
    "depthwise_conv2d": lambda ns: ns.nn.depthwise_conv2d(
        images(3), filters(2, 3, 2), [1, 1, 1, 1], "SAME"
    ),
    "depthwise_conv2d, dilated": lambda ns: ns.nn.depthwise_conv2d(
        images(3), filters(2, 3, 2), [1, 1, 1, 1], "VALID", rate=[2, 2]
    ),
    "separable_conv2d": lambda ns: ns.nn.separable_conv2d(
        images(3), filters(2, 3, 2), filters(1, 6, 4), [1, 2, 2, 1], "VALID"
    ),
    "max_pool": lambda ns: ns.nn.max_pool(images(2), [1, 3, 2, 1], [1, 2, 1, 1], "SAME"),
    "avg_pool": lambda ns: ns.nn.avg_pool(images(2), [1, 3, 2, 1], [1, 2, 1, 1], "SAME"),
    "embedding_lookup": lambda ns: ns.nn.embedding_lookup(MATRIX, [1, 0, 1]),
    "embedding_lookup mod": lambda ns: ns.nn.embedding_lookup(
        [MATRIX, MATRIX + 10, MATRIX[:1] + 20], [[0, 4], [2, 3]]
    ),
    "embedding_lookup div": lambda ns: ns.nn.embedding_lookup(
        [MATRIX, MATRIX + 10, MATRIX[:1] + 20], [[0, 4], [2, 3]], partition_strategy="div"
    ),
    "embedding_lookup of a norm": lambda ns: ns.nn.embedding_lookup(
        [MATRIX, MATRIX + 10], [[0, 3]], max_norm=2.0
    ),
    # Control.
    "cond": lambda ns: ns.cond(ns.constant(True), lambda: ns.constant(1), lambda: ns.constant(2)),
    "cond of two": lambda ns: ns.cond(
        ns.constant(False), lambda: (1, [2.0]), lambda: (3, [ns.constant(4.0)])
    ),
    "case": lambda ns: ns.case(
        [(ns.constant(False), lambda: ns.constant(1)), (ns.constant(True), lambda: ns.constant(2))],
        default=lambda: ns.constant(3),
    ),
    "tuple": lambda ns: ns.tuple([ns.constant(1), ns.constant(2)]),
    "is_non_decreasing": lambda ns: ns.is_non_decreasing([1, 1, 2]),
    "is_strictly_increasing": lambda ns: ns.is_strictly_increasing([1, 1, 2]),
}

# What waits for a branch to be taken is on the task where that is decided.
ON_ONE_TASK = {"cond", "cond of two", "case"}


def unknown(ns: Any, value: Any) -> Any:
    """A tensor of which neither the value nor the shape is known while the graph is built."""
    array = np.asarray(value, None if isinstance(value, np.ndarray) else np.int32)
    return ns.placeholder_with_default(array, None)


def images(channels: int) -> Any:
    return np.sin(np.arange(2 * 5 * 6 * channels, dtype=np.float32)).reshape(2, 5, 6, channels)


def filters(size: int, *channels: int) -> Any:
    shape = (size, size, *channels)
    return np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def slices(value: Any) -> list[Any]:
    return [value.values, value.indices]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


@pytest.fixture(scope="module")
def tf_session(tf):
    with tf.Session(graph=tf.Graph()) as session:
        yield session


@pytest.mark.parametrize(("name", "place"), everywhere(CASES), indirect=["place"])
def test_a_function_gives_what_tensorflows_gives(tf, tf_session, name, place):
    with place.session(ps.Graph()) as session, session.graph.as_default():
        with place.devices(spread=name not in ON_ONE_TASK):
            ours = leaves(CASES[name](ps))
        our_values = session.run(ours)
    with tf_session.graph.as_default():
        theirs = leaves(CASES[name](tf))
        their_values = tf_session.run(theirs)
    assert [t.dtype.base_dtype.name for t in ours] == [t.dtype.base_dtype.name for t in theirs]
    for mine, other in zip(our_values, their_values, strict=True):
        kernel_driver.assert_same(
            np.asarray(mine),
            np.asarray(other),
            rtol=1e-3 if mine.dtype == np.float16 else 1e-5,
            atol=1e-6,
        )
    for mine, other, value in zip(ours, theirs, our_values, strict=True):
        assert mine.shape.is_compatible_with(np.shape(value))
        assert at_least_as_known(mine.shape, other.shape), f"{mine.shape}, TensorFlow {other.shape}"


def at_least_as_known(ours: Any, theirs: Any) -> bool:
    if theirs.ndims is None:
        return True
    if ours.ndims is None:
        return False
    pairs = zip(ours.as_list(), theirs.as_list(), strict=True)
    return all(other is None or mine == other for mine, other in pairs)

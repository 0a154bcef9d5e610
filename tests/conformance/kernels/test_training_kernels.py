"""Kernels of the family `training` beside TensorFlow's: three updates of one variable each."""

import functools

import numpy as np
import pytest

import kernel_driver
from kernel_driver import assert_same
from paramserve_core import dtypes, errors
from paramserve_core.opdefs import all_ops, find_op
from update_cases import OURS, STEPS, UpdateCase, variants

pytestmark = pytest.mark.oracle

FLOAT32, FLOAT64 = dtypes.float32, dtypes.float64
HALVES = (dtypes.float16, dtypes.bfloat16)
COMPLEX = (dtypes.complex64, dtypes.complex128)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def run_oracle(tf, case, steps=STEPS):
    """The variable and its slots after TensorFlow's updates."""
    session = _oracle_session(tf, case.graph().SerializeToString())
    assigns = [f"{name}/assign" for name in case.refs]
    session.run(assigns, {f"{name}/value:0": case.state[name] for name in case.refs})
    for _ in range(steps):
        session.run("update", {f"{name}:0": value for name, value in case.feeds.items()})
    return session.run([f"{name}:0" for name in case.refs])


@functools.lru_cache(maxsize=4)
def _oracle_session(tf, serialized):
    """One for all shapes: the graph knows none of them."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(serialized), name="")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    return tf.compat.v1.Session(graph=graph, config=config)


# The halves are rounded after every operation there, once per update here; and each rounding is
# one of a sum of several terms.
TOLERANCE = {
    "float16": (1e-2, 5e-3),
    "bfloat16": (8e-2, 5e-2),
    "float32": (2e-5, 1e-6),
    "complex64": (2e-5, 1e-6),
}


def _types_in_tensorflow(tf, op):
    from tensorflow.python.framework import kernels

    return {
        dtype
        for entry in kernels.get_registered_kernels_for_op(op).kernel
        for constraint in entry.constraint
        if entry.device_type == "CPU" and constraint.name == "T"
        for dtype in constraint.allowed_values.list.type
    }


def assert_agrees(tf, case):
    if case.dtype.as_datatype_enum not in _types_in_tensorflow(tf, case.op):
        return
    rtol, atol = TOLERANCE.get(case.dtype.name, (1e-10, 1e-12))
    for ours, theirs in zip(case.run(), run_oracle(tf, case), strict=True):
        assert_same(ours, np.asarray(theirs), rtol=rtol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "changes"), variants("Apply", ours=False))
def test_dense_updates_are_tensorflows(tf, op, changes):
    for dtype in (FLOAT32, FLOAT64):
        for shape in ((), (7,), (2, 3, 4), (0, 3)):
            assert_agrees(tf, UpdateCase(op, dtype, shape, changes))


@pytest.mark.slow
@pytest.mark.parametrize(("op", "changes"), variants("SparseApply", ours=False))
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_sparse_updates_are_tensorflows(tf, op, changes, index_type):
    for dtype in (FLOAT32, FLOAT64):
        for chosen in ([4, 0, 2], [1, 3, 1, 1, 0, 3], []):
            indices = np.array(chosen, index_type)
            for shape in ((5, 3), (5,), (5, 2, 2)):
                assert_agrees(tf, UpdateCase(op, dtype, shape, changes, indices))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "changes"), [*variants("Apply", ours=False), *variants("SparseApply", ours=False)]
)
def test_updates_of_other_types_are_tensorflows(tf, op, changes):
    indices = np.int64([3, 0, 3]) if op.startswith("Sparse") else None
    for dtype in find_op(op).attrs["T"].allowed:
        # Ftrl subtracts roots of nearly equal numbers, which half precision does not survive there.
        if dtype in COMPLEX or (dtype in HALVES and "Ftrl" not in op):
            assert_agrees(tf, UpdateCase(op, dtype, (4, 3), changes, indices))


def test_every_training_op_is_compared():
    compared = {
        case.values[0]
        for case in (*variants("Apply", ours=False), *variants("SparseApply", ours=False))
    }
    assert compared == {n for n, op in all_ops().items() if op.family == "training"} - OURS


ROWS = np.ones((2, 3), np.float32)
REFUSED = {
    "gradient's shape": ("ApplyMomentum", None, {"grad": ROWS.T}),
    "rate's shape": ("ApplyMomentum", None, {"lr": ROWS[0, :1]}),
    "rows' shape": ("SparseApplyMomentum", [0, 1], {"grad": ROWS[:, :2]}),
    "rows' number": ("SparseApplyMomentum", [0, 1], {"grad": ROWS[:1]}),
    "index": ("SparseApplyMomentum", [0, 2], {}),
    "negative index": ("SparseApplyMomentum", [0, -1], {}),
    "indices' rank": ("SparseApplyMomentum", [[0], [1]], {"grad": ROWS}),
    "negative l1": ("SparseApplyFtrl", [0], {"l1": np.float32(-1)}),
    "rate of zero": ("SparseApplyFtrl", [0], {"lr": np.float32(0)}),
    "positive power": ("SparseApplyFtrl", [0], {"lr_power": np.float32(0.5)}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_update_refuses_what_tensorflow_refuses(tf, what):
    op, chosen, feeds = REFUSED[what]
    indices = None if chosen is None else np.array(chosen, np.int64)
    case = UpdateCase(op, FLOAT32, (2, 3), {}, indices)
    case.feeds.update({name: np.asarray(value) for name, value in feeds.items()})
    with pytest.raises(errors.InvalidArgumentError):
        case.run()
    with pytest.raises(tf.errors.InvalidArgumentError):
        run_oracle(tf, case)

"""Kernels of the family `training` beside TensorFlow's: three updates of one variable each."""

import functools

import numpy as np
import pytest

import kernel_driver
from graph_builder import GraphBuilder
from kernel_driver import assert_same
from paramserve_core import dtypes, errors
from paramserve_core.executor.program import Program
from paramserve_core.opdefs import all_ops, find_op
from paramserve_core.opdefs.training import GRADIENTS

pytestmark = pytest.mark.oracle

FLOAT32, FLOAT64 = dtypes.float32, dtypes.float64
HALVES = (dtypes.float16, dtypes.bfloat16)
COMPLEX = (dtypes.complex64, dtypes.complex128)
STEPS = 3

SCALARS = {
    "alpha": 0.1,
    "beta": 0.9,
    "beta1": 0.9,
    "beta1_power": 0.81,
    "beta2": 0.99,
    "beta2_power": 0.9801,
    "epsilon": 1e-3,
    "global_step": 3,
    "l1": 0.05,
    "l2": 0.02,
    "l2_shrinkage": 0.03,
    "logbase": 1.5,
    "lr": 0.1,
    "lr_power": -0.5,
    "momentum": 0.8,
    "rho": 0.9,
    "sign_decay": 0.7,
}

# Each op with the attributes and scalars that take another way through its formula.
VARIANTS = [
    ("GradientDescent", {}),
    ("Momentum", {}),
    ("Momentum", {"use_nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"update_slots": False}),
    ("AdagradV2", {}),
    ("AdagradV2", {"update_slots": False}),
    ("AdagradDA", {}),
    ("AdagradDA", {"l1": 0.0}),
    ("Adadelta", {}),
    ("Adam", {}),
    ("Adam", {"use_nesterov": True}),
    ("AdaMax", {}),
    ("RMSProp", {}),
    ("RMSProp", {"momentum": 0.0}),
    ("CenteredRMSProp", {}),
    ("Ftrl", {}),
    ("Ftrl", {"lr_power": -0.7}),
    ("Ftrl", {"l1": 0.0, "l2": 0.0}),
    ("Ftrl", {"multiply_linear_by_lr": True}),
    ("FtrlV2", {}),
    ("FtrlV2", {"lr_power": -0.3, "multiply_linear_by_lr": True}),
    ("ProximalGradientDescent", {}),
    ("ProximalGradientDescent", {"l1": 0.0}),
    ("ProximalAdagrad", {}),
    ("ProximalAdagrad", {"l1": 0.0}),
    ("AddSign", {}),
    ("PowerSign", {}),
]
OURS = {"SparseApplyAdam", "ApplyAdamW", "SparseApplyAdamW", "ApplyLion", "SparseApplyLion"}


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def variants(prefix):
    found = []
    for name, changes in VARIANTS:
        op = f"{prefix}{name}"
        if find_op(op) is not None and op not in OURS:
            text = "".join(f"-{key}={value}" for key, value in changes.items())
            found.append(pytest.param(op, changes, id=f"{name}{text}"))
    return found


class UpdateCase:
    """One op on a variable and slots of random values: the graph, what is fed, what it gives."""

    def __init__(self, op, dtype, shape, changes, indices=None, seed=0):
        self.definition = find_op(op)
        self.op = op
        self.dtype = dtype
        self.random = np.random.default_rng(seed)
        self.refs = [arg.name for arg in self.definition.inputs if arg.is_ref]
        self.attrs = {k: v for k, v in changes.items() if k in self.definition.attrs}
        if indices is not None:
            self.attrs["Tindices"] = dtypes.as_dtype(indices.dtype)
        self.state = {name: self._positive(shape) for name in self.refs}
        self.state["var"] = self._signed(shape)
        rows = shape if indices is None else (*indices.shape, *shape[1:])
        self.feeds = {}
        for arg in self.definition.inputs[len(self.refs) :]:
            if arg.name in GRADIENTS:
                value = self._signed(rows)
            elif arg.name == "indices":
                value = indices
            else:
                kind = dtypes.int64 if arg.name == "global_step" else dtype
                value = np.asarray(changes.get(arg.name, SCALARS[arg.name]), kind.as_numpy_dtype)
            self.feeds[arg.name] = value

    def _signed(self, shape):
        values = self.random.normal(size=shape)
        if self.dtype.is_complex:
            values = values + 1j * self.random.normal(size=shape)
        return np.asarray(values, self.dtype.as_numpy_dtype)

    def _positive(self, shape):
        # Above any mg² that a gradient gives, so that CenteredRMSProp takes no negative root.
        return np.asarray(self.random.uniform(1.5, 3, size=shape), self.dtype.as_numpy_dtype)

    def graph(self):
        builder = GraphBuilder()
        for name in self.refs:
            builder.node("VariableV2", name, shape=None, dtype=self.dtype)
            builder.node("Placeholder", f"{name}/value", shape=None, dtype=self.dtype)
            builder.node(
                "Assign",
                f"{name}/assign",
                name,
                f"{name}/value",
                T=self.dtype,
                validate_shape=False,
            )
        for name, value in self.feeds.items():
            builder.node("Placeholder", name, shape=None, dtype=dtypes.as_dtype(value.dtype))
        builder.node(self.op, "update", *self.refs, *self.feeds, T=self.dtype, **self.attrs)
        return builder.graph

    def run(self, steps=STEPS):
        """The variable and its slots after the updates; or an OpError."""
        nodes = {node.name: node for node in self.graph().node}
        step = kernel_driver.make_step()
        assigns = [nodes[f"{n}{end}"] for n in self.refs for end in ("", "/assign")]
        values = [f"{name}/value:0" for name in self.refs]
        Program(assigns, received=values).run(step, [self.state[n].copy() for n in self.refs], {})
        variables = [nodes[name] for name in self.refs]
        feeds = [f"{name}:0" for name in self.feeds]
        update = Program([*variables, nodes["update"]], received=feeds)
        for _ in range(steps):
            update.run(step, list(self.feeds.values()), {})
        return [step.store.find(name).read() for name in self.refs]

    def run_oracle(self, tf, steps=STEPS):
        session = _oracle_session(tf, self.graph().SerializeToString())
        assigns = [f"{name}/assign" for name in self.refs]
        session.run(assigns, {f"{name}/value:0": self.state[name] for name in self.refs})
        for _ in range(steps):
            session.run("update", {f"{name}:0": value for name, value in self.feeds.items()})
        return session.run([f"{name}:0" for name in self.refs])


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
    for ours, theirs in zip(case.run(), case.run_oracle(tf), strict=True):
        assert_same(ours, np.asarray(theirs), rtol=rtol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "changes"), variants("Apply"))
def test_dense_updates_are_tensorflows(tf, op, changes):
    for dtype in (FLOAT32, FLOAT64):
        for shape in ((), (7,), (2, 3, 4), (0, 3)):
            assert_agrees(tf, UpdateCase(op, dtype, shape, changes))


@pytest.mark.slow
@pytest.mark.parametrize(("op", "changes"), variants("SparseApply"))
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_sparse_updates_are_tensorflows(tf, op, changes, index_type):
    for dtype in (FLOAT32, FLOAT64):
        for chosen in ([4, 0, 2], [1, 3, 1, 1, 0, 3], []):
            indices = np.array(chosen, index_type)
            for shape in ((5, 3), (5,), (5, 2, 2)):
                assert_agrees(tf, UpdateCase(op, dtype, shape, changes, indices))


@pytest.mark.slow
@pytest.mark.parametrize(("op", "changes"), [*variants("Apply"), *variants("SparseApply")])
def test_updates_of_other_types_are_tensorflows(tf, op, changes):
    indices = np.int64([3, 0, 3]) if op.startswith("Sparse") else None
    for dtype in find_op(op).attrs["T"].allowed:
        # Ftrl subtracts roots of nearly equal numbers, which half precision does not survive there.
        if dtype in COMPLEX or (dtype in HALVES and "Ftrl" not in op):
            assert_agrees(tf, UpdateCase(op, dtype, (4, 3), changes, indices))


def test_every_training_op_is_compared():
    compared = {case.values[0] for case in (*variants("Apply"), *variants("SparseApply"))}
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
        case.run_oracle(tf)

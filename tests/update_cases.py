"""One training op on a variable and its slots: what the tests of updates are made of."""

from __future__ import annotations

import numpy as np
import pytest

import kernel_driver
from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.executor.program import Program
from paramserve_core.opdefs import find_op
from paramserve_core.opdefs.training import GRADIENTS

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
    "weight_decay": 0.3,
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
    ("AdamW", {}),
    ("Lion", {}),
]
OURS = {"SparseApplyAdam", "ApplyAdamW", "SparseApplyAdamW", "ApplyLion", "SparseApplyLion"}
"""What TensorFlow does not have."""


def variants(prefix, ours=True):
    """Parameters: each op with that prefix, and each way through its formula."""
    found = []
    for name, changes in VARIANTS:
        op = f"{prefix}{name}"
        if find_op(op) is not None and (ours or op not in OURS):
            text = "".join(f"-{key}={value}" for key, value in changes.items())
            found.append(pytest.param(op, changes, id=f"{op}{text}"))
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
        if "mg" in self.state:  # a mean, whose square is less than the mean square
            self.state["mg"] = np.asarray(self.state["mg"] / 4, dtype.as_numpy_dtype)
        self.state["var"] = self._signed(shape)
        rows = shape if indices is None else (*indices.shape, *shape[1:])
        self.feeds = {}
        for arg in self.definition.inputs[len(self.refs) :]:
            if arg.name in GRADIENTS:
                value = self._signed(rows)
            elif arg.name == "indices":
                value = indices
            else:
                kind = dtypes.int64 if arg.name == "global_step" else self._scalar_dtype()
                value = np.asarray(changes.get(arg.name, SCALARS[arg.name]), kind.as_numpy_dtype)
            self.feeds[arg.name] = value

    def _scalar_dtype(self):
        if "Tscalars" not in self.definition.attrs:
            return self.dtype
        is_wide = self.dtype in (dtypes.float64, dtypes.complex128)
        self.attrs["Tscalars"] = dtypes.float64 if is_wide else dtypes.float32
        return self.attrs["Tscalars"]

    def _signed(self, shape):
        values = self.random.normal(size=shape)
        if self.dtype.is_complex:
            values = values + 1j * self.random.normal(size=shape)
        return np.asarray(values, self.dtype.as_numpy_dtype)

    def _positive(self, shape):
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

    def start(self, step=None):
        """Gives the variable and its slots their values; answers the step that has them."""
        step = step or kernel_driver.make_step()
        nodes = self._nodes()
        assigns = [nodes[f"{n}{end}"] for n in self.refs for end in ("", "/assign")]
        values = [f"{name}/value:0" for name in self.refs]
        Program(assigns, received=values).run(step, [self.state[n].copy() for n in self.refs], {})
        return step

    def update(self, step, steps=1):
        """Applies the gradient; answers the variable after the last update.

        Raises:
            OpError: what the kernel, or the compilation of its node, raised.
        """
        nodes = self._nodes()
        feeds = [f"{name}:0" for name in self.feeds]
        program = Program(
            [*(nodes[name] for name in self.refs), nodes["update"]],
            received=feeds,
            returned=["update:0"],
        )
        for _ in range(steps):
            (var,) = program.run(step, list(self.feeds.values()), {})
        return var

    def values(self, step):
        """The variable and its slots now."""
        return [step.store.find(name).read() for name in self.refs]

    def run(self, steps=STEPS):
        """The variable and its slots after some updates from their first values."""
        step = self.start()
        self.update(step, steps)
        return self.values(step)

    def _nodes(self):
        return {node.name: node for node in self.graph().node}

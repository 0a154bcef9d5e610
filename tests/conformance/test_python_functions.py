"""`py_func` here and in TensorFlow: what a function is given, and what becomes of what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


def raising(error: Exception) -> Any:
    def fails(*values: Any) -> Any:
        raise error

    return fails


FUNCTIONS = {
    "an array": (lambda x: np.sinh(x), "float32"),
    "a python float": (lambda x: 1.5, "float64"),
    "a python float for a float32": (lambda x: 1.5, "float32"),
    "an int for a float": (lambda x: 3, "float32"),
    "a text": (lambda x: "é", "string"),
    "texts": (lambda x: np.array(["a", "bc"], np.object_), "string"),
    "a list for one": (lambda x: [1.0, 2.0], "float64"),
    "a list of one": (lambda x: [np.float32(2)], "float32"),
    "a tuple": (lambda x: (np.float32(1), True), ["float32", "bool"]),
    "a nested list": (lambda x: [[1.0, 2.0]], ["float64"]),
    "too few": (lambda x: (np.float32(1),), ["float32", "bool"]),
    "nothing": (lambda x: None, "float32"),
    "nothing for nothing": (lambda x: None, []),
    "something for nothing": (lambda x: np.float32(1), []),
    "StopIteration": (raising(StopIteration("x")), "float32"),
    "ValueError": (raising(ValueError("x")), "float32"),
    "TypeError": (raising(TypeError("x")), "float32"),
    "MemoryError": (raising(MemoryError("x")), "float32"),
    "NotImplementedError": (raising(NotImplementedError("x")), "float32"),
    "ZeroDivisionError": (raising(ZeroDivisionError("x")), "float32"),
}


def outcome(ns: Any, function: Any, types: Any) -> Any:
    """What a step with the function gives, or the class of its error."""
    given = []

    def record(*values: Any) -> Any:
        given.extend((type(value).__name__, np.shape(value)) for value in values)
        return function(values[0])

    dtypes = [getattr(ns, t) for t in types] if isinstance(types, list) else getattr(ns, types)
    with ns.Graph().as_default() as graph:
        inputs = [ns.constant([1.0, 2.0]), ns.constant(3), ns.constant("s"), ns.constant([b"t"])]
        fetched = ns.py_func(record, inputs, dtypes)
        with ns.Session(graph=graph) as session:
            try:
                values = session.run(fetched)
            except ns.errors.OpError as error:
                return given, type(error).__name__
    values = values if isinstance(values, list) else [values]
    return given, [v if v is None else (np.asarray(v).dtype, np.array(v).tolist()) for v in values]


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_is_given_and_gives_the_same_as_in_tensorflow(tf, case):
    function, types = FUNCTIONS[case]
    assert outcome(ps, function, types) == outcome(tf, function, types)


@pytest.mark.parametrize("stateful", [True, False])
def test_the_op_has_the_attributes_of_tensorflow(tf, stateful):
    def node(ns: Any) -> Any:
        with ns.Graph().as_default():
            output = ns.py_func(len, [ns.constant([1]), 2.0], ns.int64, stateful=stateful, name="f")
            return output.op.node_def

    ours, theirs = node(ps), node(tf)
    assert (ours.op, list(ours.input)) == (theirs.op, list(theirs.input))
    for name in ("Tin", "Tout"):
        ours_types, theirs_types = ours.attr[name].list.type, theirs.attr[name].list.type
        assert list(ours_types) == list(theirs_types)
    assert ours.attr["token"].s.startswith(b"pyfunc_")
    assert set(ours.attr) == set(theirs.attr)

"""Loops and their gradients against TensorFlow's, and graphs of either run in the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    module = kernel_driver.tensorflow().compat.v1
    module.disable_control_flow_v2()
    module.disable_resource_variables()
    yield module
    module.enable_control_flow_v2()
    module.enable_resource_variables()


def counted(ns, x, n, w):
    return ns.while_loop(lambda i, a: i < n, lambda i, a: [i + 1, a + x], [0, x])[1]


def powers(ns, x, n, w):
    return ns.while_loop(lambda i, a: i < n, lambda i, a: [i + 1, a * w + 1.0], [0, x])[1]


def every_iteration_matters(ns, x, n, w):
    def body(i, a):
        return [i + 1, ns.sin(a) * w + ns.tanh(a * x)]

    return ns.while_loop(lambda i, a: i < n, body, [0, x])[1]


def two_variables_that_feed_each_other(ns, x, n, w):
    loop = ns.while_loop(
        lambda i, a, b: i < n, lambda i, a, b: [i + 1, b * w, a + ns.exp(-b)], [0, x, w]
    )
    return loop[1] + loop[2] * 2.0


def condition_on_the_value(ns, x, n, w):
    return ns.while_loop(lambda a: a < 50.0, lambda a: a * a + w, [x + 1.0])


def bounded(ns, x, n, w):
    return ns.while_loop(
        lambda i, a: i < 100, lambda i, a: [i + 1, a * x + w], [0, w], maximum_iterations=n
    )[1]


def nested(ns, x, n, w):
    def outer(i, a):
        inner = ns.while_loop(
            lambda j, b: j < i, lambda j, b: [j + 1, ns.sin(b) * w + b * x], [0, a * 1.5]
        )
        return [i + 1, inner[1] + a]

    return ns.while_loop(lambda i, a: i < n, outer, [0, x])[1]


def nested_three_deep(ns, x, n, w):
    def level(depth, value):
        if not depth:
            return ns.tanh(value * w) + x
        return ns.while_loop(
            lambda i, a: i < 2, lambda i, a: [i + 1, level(depth - 1, a) * a], [0, value]
        )[1]

    return level(3, x)


def branches_in_a_loop(ns, x, n, w):
    def body(i, a):
        chosen = ns.cond(i % 2 < 1, lambda: ns.sin(a) * w, lambda: a * a + x)
        return [i + 1, chosen]

    return ns.while_loop(lambda i, a: i < n, body, [0, x])[1]


def branches_in_branches_in_a_loop(ns, x, n, w):
    def body(i, a):
        def odd():
            return ns.cond(ns.greater(a, 0.5), lambda: ns.exp(-a) * w, lambda: ns.sin(a) + x)

        return [i + 1, ns.cond(ns.less(i % 2, 1), odd, lambda: a * w - x * a)]

    return ns.while_loop(lambda i, a: i < n, body, [0, x])[1]


def loop_in_a_branch(ns, x, n, w):
    return ns.cond(n < 3, lambda: nested(ns, x, n, w), lambda: powers(ns, x, n, w) * x)


def loop_in_a_branch_in_a_loop(ns, x, n, w):
    def body(i, a):
        chosen = ns.cond(i % 2 < 1, lambda: every_iteration_matters(ns, a, i, w), lambda: a * w)
        return [i + 1, chosen]

    return ns.while_loop(lambda i, a: i < n, body, [0, x])[1]


def one_loop_after_another(ns, x, n, w):
    return powers(ns, every_iteration_matters(ns, x, n, w), n, w)


def growing_rows(ns, x, n, w):
    rows = ns.while_loop(
        lambda i, a: i < n,
        lambda i, a: [i + 1, ns.concat([a, a[-1:] * w], 0)],
        [0, ns.stack([x, w])],
        shape_invariants=[ns.TensorShape([]), ns.TensorShape([None])],
    )[1]
    return ns.reduce_sum(rows * rows)


def rows_gathered(ns, x, n, w):
    table = ns.stack([[x, w], [w, x * w], [x * x, w]])

    def body(i, a):
        return [i + 1, a + ns.reduce_sum(ns.gather(table, [i % 3, 0]) * a)]

    # TensorFlow gets the shape of no rows wrong, so one iteration or more.
    return ns.while_loop(lambda i, a: i < ns.maximum(n, 1), body, [0, x])[1]


def not_followed(ns, x, n, w):
    def body(i, a):
        return [i + 1, a * ns.stop_gradient(a) + x]

    return ns.while_loop(lambda i, a: i < n, body, [0, x])[1] * w


CASES = [
    counted,
    powers,
    every_iteration_matters,
    two_variables_that_feed_each_other,
    condition_on_the_value,
    bounded,
    nested,
    nested_three_deep,
    branches_in_a_loop,
    branches_in_branches_in_a_loop,
    loop_in_a_branch,
    loop_in_a_branch_in_a_loop,
    one_loop_after_another,
    growing_rows,
    rows_gathered,
    not_followed,
]

FEEDS = [
    {"x:0": x, "w:0": w, "n:0": n} for x, w in ((0.3, 1.25), (0.75, -0.5)) for n in (0, 1, 2, 5)
]


def build(ns: Any, case: Any) -> None:
    """The value `y` of a case, and its gradients `by_x` and `by_w`."""
    x = ns.placeholder(ns.float32, [], name="x")
    w = ns.placeholder(ns.float32, [], name="w")
    n = ns.placeholder(ns.int32, [], name="n")
    y = ns.identity(case(ns, x, n, w), name="y")
    for gradient, name in zip(ns.gradients(y, [x, w]), ("by_x", "by_w"), strict=True):
        if gradient is not None:
            ns.identity(gradient, name=name)


def run(ns: Any, graph: Any) -> np.ndarray:
    """The value and the gradients for every feed; no gradient is one of zeros."""
    found = {op.name for op in graph.get_operations()}
    names = [f"{name}:0" for name in ("y", "by_x", "by_w") if name in found]
    with ns.Session(graph=graph) as session:
        return np.array([session.run(names, feed) for feed in FEEDS])


def close(expected):
    return pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.fixture
def ours(case):
    with ps.Graph().as_default() as graph:
        build(ps, case)
    return graph


@pytest.fixture
def theirs(tf, case):
    with tf.Graph().as_default() as graph:
        build(tf, case)
    return graph


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_loops_and_gradients_are_tensorflows_and_graphs_run_in_both(tf, case, ours, theirs):
    expected = run(tf, theirs)
    assert run(ps, ours) == close(expected)

    message = tf.GraphDef.FromString(ours.as_graph_def().SerializeToString())
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(message, name="")
    assert run(tf, imported) == close(expected)

    message = ps.GraphDef.FromString(theirs.as_graph_def().SerializeToString())
    with ps.Graph().as_default() as imported:
        ps.import_graph_def(message, name="")
    assert run(ps, imported) == close(expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_gradients_of_an_imported_loop_are_those_of_the_loop_it_was(tf, case, theirs):
    expected = run(tf, theirs)
    with tf.Graph().as_default() as graph:
        x, w, n = (
            tf.placeholder(kind, [], name=name)
            for kind, name in ((tf.float32, "x"), (tf.float32, "w"), (tf.int32, "n"))
        )
        tf.identity(case(tf, x, n, w), name="y")
    message = ps.GraphDef.FromString(graph.as_graph_def().SerializeToString())
    with ps.Graph().as_default() as imported:
        ps.import_graph_def(message, name="")
        y, *xs = (imported.get_tensor_by_name(f"{name}:0") for name in "yxw")
        for gradient, name in zip(ps.gradients(y, xs), ("by_x", "by_w"), strict=True):
            if gradient is not None:
                ps.identity(gradient, name=name)
    assert run(ps, imported) == close(expected)


FORMS = [counted, powers, two_variables_that_feed_each_other, bounded, nested]


def forward_ops(ns, case):
    """The type of each op inside of the loops of a case, sorted."""
    with ns.Graph().as_default() as graph:
        x = ns.placeholder(ns.float32, [], name="x")
        case(ns, x, ns.placeholder(ns.int32, []), ns.constant(2.0))
        return sorted(
            op.type.replace("AddV2", "Add")
            for op in graph.get_operations()
            if op.name.startswith("while/")
        )


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.__name__)
def test_a_loop_has_the_ops_that_tensorflow_gives_it(tf, case):
    assert forward_ops(ps, case) == forward_ops(tf, case)


def test_the_ends_of_a_loop_have_tensorflows_names_and_inputs(tf):
    ends = {"Enter", "Merge", "LoopCond", "Switch", "NextIteration", "Exit"}

    def found(ns):
        with ns.Graph().as_default() as graph:
            powers(ns, ns.placeholder(ns.float32, [], name="x"), 3, ns.constant(1.0))
            return {
                node.name: (
                    node.op,
                    node.attr["frame_name"].s,
                    [name for name in node.input if name.rpartition("/")[2].split("_")[0] in ends],
                )
                for node in graph.as_graph_def().node
                if (node.op in ends and not node.name.endswith("/Enter"))
                or node.name == "while/Enter"
            }

    assert found(ps) == found(tf)


WRONG = {
    "no function for cond": lambda ns: ns.while_loop(1, lambda i: i, [0]),
    "no function for body": lambda ns: ns.while_loop(lambda i: i < 1, 1, [0]),
    "no loop variables": lambda ns: ns.while_loop(lambda: True, list, []),
    "no iterations beside each other": lambda ns: ns.while_loop(
        lambda i: i < 1, lambda i: i, [0], parallel_iterations=0
    ),
    "too many answers": lambda ns: ns.while_loop(lambda i: i < 1, lambda i: [i, i], [0]),
    "a shape that grows": lambda ns: ns.while_loop(
        lambda a: ns.reduce_sum(a) < 9.0, lambda a: ns.concat([a, a], 0), [ns.constant([1.0])]
    ),
    "an invariant that does not hold": lambda ns: ns.while_loop(
        lambda a: ns.reduce_sum(a) < 9.0,
        lambda a: a,
        [ns.constant([1.0])],
        shape_invariants=[ns.TensorShape([2])],
    ),
    "a limit that is no scalar": lambda ns: ns.while_loop(
        lambda i: i < 1, lambda i: i, [0], maximum_iterations=[1, 2]
    ),
}


@pytest.mark.parametrize("use", WRONG.values(), ids=WRONG.keys())
def test_wrong_use_raises_what_tensorflow_raises(tf, use):
    with tf.Graph().as_default(), pytest.raises((TypeError, ValueError)) as theirs:
        use(tf)
    with ps.Graph().as_default(), pytest.raises(theirs.type):
        use(ps)


def test_a_second_gradient_is_refused_as_in_tensorflow(tf):
    for ns in (tf, ps):
        with ns.Graph().as_default():
            x = ns.placeholder(ns.float32, [])
            (gradient,) = ns.gradients(powers(ns, x, 3, x), [x])
            with pytest.raises(TypeError, match="Second-order gradient for while loops not supp"):
                ns.gradients(gradient, [x])

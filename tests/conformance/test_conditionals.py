"""A conditional built here runs in TensorFlow, and one built there runs here, with its gradient."""

from __future__ import annotations

from typing import Any

import pytest

import kernel_driver
import paramserve as ps

pytestmark = pytest.mark.oracle

FEEDS = [{"x:0": x, "pred:0": pred} for x in (3.0, 0.5, -2.0) for pred in (True, False)]


@pytest.fixture(scope="module")
def tf():
    module = kernel_driver.tensorflow().compat.v1
    module.disable_control_flow_v2()
    yield module
    module.enable_control_flow_v2()


def build(ns: Any) -> None:
    """A graph of nested conditionals, of a case, and of the gradient of their sum."""
    x = ns.placeholder(ns.float32, [], name="x")
    pred = ns.placeholder(ns.bool, [], name="pred")
    seven = ns.constant(7.0)
    nested = ns.cond(
        pred,
        lambda: ns.cond(x > 1.0, lambda: x * x, lambda: ns.constant(5.0)),
        lambda: ns.exp(x) + seven,
    )
    chosen = ns.case(
        [(x > 1.0, lambda: ns.sin(x)), (x > 0.0, lambda: seven)], default=lambda: x * 2.0
    )
    total = ns.identity(nested + chosen, name="total")
    (gradient,) = ns.gradients(total, [x])
    ns.identity(gradient, name="gradient")


def run(ns: Any, graph: Any) -> list[list[float]]:
    with ns.Session(graph=graph) as session:
        return [session.run(["total:0", "gradient:0"], feed) for feed in FEEDS]


def test_a_conditional_built_here_runs_in_tensorflow(tf):
    with ps.Graph().as_default() as graph:
        build(ps)
    message = kernel_driver.tensorflow().compat.v1.GraphDef()
    message.ParseFromString(graph.as_graph_def().SerializeToString())
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(message, name="")
    for ours, theirs in zip(run(ps, graph), run(tf, imported), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_conditional_of_tensorflows_runs_here(tf):
    with tf.Graph().as_default() as graph:
        build(tf)
    message = ps.GraphDef.FromString(graph.as_graph_def().SerializeToString())
    with ps.Graph().as_default() as imported:
        ps.import_graph_def(message, name="")
        total, x = (imported.get_tensor_by_name(name) for name in ("total:0", "x:0"))
        (gradient,) = ps.gradients(total, [x], name="again")
    expected = run(tf, graph)
    assert run(ps, imported) == [pytest.approx(values, rel=1e-6) for values in expected]
    with ps.Session(graph=imported) as session:
        found = [session.run(gradient, feed) for feed in FEEDS]
    assert found == pytest.approx([values[1] for values in expected], rel=1e-6)

"""Gradients through loops; against TensorFlow's in `tests/conformance`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def power(x, n, **options):
    """x to the power of n, by multiplication."""
    return ps.while_loop(lambda i, a: i < n, lambda i, a: [i + 1, a * x], [0, 1.0], **options)[1]


def test_a_loop_that_never_runs_passes_the_gradient_on(session):
    x, n = ps.placeholder(ps.float32, []), ps.placeholder(ps.int32, [])
    loop = ps.while_loop(lambda i, a: i < n, lambda i, a: [i + 1, ps.exp(a)], [0, x])[1]
    (gradient,) = ps.gradients(loop * 3.0, [x])
    assert session.run(gradient, {x: 2.0, n: 0}) == 3
    assert session.run(gradient, {x: 0.0, n: 1}) == 3


def test_gradients_of_a_tensor_from_outside_add_up_over_iterations(session):
    x, n = ps.placeholder(ps.float32, []), ps.placeholder(ps.int32, [])
    (gradient,) = ps.gradients(power(x, n), [x])
    assert [session.run(gradient, {x: 2.0, n: k}) for k in range(5)] == [0, 1, 4, 12, 32]


def test_gradients_may_be_asked_for_more_than_once(session):
    x = ps.placeholder(ps.float32, [])
    loop = power(x, 3)
    first = ps.gradients(loop, [x])
    second = ps.gradients(loop * loop, [x])
    assert session.run([first, second], {x: 2.0}) == [[12.0], [192.0]]


def test_a_gradient_asked_for_after_the_loop_has_run_is_right(session):
    x = ps.placeholder(ps.float32, [])
    loop = power(x, 3)
    assert session.run(loop, {x: 2.0}) == 8
    assert session.run(ps.gradients(loop, [x]), {x: 2.0}) == [12]
    assert session.run(loop, {x: 2.0}) == 8


def test_what_counts_and_what_stops_are_taken_into_account(session):
    x = ps.placeholder(ps.float32, [])
    y = x * 1.0
    loop = ps.while_loop(lambda i, a: i < 2, lambda i, a: [i + 1, a * y], [0, x])[1]
    assert session.run(ps.gradients(loop, [x], grad_ys=[10.0]), {x: 2.0}) == [120]
    assert session.run(ps.gradients(loop, [x], stop_gradients=[y]), {x: 2.0}) == [4]
    assert ps.gradients(loop, [x], stop_gradients=[loop]) == [None]


def test_a_loop_that_nothing_wanted_goes_through_is_left_alone(session):
    x = ps.placeholder(ps.float32, [])
    other = power(ps.constant(3.0), 3)
    count = sum(op.type == "LoopCond" for op in ps.get_default_graph().get_operations())
    (gradient,) = ps.gradients(other * power(x, 2), [x])
    loops = [op for op in ps.get_default_graph().get_operations() if op.type == "LoopCond"]
    assert len(loops) == count + 2  # the loop of x, and it backwards
    assert session.run(gradient, {x: 2.0}) == 27 * 4


@pytest.mark.parametrize("option", ["colocate_gradients_with_ops", "gate_gradients"])
def test_the_options_of_gradients_hold_in_loops(session, option):
    x = ps.placeholder(ps.float32, [])
    assert session.run(ps.gradients(power(x, 3), [x], **{option: True}), {x: 2.0}) == [12]


@pytest.mark.parametrize("method", [0, 1, 2])
def test_each_way_of_adding_gradients_works_in_loops(session, method):
    x = ps.placeholder(ps.float32, [])
    loop = ps.while_loop(lambda i, a: i < 2, lambda i, a: [i + 1, a * x + a + a * a], [0, x])[1]
    (gradient,) = ps.gradients(loop, [x], aggregation_method=method)
    # a2 = a1 x + a1 + a1^2, a1 = 2 x^2 + x
    assert session.run(gradient, {x: 1.0}) == 3 + 5 * 2 + 2 * 3 * 5


def test_no_gradient_flows_where_none_is_wanted(session):
    x = ps.placeholder(ps.float32, [])
    assert ps.gradients(power(x, 3, back_prop=False), [x]) == [None]
    (gradient,) = ps.gradients(power(x, 3, back_prop=False) * x, [x])
    assert session.run(gradient, {x: 2.0}) == 8


def test_the_gradient_of_a_gradient_is_refused(session):
    x = ps.placeholder(ps.float32, [])
    (gradient,) = ps.gradients(power(x, 3), [x])
    with pytest.raises(TypeError, match="Second-order gradient for while loops not supported"):
        ps.gradients(gradient, [x])


def test_rows_gathered_in_a_loop_have_gradients_of_rows(session):
    table = ps.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))

    def body(i, total):
        return [i + 1, total + ps.reduce_sum(ps.gather(table, [i, 0]) * 2.0)]

    loop = ps.while_loop(lambda i, total: i < 3, body, [0, 0.0])[1]
    (gradient,) = ps.gradients(loop, [table])
    assert isinstance(gradient, ps.IndexedSlices)
    session.run(table.initializer)
    found = session.run(gradient)
    assert sorted(found.indices.tolist()) == [0, 0, 0, 0, 1, 2]
    dense = session.run(ps.convert_to_tensor(gradient))
    assert dense.tolist() == [[8, 8], [2, 2], [2, 2]]


def test_a_variable_read_in_the_body_has_a_gradient(session):
    w = ps.Variable(3.0)

    def body(i, a):
        return [i + 1, a * w.read_value()]

    loop = ps.while_loop(lambda i, a: i < 3, body, [0, 1.0])[1]
    session.run(w.initializer)
    assert session.run(ps.gradients(loop, [w])) == [27]


def test_gradients_may_be_taken_in_the_body_of_a_loop(session):
    target = ps.Variable([1.0, 2.0])

    def body(i, x):
        loss = ps.reduce_sum(ps.square(x - target)) / 2.0
        by_x, by_target = ps.gradients(loss, [x, target])
        return [i + 1, x - 0.5 * by_x + 0.0 * by_target]

    loop = ps.while_loop(lambda i, x: i < 3, body, [0, ps.zeros([2])])[1]
    session.run(target.initializer)
    assert session.run(loop).tolist() == [0.875, 1.75]


def test_gradients_of_a_loop_may_be_taken_in_the_body_of_another(session):
    def body(i, x):
        (gradient,) = ps.gradients(power(x, i + 2), [x])
        return [i + 1, x - 0.25 * gradient]

    loop = ps.while_loop(lambda i, x: i < 2, body, [0, 1.0])[1]
    x = 1.0 - 0.25 * 2.0
    assert session.run(loop) == x - 0.25 * 3 * x**2


def test_gradients_in_a_branch_of_a_loop_outside_are_taken(session):
    x, pred = ps.placeholder(ps.float32, []), ps.placeholder(ps.bool, [])
    loop = power(x, 3)
    result = ps.cond(pred, lambda: ps.gradients(loop, [x])[0], lambda: ps.constant(-1.0))
    assert session.run(result, {x: 2.0, pred: True}) == 12
    assert session.run(result, {x: 2.0, pred: False}) == -1


def test_an_optimizer_learns_through_a_loop(session):
    w = ps.Variable(0.0)
    loop = ps.while_loop(lambda i, a: i < 3, lambda i, a: [i + 1, a + w], [0, 0.0])[1]
    train = ps.train.GradientDescentOptimizer(0.05).minimize(ps.square(loop - 6.0))
    session.run(ps.global_variables_initializer())
    for _ in range(20):
        session.run(train)
    assert session.run(w) == pytest.approx(2, abs=1e-4)


def test_a_shape_is_kept_in_place_of_the_tensor_it_is_of(session):
    x = ps.placeholder(ps.float32, [None])

    def body(i, a):
        return [i + 1, ps.reshape(a + 1.0, [-1])]

    loop = ps.while_loop(lambda i, a: i < 2, body, [0, x], shape_invariants=[[], [None]])[1]
    ps.gradients(loop, [x])
    pushed = [op for op in ps.get_default_graph().get_operations() if op.type == "StackPushV2"]
    assert pushed
    assert all(op.inputs[1].op.type in ("Shape", "Exit") for op in pushed)


def test_the_memory_of_a_gradient_has_a_limit(session, monkeypatch):
    from paramserve_core.kernels import limits

    monkeypatch.setattr(limits, "_max_tensor_bytes", 100_000)
    x = ps.placeholder(ps.float32, [100])
    loop = ps.while_loop(lambda i, a: i < 1000, lambda i, a: [i + 1, ps.sin(a)], [0, x])[1]
    (gradient,) = ps.gradients(loop, [x])
    feed = {x: np.ones(100)}
    session.run(loop, feed)
    with pytest.raises(ps.errors.ResourceExhaustedError, match="stacks of this step"):
        session.run(gradient, feed)


def test_a_gradient_function_may_wait_for_an_op_of_the_loop(session):
    @ps.RegisterGradient("WaitsForItsOp")
    def _grad(op, grad):
        with ps.control_dependencies([op]):
            return grad * 2.0

    x = ps.placeholder(ps.float32, [])

    def body(i, a):
        with ps.get_default_graph().gradient_override_map({"Identity": "WaitsForItsOp"}):
            return [i + 1, ps.identity(a)]

    loop = ps.while_loop(lambda i, a: i < 3, body, [0, x])[1]
    assert session.run(ps.gradients(loop, [x]), {x: 1.0}) == [8]


def in_loops(limit, body, first):
    return ps.while_loop(lambda i, a: i < limit, lambda i, a: [i + 1, body(i, a)], [0, first])[1]


def unrolled(limit, body, first):
    for i in range(limit):
        first = body(i, first)
    return first


def by_branch(i, if_even, if_odd):
    return ps.cond(ps.equal(i % 2, 0), if_even, if_odd)


def by_python(i, if_even, if_odd):
    return if_odd() if i % 2 else if_even()


def composed(kinds, loop, choose, a, x, w):
    """What the steps make of `a`, with loops and conditionals as they are given."""

    def step(kind, i, a):
        match kind:
            case "scale":
                return a * w
            case "sine":
                return ps.sin(a) + x
            case "square":
                return ps.reduce_sum(a * a) * 0.1 + a * x
            case "branch":
                return choose(i, lambda: ps.tanh(a) * w, lambda: a * x + w)
            case "loop":
                return loop(2, lambda j, b: ps.tanh(b * w) + x * b, a)
            case "loop in branch":
                return choose(i, lambda: loop(2, lambda j, b: ps.sin(b) * w, a), lambda: a + x)
            case _:
                return loop(3, lambda j, b: choose(j, lambda: ps.sin(b) + w, lambda: b * x), a)

    def body(i, a):
        for kind in kinds:
            a = step(kind, i, a)
        return a

    return loop(3, body, a)


KINDS = ["scale", "sine", "square", "branch", "loop", "loop in branch", "branch in loop"]


@pytest.mark.slow
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
@settings(deadline=None, max_examples=12)
def test_a_loop_has_the_gradients_of_what_it_unrolls_to(kinds):
    with ps.Graph().as_default(), ps.Session() as session:
        a, x, w = (ps.placeholder(ps.float64, [None]) for _ in range(3))
        found, expected = (
            [y, *ps.gradients(y, [a, x, w])]
            for y in (
                composed(kinds, in_loops, by_branch, a, x, w),
                composed(kinds, unrolled, by_python, a, x, w),
            )
        )
        found, expected = (
            [part for part in parts if part is not None] for parts in (found, expected)
        )
        feed = {a: [0.3, -0.7], x: [0.5, 0.9], w: [1.25, -0.4]}
        for one, other in zip(*session.run([found, expected], feed), strict=True):
            assert one == pytest.approx(other, rel=1e-9)

"""What `gradients` follows, adds up, refuses, and where it puts what it makes."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def run(session, fetches):
    return [np.asarray(value).tolist() for value in session.run(fetches)]


def test_several_uses_add_up(session):
    x = ps.constant([1.0, 2.0])
    y = x * x + x * 3 + ps.identity(x)
    assert run(session, ps.gradients(y, x)) == [[6.0, 8.0]]


def test_several_ys_add_up(session):
    x = ps.constant(2.0)
    assert run(session, ps.gradients([x * x, x * 3], [x])) == [7.0]


def test_grad_ys_weigh_the_ys(session):
    x = ps.constant([1.0, 2.0])
    found = ps.gradients([x * x, x], [x], grad_ys=[[10.0, 100.0], None])
    assert run(session, found) == [[21.0, 401.0]]


def test_a_tensor_is_its_own_gradient(session):
    x = ps.constant([1.0, 2.0])
    assert run(session, ps.gradients(x, [x])) == [[1.0, 1.0]]


def test_what_the_ys_do_not_depend_on_has_no_gradient(session):
    x, other = ps.constant(1.0), ps.constant(2.0)
    count = ps.constant(3)
    y = x * 2 * ps.to_float(count)
    assert ps.gradients(y, [other, count, ps.to_float(count)]) == [None, None, None]
    assert ps.gradients(ps.stop_gradient(x) + other, [x]) == [None]


def test_nothing_flows_beyond_an_x(session):
    x = ps.constant(2.0)
    middle = x * 3
    y = middle * middle
    assert run(session, ps.gradients(y, [middle])) == [12.0]
    assert run(session, ps.gradients(y, [x, middle])) == [36.0, 12.0]


def test_no_gradient_is_made_of_what_does_not_lead_to_an_x(session):
    x, w = ps.constant(2.0), ps.constant(3.0)
    y = x * ps.exp(ps.sin(w))
    before = len(session.graph.get_operations())
    ps.gradients(y, x)
    made = session.graph.get_operations()[before:]
    assert not any("Exp_grad" in op.name or "Sin_grad" in op.name for op in made)


def test_stop_gradients_count_as_constants(session):
    x = ps.constant(2.0)
    square = x * x
    y = x * square
    assert run(session, ps.gradients(y, x)) == [12.0]
    assert run(session, ps.gradients(y, x, stop_gradients=[square])) == [4.0]
    assert run(session, ps.gradients(y, [x, square], stop_gradients=square)) == [4.0, 2.0]


def test_the_gradient_of_a_variable_is_found_through_its_reads(session):
    v = ps.Variable([1.0, 2.0])
    y = v * v + ps.identity(v.ref()) * 10
    found = ps.gradients(y, [v, v.ref(), v.value()])
    session.run(v.initializer)
    assert run(session, found) == [[12.0, 14.0], [12.0, 14.0], [2.0, 4.0]]


@pytest.mark.parametrize(
    ("method", "op_type"),
    [
        (None, "AddN"),
        (ps.AggregationMethod.DEFAULT, "AddN"),
        (ps.AggregationMethod.EXPERIMENTAL_TREE, "Add"),
        (ps.AggregationMethod.EXPERIMENTAL_ACCUMULATE_N, "AccumulateNV2"),
    ],
)
def test_gradients_are_added_by_the_method_chosen(session, method, op_type):
    x = ps.constant(2.0)
    (found,) = ps.gradients([x * 1, x * 2, x * 3], x, aggregation_method=method)
    assert found.op.type == op_type
    assert session.run(found) == 6


def test_an_unknown_method_is_refused(session):
    with pytest.raises(ValueError, match="Invalid aggregation_method"):
        ps.gradients(ps.constant(1.0), ps.constant(1.0), aggregation_method=7)


# Rows.


def test_the_gradient_of_a_gather_is_its_rows(session):
    table = ps.Variable(np.zeros((4, 2), np.float32))
    (found,) = ps.gradients(ps.gather(table, [[1, 3], [1, 1]]), [table])
    assert isinstance(found, ps.IndexedSlices)
    session.run(table.initializer)
    rows = session.run(found)
    assert rows.indices.tolist() == [1, 3, 1, 1]
    assert rows.values.tolist() == [[1.0, 1.0]] * 4
    assert rows.dense_shape.tolist() == [4, 2]


def test_rows_of_several_gathers_stay_rows(session):
    table = ps.Variable(np.zeros((4, 1), np.float32))
    y = ps.reduce_sum(ps.gather(table, [1])) + 2 * ps.reduce_sum(
        ps.gather(table, ps.constant([3, 1], ps.int64))
    )
    (found,) = ps.gradients(y, [table])
    session.run(table.initializer)
    rows = session.run(found)
    dense = np.zeros(4)
    np.add.at(dense, rows.indices, rows.values[:, 0])
    assert dense.tolist() == [0, 3, 0, 2]
    assert rows.indices.dtype == np.int64


def test_rows_become_dense_where_they_meet_a_dense_gradient(session):
    table = ps.Variable(np.zeros((3, 1), np.float32))
    y = ps.reduce_sum(ps.gather(table, [1, 1])) + ps.reduce_sum(table * 5)
    (found,) = ps.gradients(y, [table])
    assert isinstance(found, ps.Tensor)
    session.run(table.initializer)
    assert session.run(found).tolist() == [[5.0], [7.0], [5.0]]


def test_rows_become_dense_for_an_op_that_wants_them_so(session):
    x = ps.constant([[1.0], [2.0], [3.0]])
    (found,) = ps.gradients(ps.gather(ps.square(x), [2, 2]), [x])
    assert session.run(found).tolist() == [[0.0], [0.0], [12.0]]


def test_rows_pass_what_does_not_change_them(session):
    table = ps.Variable(np.zeros((3, 1), np.float32))
    summed = ps.add_n([ps.identity(table), ps.identity(table)])
    found = ps.gradients(ps.gather(summed, [2]), [table])
    assert isinstance(found[0], ps.IndexedSlices)


def test_rows_may_be_given_as_grad_ys(session):
    x = ps.constant([[1.0], [2.0], [3.0]])
    weights = ps.IndexedSlices(ps.constant([[10.0]]), ps.constant([1]), ps.constant([3, 1]))
    (found,) = ps.gradients(ps.square(x), [x], grad_ys=[weights])
    assert session.run(found).tolist() == [[0.0], [40.0], [0.0]]


def test_rows_of_which_the_number_is_not_known_cannot_become_dense(session):
    rows = ps.IndexedSlices(ps.constant([[1.0]]), ps.constant([1]))
    with pytest.raises(ValueError, match="does not say how many rows"):
        ps.convert_to_tensor(rows)


# Conditionals.


def test_rows_of_a_branch_stay_rows(session):
    table = ps.Variable(np.zeros((4, 2), np.float32))
    pred = ps.placeholder(ps.bool, [])
    y = ps.cond(pred, lambda: ps.gather(table, [1, 1]), lambda: ps.zeros([2, 2]))
    (found,) = ps.gradients(y, [table])
    assert isinstance(found, ps.IndexedSlices)
    session.run(table.initializer)
    taken, not_taken = (session.run(found, {pred: value}) for value in (True, False))
    assert (taken.indices.tolist(), taken.values.tolist()) == ([1, 1], [[1, 1], [1, 1]])
    assert (not_taken.indices.tolist(), not_taken.values.shape) == ([], (0, 2))
    assert taken.dense_shape.tolist() == not_taken.dense_shape.tolist() == [4, 2]


def test_a_variable_read_within_a_branch_has_a_gradient(session):
    v = ps.Variable(3.0)
    pred = ps.placeholder(ps.bool, [])
    y = ps.cond(pred, lambda: ps.square(v.ref()), lambda: ps.constant(1.0))
    (found,) = ps.gradients(y, [v])
    session.run(v.initializer)
    assert session.run(found, {pred: True}) == 6
    assert session.run(found, {pred: False}) == 0


def test_a_gradient_that_is_a_constant_is_missing_on_the_other_branch(session):
    x = ps.constant([1.0, 2.0])
    pred = ps.placeholder(ps.bool, [])
    # The gradient of a sign is zeros, whatever is given to it.
    y = ps.cond(pred, lambda: ps.sign(x), lambda: x * 3)
    (found,) = ps.gradients(y, [x])
    assert session.run(found, {pred: True}).tolist() == [0, 0]
    assert session.run(found, {pred: False}).tolist() == [3, 3]


def test_an_imported_conditional_has_gradients(session):
    with ps.Graph().as_default() as original:
        x = ps.placeholder(ps.float32, [], name="x")
        pred = ps.placeholder(ps.bool, [], name="pred")
        nested = ps.cond(x > 1, lambda: x * x, lambda: x * 5)
        ps.identity(ps.cond(pred, lambda: nested * 2, lambda: x), name="y")
    x, pred, y = ps.import_graph_def(
        original.as_graph_def(), return_elements=["x:0", "pred:0", "y:0"], name=""
    )
    (found,) = ps.gradients(y, [x])
    feeds = [{x: 3.0, pred: True}, {x: 0.5, pred: True}, {x: 3.0, pred: False}]
    assert [session.run(found, feed) for feed in feeds] == [12, 10, 1]


def test_gradients_may_be_taken_within_a_branch(session):
    x = ps.placeholder(ps.float32, [])
    y = x * x
    result = ps.cond(x > 1, lambda: ps.gradients(y, [x])[0], lambda: ps.constant(-1.0))
    assert [session.run(result, {x: value}) for value in (3.0, 0.5)] == [6, -1]


# Gradient functions of the program's own.


def test_a_gradient_function_may_be_overridden(session):
    @ps.RegisterGradient("TenTimesInTestWalk")
    def ten_times(op, grad):
        return grad * 10

    x = ps.constant(2.0)
    with session.graph.gradient_override_map({"Identity": "TenTimesInTestWalk"}):
        y = ps.identity(x)
    assert run(session, ps.gradients(y, x)) == [10.0]


def test_a_plain_value_may_be_a_gradient(session):
    @ps.RegisterGradient("SevenInTestWalk")
    def seven(op, grad):
        return 7.0

    x = ps.constant(2.0)
    with session.graph.gradient_override_map({"Identity": "SevenInTestWalk"}):
        y = ps.identity(x)
    assert run(session, ps.gradients(y, x)) == [7.0]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda op, grad: [grad, grad], "Num gradients 2 generated for op"),
        (lambda op, grad: ps.zeros([5]), "Incompatible shapes between op input and calculated"),
        (lambda op, grad: ps.zeros([2], ps.complex64), "answers complex64 for"),
    ],
)
def test_a_gradient_that_does_not_fit_its_op_is_refused(session, answer, text):
    name = f"InTestWalk: {text}"
    ps.RegisterGradient(name)(answer)
    x = ps.constant([2.0, 3.0])
    with session.graph.gradient_override_map({"Identity": name}):
        y = ps.identity(x)
    with pytest.raises(ValueError, match=text):
        ps.gradients(y, x)


def test_an_op_without_gradient_function_is_named(session):
    x = ps.constant(2.0)
    with session.graph.gradient_override_map({"Identity": "NobodyRegisteredThis"}):
        y = ps.identity(x, name="odd_one")
    with pytest.raises(LookupError, match="odd_one"):
        ps.gradients(y, x)


def test_a_prevented_gradient_says_why(session):
    from paramserve._framework.apply import apply_op

    x = ps.constant(2.0)
    y = apply_op("PreventGradient", None, input=x, message="because")
    with pytest.raises(LookupError, match="because"):
        ps.gradients(y, x)


# What is asked.


def test_complex_ys_need_grad_ys(session):
    x = ps.constant(2.0)
    y = ps.complex(x, x)
    with pytest.raises(TypeError, match="must set grad_ys"):
        ps.gradients(y, x)
    assert run(session, ps.gradients(y, x, grad_ys=[1 + 2j])) == [3.0]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ps.gradients([x, x], x, grad_ys=[None]), ValueError, "2 ys, but 1 grad_ys"),
        (lambda x: ps.gradients(ps.constant("a"), x), TypeError, "has no gradients"),
        (lambda x: ps.gradients(x, x, grad_ys=[ps.constant(1j)]), TypeError, "both must be real"),
    ],
)
def test_bad_questions_are_refused(session, call, error, text):
    with pytest.raises(error, match=text):
        call(ps.constant(1.0))


def test_tensors_of_two_graphs_are_refused(session):
    x = ps.constant(1.0)
    with ps.Graph().as_default():
        y = ps.constant(1.0)
    with pytest.raises(ValueError, match="same graph"):
        ps.gradients(y, x)


def test_integer_ys_have_no_gradient_by_floats(session):
    x = ps.constant(1.5)
    assert ps.gradients(ps.to_int32(x), x) == [None]


# Where what is made goes.


def test_gradients_have_a_scope_per_op(session):
    x = ps.constant(2.0, name="x")
    y = ps.exp(x, name="layer/y")
    (found,) = ps.gradients(y, x)
    (again,) = ps.gradients(y, x, name="mine")
    assert found.op.name == "gradients/layer/y_grad/mul"
    assert again.op.name == "mine/layer/y_grad/mul"


def test_gradients_are_placed_with_their_ops_if_asked(session):
    x = ps.constant(2.0)
    with ps.device("/job:ps/task:1"):
        y = ps.exp(x, name="y")
    (free,) = ps.gradients(y, x)
    (placed,) = ps.gradients(y, x, colocate_gradients_with_ops=True)
    assert free.op.device == ""
    assert placed.op.device == y.op.device
    assert placed.op.colocation_groups() == [b"loc:@y"]


def test_gated_gradients_wait_for_each_other(session):
    a, b = ps.constant(2.0), ps.constant(3.0)
    found = ps.gradients(a * b, [a, b], gate_gradients=True)
    gates = {tensor.op.control_inputs[0] for tensor in found}
    assert len(gates) == 1
    assert run(session, found) == [3.0, 2.0]


def test_a_long_chain_needs_no_deep_stack(session):
    x = y = ps.constant(1.0)
    for _ in range(1200):
        y = ps.identity(y)
    assert run(session, ps.gradients(y, x)) == [1.0]


def test_shapes_that_are_not_known_are_followed_when_it_runs(session):
    x = ps.placeholder(ps.float32)
    w = ps.placeholder(ps.float32)
    y = ps.reduce_mean(ps.square(x * w + 1), [0])
    found = ps.gradients(y, [x, w])
    feeds = {x: np.ones((4, 3)), w: np.ones(3)}
    by_x, by_w = session.run(found, feeds)
    assert by_x.tolist() == np.ones((4, 3)).tolist()
    assert by_w.tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "reduce", [ps.reduce_sum, ps.reduce_mean, ps.reduce_max, ps.reduce_min, ps.reduce_prod]
)
def test_a_scalar_of_unknown_shape_is_reduced_over_no_dimension(session, reduce):
    x = ps.placeholder(ps.float32)
    (found,) = ps.gradients(reduce(x * 3.0), [x])
    assert session.run(found, {x: 2.0}) == 3.0
    assert session.run(found, {x: [2.0]}).tolist() == [3.0]

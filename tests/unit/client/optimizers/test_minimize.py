"""`minimize` and its halves: what is updated, in which order, and what is refused."""

import numpy as np
import pytest

import paramserve as ps
from paramserve.train import AdamOptimizer, AdamWOptimizer, GradientDescentOptimizer, Optimizer


def test_minimize_updates_what_the_loss_depends_on(session):
    w, other = ps.Variable([1.0, 2.0], name="w"), ps.Variable(5.0, name="other")
    step = GradientDescentOptimizer(0.1).minimize(ps.reduce_sum(w * w))
    session.start()
    assert session.run(step) is None
    np.testing.assert_allclose(session.run(w), [0.8, 1.6])
    assert session.run(other) == 5.0


def test_var_list_says_what_is_updated(session):
    v, w = ps.Variable(1.0), ps.Variable(2.0, trainable=False)
    step = GradientDescentOptimizer(0.1).minimize(v * w, var_list=[w])
    session.start()
    session.run(step)
    assert session.run([v, w]) == pytest.approx([1.0, 1.9])


def test_gradients_may_be_changed_between_the_halves(session):
    w = ps.Variable([10.0, -10.0])
    optimizer = GradientDescentOptimizer(1.0)
    pairs = optimizer.compute_gradients(ps.reduce_sum(w * w))
    clipped = [(ps.clip_by_value(gradient, -1.0, 1.0), variable) for gradient, variable in pairs]
    step = optimizer.apply_gradients(clipped)
    session.start()
    session.run(step)
    assert session.run(w).tolist() == [9.0, -9.0]


def test_a_pair_without_a_gradient_is_passed_over(session):
    v, w = ps.Variable(1.0), ps.Variable(2.0)
    pairs = GradientDescentOptimizer(0.5).compute_gradients(v * 2.0, [v, w])
    assert pairs[1] == (None, w)
    step = GradientDescentOptimizer(0.5).apply_gradients(pairs)
    session.start()
    session.run(step)
    assert session.run([v, w]) == [0.0, 2.0]


def test_grad_loss_scales_the_gradient(session):
    w = ps.Variable(1.0)
    step = GradientDescentOptimizer(0.1).minimize(w * w, grad_loss=ps.constant(3.0))
    session.start()
    session.run(step)
    assert session.run(w) == pytest.approx(0.4)


def test_the_global_step_counts_after_all_updates(session, graph):
    step_number = ps.train.create_global_step()
    v, w = ps.Variable(1.0), ps.Variable(1.0)
    step = AdamOptimizer().minimize(v * w, global_step=step_number)
    session.start()
    session.run(step)
    session.run(step)
    assert session.run(step_number) == 2
    updates = {op for op in graph.get_operations() if op.type == "ApplyAdam"}
    powers = {op for op in graph.get_operations() if op.name.startswith("Adam/Assign")}
    assert len(updates) == len(powers) == 2
    assert updates | powers <= before(step)


def before(op):
    """All ops that must run before `op`."""
    found, waiting = set(), [op]
    while waiting:
        latest = waiting.pop()
        needs = {*latest.control_inputs, *(tensor.op for tensor in latest.inputs)} - found
        found |= needs
        waiting += needs
    return found


def test_the_step_has_the_name_that_it_was_given(graph):
    w = ps.Variable(1.0)
    number = ps.Variable(0, trainable=False)
    assert GradientDescentOptimizer(0.1).minimize(w, name="first").name == "first"
    step = GradientDescentOptimizer(0.1).minimize(w, global_step=number, name="second")
    assert step.name == "second"
    assert GradientDescentOptimizer(0.1).minimize(w).name == "GradientDescent"
    assert graph.get_collection(ps.GraphKeys.TRAIN_OP)[1] is step


@pytest.mark.parametrize("gate", [Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH])
def test_every_gate_gives_the_same_step(gate, session):
    v, w = ps.Variable(2.0), ps.Variable(3.0)
    step = GradientDescentOptimizer(0.1).minimize(v * w, gate_gradients=gate)
    session.start()
    session.run(step)
    assert session.run([v, w]) == pytest.approx([1.7, 2.8])


def test_with_the_gate_of_the_graph_no_gradient_is_used_before_all_are_there(graph):
    v, w = ps.Variable(2.0), ps.Variable(3.0)
    pairs = GradientDescentOptimizer(0.1).compute_gradients(
        v * w, gate_gradients=Optimizer.GATE_GRAPH
    )
    gates = [{op.name for op in gradient.op.control_inputs} for gradient, _ in pairs]
    assert gates[0] == gates[1] != set()


def test_parts_of_a_partitioned_variable_have_slots_that_are_one_in_a_checkpoint(session, tmp_path):
    whole = ps.get_variable(
        "w",
        [4, 2],
        initializer=ps.ones_initializer(),
        partitioner=ps.fixed_size_partitioner(2),
    )
    loss = ps.reduce_sum(ps.convert_to_tensor(whole) ** 2)
    step = ps.train.MomentumOptimizer(0.1, 0.9).minimize(loss, var_list=[whole])
    session.start()
    session.run(step)
    path = ps.train.Saver().save(session, str(tmp_path / "model"))
    saved = dict(ps.train.list_variables(path))
    assert list(saved["w"]) == list(saved["w/Momentum"]) == [4, 2]
    assert ps.train.load_variable(path, "w/Momentum").tolist() == [[2.0, 2.0]] * 4


def test_slots_of_a_scope_that_is_entered_again_stay_beside_their_variable():
    with ps.variable_scope("layer"):
        w = ps.get_variable("w", [2], initializer=ps.ones_initializer())
    with ps.name_scope("train"):
        optimizer = AdamOptimizer()
        optimizer.minimize(ps.reduce_sum(w))
    names = [v.op.name for v in optimizer.variables()]
    assert names == ["layer/w/Adam", "layer/w/Adam_1", "train/beta1_power", "train/beta2_power"]


def test_all_variables_of_an_optimizer_share_their_constants(graph):
    variables = [ps.Variable(float(i)) for i in range(5)]
    AdamOptimizer(0.1).minimize(ps.add_n(variables))
    constants = [
        op.name
        for op in graph.get_operations()
        if op.type == "Const" and op.name.startswith("Adam/")
    ]
    assert constants == [f"Adam/{name}" for name in ("learning_rate", "beta1", "beta2", "epsilon")]


def test_a_rate_in_a_step_that_depends_on_others_is_still_a_constant(graph):
    w = ps.Variable(1.0)
    with ps.control_dependencies([ps.no_op()]):
        GradientDescentOptimizer(0.1).minimize(w)
    assert graph.get_operation_by_name("GradientDescent/learning_rate").control_inputs == []


def test_weights_decay_where_the_program_wants_it(session):
    w, bias = ps.Variable([2.0], name="w"), ps.Variable([2.0], name="bias")
    zero = ps.zeros([1])
    optimizer = AdamWOptimizer(0.1, weight_decay=0.5, decays=lambda v: v is w)
    step = optimizer.apply_gradients([(zero, w), (zero, bias)])
    session.start()
    session.run(step)
    assert session.run([w, bias]) == [pytest.approx([1.9]), [2.0]]


class Halving(Optimizer):
    """A program's own optimizer, by TensorFlow's methods: halves, and counts in a slot."""

    def __init__(self, name="Halving"):
        super().__init__(False, name)
        self.calls = []

    def _create_slots(self, var_list):
        self.calls.append("slots")
        for var in var_list:
            self._zeros_slot(var, "count", self._name)
            self._get_or_make_slot(var, ps.constant([7.0, 7.0]), "sevens", "Sevens")

    def _prepare(self):
        self.calls.append("prepare")

    def _apply_dense(self, grad, var):
        count = self.get_slot(var, "count")
        return ps.group(var.assign(var * 0.5), count.assign_add(ps.ones_like(grad)))

    def _apply_sparse(self, grad, var):
        assert isinstance(grad, ps.IndexedSlices)
        return var.scatter_update(grad)

    def _finish(self, update_ops, name_scope):
        self.calls.append("finish")
        return super()._finish(update_ops, name_scope)


def test_a_programs_own_optimizer_is_driven_as_by_tensorflow(session):
    v, w = ps.Variable([2.0, 4.0], name="v"), ps.Variable([0.0, 0.0], name="w")
    optimizer = Halving()
    rows = ps.IndexedSlices(ps.constant([1.0, 2.0, 3.0]), ps.constant([1, 0, 1]))
    step = optimizer.apply_gradients([(ps.ones([2]), v), (rows, w)])
    assert optimizer.calls == ["slots", "prepare", "finish"]
    session.start()
    session.run(step)
    assert session.run(v).tolist() == [1.0, 2.0]
    assert session.run(w).tolist() == [2.0, 4.0]
    assert session.run(optimizer.get_slot(v, "count")).tolist() == [1.0, 1.0]
    assert optimizer.get_slot(v, "sevens").op.name == "v/Sevens"


def test_an_optimizer_without_sparse_updates_says_so():
    class DenseOnly(Optimizer):
        def _apply_dense(self, grad, var):
            return var.assign_sub(grad)

    w = ps.Variable([1.0, 2.0])
    rows = ps.IndexedSlices(ps.constant([1.0]), ps.constant([0]))
    with pytest.raises(NotImplementedError, match="DenseOnly has no update for a sparse gradient"):
        DenseOnly(False, "dense").apply_gradients([(rows, w)])
    with pytest.raises(NotImplementedError, match="dense gradient"):
        Optimizer(False, "base").apply_gradients([(ps.ones([2]), w)])


def test_what_cannot_be_minimized_is_refused():
    optimizer = GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match="No variables to optimize"):
        optimizer.minimize(ps.constant(1.0))
    w = ps.Variable(1.0, name="w")
    with pytest.raises(ValueError, match=r"No gradients provided for any variable.*w:0"):
        optimizer.minimize(ps.constant(1.0))
    with pytest.raises(ValueError, match="Invalid type int32 for loss"):
        optimizer.minimize(ps.constant(1))
    with pytest.raises(TypeError, match="Argument is not a variable"):
        optimizer.minimize(w * w, var_list=[ps.constant(1.0)])
    with pytest.raises(ValueError, match="gate_gradients must be one of"):
        optimizer.minimize(w * w, gate_gradients=3)


def test_what_cannot_be_applied_is_refused():
    optimizer = GradientDescentOptimizer(0.1)
    w = ps.Variable([1.0, 2.0], name="w")
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])
    with pytest.raises(ValueError, match=r"No gradients provided for any variable: \['w:0'\]"):
        optimizer.apply_gradients([(None, w)])
    with pytest.raises(TypeError, match="Variable must be a Variable"):
        optimizer.apply_gradients([(ps.ones([2]), ps.ones([2]))])
    with pytest.raises(TypeError, match="Gradient must be convertible"):
        optimizer.apply_gradients([(object(), w)])
    with pytest.raises(ValueError, match="Invalid type int32 for the gradient of w"):
        optimizer.apply_gradients([(ps.constant([1, 2]), w)])
    with pytest.raises(ValueError, match=r"Dimensions must be equal, but are 2 and 3"):
        optimizer.apply_gradients([(ps.ones([3]), w)])
    with pytest.raises(ValueError, match="Must specify the optimizer name"):
        GradientDescentOptimizer(0.1, name="")


def test_a_gradient_of_another_shape_at_run_time_changes_nothing(session):
    w = ps.Variable([1.0, 2.0], name="w")
    gradient = ps.placeholder(ps.float32)
    step = AdamOptimizer(0.1).apply_gradients([(gradient, w)])
    session.start()
    before = session.run(ps.global_variables())
    with pytest.raises(ps.errors.InvalidArgumentError, match=r"w: a gradient of shape \[3\]"):
        session.run(step, {gradient: [1.0, 2.0, 3.0]})
    for value, wanted in zip(session.run(ps.global_variables()), before, strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ps.train.AdagradOptimizer(0.1, 0.0), "initial_accumulator_value must be pos"),
        (lambda: ps.train.ProximalAdagradOptimizer(0.1, -1.0), "initial_accumulator_value"),
        (
            lambda: ps.train.AdagradDAOptimizer(0.1, ps.Variable(0), 0.0),
            "initial_gradient_squared_accumulator_value must be positive",
        ),
        (lambda: ps.train.FtrlOptimizer(0.1, learning_rate_power=0.5), "learning_rate_power 0.5"),
        (
            lambda: ps.train.FtrlOptimizer(0.1, l1_regularization_strength=-0.5),
            "l1_regularization_strength -0.5 needs",
        ),
        (
            lambda: ps.train.FtrlOptimizer(0.1, initial_accumulator_value=-0.5),
            "initial_accumulator_value -0.5",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_makes_no_sense_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_adam_says_which_powers_the_next_step_takes(session):
    optimizer = AdamOptimizer(beta1=0.5, beta2=0.25)
    step = optimizer.minimize(ps.square(ps.Variable(3.0)))
    session.start()
    session.run(step)
    assert session.run(optimizer._get_beta_accumulators()) == (0.25, 0.0625)


def test_a_loss_may_be_a_function_that_makes_it(session):
    w = ps.Variable([1.0, 2.0])
    step = GradientDescentOptimizer(0.5).minimize(lambda: ps.reduce_sum(w), var_list=[w])
    session.start()
    session.run(step)
    assert session.run(w).tolist() == [0.5, 1.5]

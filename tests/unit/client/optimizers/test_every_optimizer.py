"""What holds of every optimizer: one table, and the promises that all of its rows keep."""

import inspect

import numpy as np
import pytest

import paramserve as ps
from paramserve import train

RATES = {
    "GradientDescentOptimizer": 0.1,
    "ProximalGradientDescentOptimizer": 0.1,
    "MomentumOptimizer": 0.1,
    "AdagradOptimizer": 0.5,
    "ProximalAdagradOptimizer": 0.5,
    "AdagradDAOptimizer": 1.0,
    "AdadeltaOptimizer": 1.0,
    "AdamOptimizer": 0.1,
    "LazyAdamOptimizer": 0.1,
    "AdamWOptimizer": 0.1,
    "LionOptimizer": 0.1,
    "RMSPropOptimizer": 0.1,
    "FtrlOptimizer": 0.5,
}
"""A learning rate with which each optimizer gets somewhere in a few steps."""

ARGUMENTS = {
    "ProximalGradientDescentOptimizer": {"l1_regularization_strength": 0.01},
    "MomentumOptimizer": {"momentum": 0.9},
    "ProximalAdagradOptimizer": {"l2_regularization_strength": 0.01},
    "AdadeltaOptimizer": {"epsilon": 1e-2},
    "RMSPropOptimizer": {"momentum": 0.5, "centered": True},
}


def make(optimizer, rate=None, /, **options):
    if optimizer == "AdagradDAOptimizer":
        options["global_step"] = train.get_or_create_global_step()
    options.update(ARGUMENTS.get(optimizer, {}))
    return getattr(train, optimizer)(RATES[optimizer] if rate is None else rate, **options)


SLOTS = {
    "MomentumOptimizer": {"momentum": "w/Momentum"},
    "AdagradOptimizer": {"accumulator": "w/Adagrad"},
    "ProximalAdagradOptimizer": {"accumulator": "w/ProximalAdagrad"},
    "AdagradDAOptimizer": {
        "gradient_accumulator": "w/AdagradDA",
        "gradient_squared_accumulator": "w/AdagradDA_1",
    },
    "AdadeltaOptimizer": {"accum": "w/Adadelta", "accum_update": "w/Adadelta_1"},
    "AdamOptimizer": {"m": "w/Adam", "v": "w/Adam_1"},
    "LazyAdamOptimizer": {"m": "w/Adam", "v": "w/Adam_1"},
    "AdamWOptimizer": {"m": "w/AdamW", "v": "w/AdamW_1"},
    "LionOptimizer": {"m": "w/Lion"},
    "RMSPropOptimizer": {"rms": "w/RMSProp", "mg": "w/RMSProp_1", "momentum": "w/RMSProp_2"},
    "FtrlOptimizer": {"accum": "w/Ftrl", "linear": "w/Ftrl_1"},
}
every_optimizer = pytest.mark.parametrize("name", RATES)


def test_the_table_has_every_optimizer_of_train():
    found = {
        name
        for name, value in vars(train).items()
        if inspect.isclass(value) and issubclass(value, train.Optimizer)
    }
    assert set(RATES) == found - {"Optimizer"}


@every_optimizer
def test_a_loss_gets_smaller(name, session):
    w = ps.Variable([[3.0, -2.0], [1.0, 4.0]], name="w")
    loss = ps.reduce_sum(ps.square(w))
    step = make(name).minimize(loss)
    session.start()
    before = session.run(loss)
    for _ in range(50):
        session.run(step)
    assert session.run(loss) < before / 2


@every_optimizer
def test_slots_have_tensorflows_names_and_are_beside_the_variable(name):
    with ps.device("/job:ps/task:1"):
        w = ps.Variable([1.0, 2.0], name="w")
    optimizer = make(name)
    assert optimizer.get_slot_names() == []
    optimizer.minimize(ps.reduce_sum(w * w))
    slots = SLOTS.get(name, {})
    assert optimizer.get_slot_names() == sorted(slots)
    for slot_name, variable_name in slots.items():
        slot = optimizer.get_slot(w, slot_name)
        assert slot.op.name == variable_name
        assert slot.op.colocation_groups() == [b"loc:@w"]
        assert slot.device == "/job:ps/task:1"
        assert slot.get_shape() == w.get_shape()
        assert slot not in ps.trainable_variables()
        assert slot in optimizer.variables()
    assert optimizer.get_slot(w, "no such slot") is None


@every_optimizer
def test_an_update_is_one_op_where_the_variable_is(name, graph):
    with ps.device("/job:ps/task:1"):
        w = ps.Variable([1.0, 2.0], name="w")
    before = len(graph.get_operations())
    make(name, name="Step").apply_gradients([(ps.placeholder(ps.float32, [2]), w)])
    added = graph.get_operations()[before:]
    updates = [op for op in added if op.type.startswith("Apply")]
    assert [op.name for op in updates] == [f"Step/update_w/{updates[0].type}"]
    assert updates[0].colocation_groups() == [b"loc:@w"]
    assert updates[0].device == "/job:ps/task:1"


@every_optimizer
def test_a_gradient_may_come_from_outside_the_graph(name, session):
    w = ps.Variable([3.0, -2.0], name="w")
    gradient = ps.placeholder(ps.float32)
    step = make(name).apply_gradients([(gradient, w)])
    session.start()
    for _ in range(50):
        session.run(step, {gradient: 2 * session.run(w)})
    assert np.abs(session.run(w)).sum() < 4


@every_optimizer
def test_two_rows_of_one_number_count_as_their_sum(name, session):
    start = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    twice, summed = ps.Variable(start), ps.Variable(start)
    rows = np.float32([[1, 2, 3], [-1, 1, 0.5], [0.5, 0, 0]])
    sparse = ps.IndexedSlices(ps.constant(rows), ps.constant([2, 0, 2]))
    sums = np.stack([rows[0] + rows[2], rows[1]])
    merged = ps.IndexedSlices(ps.constant(sums), ps.constant([2, 0]))
    step = make(name).apply_gradients([(sparse, twice), (merged, summed)])
    session.start()
    for _ in range(3):
        session.run(step)
    np.testing.assert_allclose(session.run(twice), session.run(summed), rtol=1e-5, atol=1e-6)


@every_optimizer
def test_a_row_without_a_gradient_stays_but_with_adam(name, session):
    w = ps.Variable(np.ones((3, 2), np.float32))
    number = ps.placeholder(ps.int32, [1])
    row = ps.IndexedSlices(ps.ones([1, 2]), number)
    step = make(name).apply_gradients([(row, w)])
    session.start()
    session.run(step, {number: [1]})
    before = session.run(w)
    session.run(step, {number: [0]})
    after = session.run(w)
    moved = [i for i in range(3) if not np.array_equal(after[i], before[i])]
    assert moved == ([0, 1] if name == "AdamOptimizer" else [0])


@every_optimizer
def test_a_variable_of_unknown_shape_is_trained(name, session):
    start = ps.placeholder_with_default(np.float32([3, -2]), None)
    w = ps.Variable(start, validate_shape=False, name="w")
    gradient = ps.placeholder(ps.float32)
    step = make(name).apply_gradients([(gradient, w)])
    # Slots begin in the shape that the variable has.
    session.run(ps.variables_initializer([w]))
    session.start()
    session.run(step, {gradient: [1.0, 1.0]})
    assert session.run(w).shape == (2,)


@every_optimizer
@pytest.mark.parametrize("dtype", [ps.float16, ps.bfloat16, ps.float64], ids=lambda t: t.name)
def test_a_variable_of_another_type_is_trained_in_it(name, dtype, session):
    if dtype is not ps.float64 and ("Proximal" in name or "DA" in name):
        pytest.skip("TensorFlow defines the op for float32 and float64")
    if dtype is not ps.float64 and name in ("AdamOptimizer", "LazyAdamOptimizer"):
        pytest.skip("TensorFlow rounds beta2 to 1 and epsilon to 0")
    w = ps.Variable(ps.constant([3.0, -2.0], dtype), name="w")
    step = make(name).minimize(ps.reduce_sum(w * w))
    session.start()
    for _ in range(5):
        session.run(step)
    value = session.run(w)
    assert ps.as_dtype(value.dtype) is dtype
    assert (np.abs(value.astype(float)) < [3, 2]).all()


@every_optimizer
def test_an_optimizer_is_used_again_with_the_same_slots(name, session):
    w = ps.Variable([1.0, 2.0], name="w")
    optimizer = make(name)
    optimizer.minimize(ps.reduce_sum(w * w))
    made = optimizer.variables()
    step = optimizer.minimize(ps.reduce_sum(w))
    assert optimizer.variables() == made
    session.start()
    session.run(step)


@every_optimizer
def test_the_learning_rate_may_be_a_variable(name, session):
    rate = ps.Variable(1e-3, trainable=False)
    w = ps.Variable([1.0, 2.0], name="w")
    step = make(name, rate).minimize(ps.reduce_sum(w * w))
    session.start()
    session.run(step)
    slow = session.run(w)
    session.start()
    session.run(rate.assign(0.3))
    session.run(step)
    assert not np.allclose(session.run(w), slow)


@every_optimizer
def test_slots_are_saved_and_restored_with_the_variable(name, session, tmp_path):
    w = ps.Variable([3.0, -2.0], name="w")
    step = make(name).minimize(ps.reduce_sum(w * w))
    saver = ps.train.Saver()
    session.start()
    session.run(step)
    path = saver.save(session, str(tmp_path / "model"))
    session.run(step)
    after = session.run(ps.global_variables())
    saver.restore(session, path)
    session.run(step)
    for value, wanted in zip(session.run(ps.global_variables()), after, strict=True):
        np.testing.assert_array_equal(value, wanted)

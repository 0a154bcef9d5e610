"""Training programs, run here and by TensorFlow: twenty steps of each optimizer."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

import kernel_driver
import paramserve as ps
from places import IN_PROCESS, ON_A_SERVER, PLACES

pytestmark = pytest.mark.oracle

STEPS = 20
START = np.array([[0.5, -1.0, 2.0], [0.0, 0.1, -0.1], [3.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
WANTED = np.array([[0.0, 1.0, 1.0], [0.2, 0.0, -0.3], [2.0, -1.0, 0.0], [1.5, 0.5, 1.0]])

OPTIMIZERS = {
    "gradient descent": lambda train, step: train.GradientDescentOptimizer(0.1),
    "momentum": lambda train, step: train.MomentumOptimizer(0.1, 0.8),
    "nesterov": lambda train, step: train.MomentumOptimizer(0.1, 0.8, use_nesterov=True),
    "adagrad": lambda train, step: train.AdagradOptimizer(0.3, 0.2),
    "adagrad da": lambda train, step: train.AdagradDAOptimizer(
        0.3, step, l1_regularization_strength=0.01, l2_regularization_strength=0.02
    ),
    "adadelta": lambda train, step: train.AdadeltaOptimizer(1.0, 0.9, 1e-4),
    "adam": lambda train, step: train.AdamOptimizer(0.05, 0.8, 0.95),
    "rmsprop": lambda train, step: train.RMSPropOptimizer(0.05),
    "rmsprop, all of it": lambda train, step: train.RMSPropOptimizer(
        0.05, decay=0.8, momentum=0.7, epsilon=1e-3, centered=True
    ),
    "ftrl": lambda train, step: train.FtrlOptimizer(0.5),
    "ftrl, all of it": lambda train, step: train.FtrlOptimizer(
        0.5,
        learning_rate_power=-0.6,
        initial_accumulator_value=0.2,
        l1_regularization_strength=0.03,
        l2_regularization_strength=0.04,
        l2_shrinkage_regularization_strength=0.05,
        accum_name="accumulated",
        linear_name="linearized",
    ),
    "ftrl with beta": lambda train, step: train.FtrlOptimizer(
        0.5, l2_regularization_strength=0.04, beta=0.3
    ),
    "proximal gradient descent": lambda train, step: train.ProximalGradientDescentOptimizer(
        0.1, l1_regularization_strength=0.02, l2_regularization_strength=0.03
    ),
    "proximal adagrad": lambda train, step: train.ProximalAdagradOptimizer(
        0.3, l1_regularization_strength=0.02, l2_regularization_strength=0.03
    ),
    "a rate that decays": lambda train, step: train.MomentumOptimizer(
        train.exponential_decay(0.2, step, 5, 0.5, staircase=True), 0.5
    ),
    "a rate that is a function": lambda train, step: train.AdamOptimizer(lambda: 0.05),
}
LOSSES = {
    "dense": lambda ns, w: ns.reduce_sum(ns.square(w - WANTED.astype(w.dtype.as_numpy_dtype))),
    # Rows 0 and 3 twice, row 1 never.
    "sparse": lambda ns, w: ns.reduce_sum(
        ns.square(
            ns.gather(w, [0, 3, 2, 0, 3]) - WANTED[[0, 3, 2, 0, 3]].astype(w.dtype.as_numpy_dtype)
        )
    ),
}

LOSSES_OF_PARTS = {
    "dense": lambda ns, parts: LOSSES["dense"](ns, ns.concat(parts, 0)),
    "sparse": lambda ns, parts: ns.reduce_sum(
        ns.square(
            ns.nn.embedding_lookup(parts, [0, 3, 2, 0, 3], partition_strategy="div")
            - WANTED[[0, 3, 2, 0, 3]].astype("float32")
        )
    ),
}


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


@pytest.fixture(autouse=True)
def _reference_variables(tf):
    tf.disable_resource_variables()


def trained(ns, make, loss, dtype="float32", session=None):
    """The values of all variables after some steps, by name, and the loss after each."""
    with ns.Graph().as_default():
        w = ns.Variable(START.astype(dtype), name="w")
        step = ns.Variable(0, trainable=False, name="step", dtype=ns.int64)
        distance = loss(ns, w)
        train = make(ns.train, step).minimize(distance, global_step=step)
        with (session or ns.Session)() as sess:
            return run_steps(ns, sess, train, distance)


def run_steps(ns, session, train, distance):
    session.run(ns.global_variables_initializer())
    losses = []
    for _ in range(STEPS):
        session.run(train)
        losses.append(session.run(distance))
    return {v.op.name: session.run(v) for v in ns.global_variables()}, losses


def assert_trained_alike(ours, theirs):
    (ours, our_losses), (theirs, their_losses) = ours, theirs
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(our_losses, their_losses, rtol=2e-4, atol=1e-6)
    assert our_losses[-1] < our_losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("place", [IN_PROCESS, ON_A_SERVER], indirect=True)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_as_in_tensorflow(tf, optimizer, loss, place):
    ours = trained(ps, OPTIMIZERS[optimizer], LOSSES[loss], session=place.session)
    assert_trained_alike(ours, trained(tf, OPTIMIZERS[optimizer], LOSSES[loss]))


def trained_in_parts(ns, make, loss, devices, session):
    """As `trained`, of a table in three parts."""
    with ns.Graph().as_default(), devices():
        table = ns.get_variable(
            "w",
            initializer=ns.constant(START.astype("float32")),
            partitioner=ns.fixed_size_partitioner(3),
        )
        if ns is ps:
            assert len({part.device for part in table}) == 3
        step = ns.Variable(0, trainable=False, name="step", dtype=ns.int64)
        distance = loss(ns, list(table))
        train = make(ns.train, step).minimize(distance, global_step=step)
        with session() as sess:
            return run_steps(ns, sess, train, distance)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES_OF_PARTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_table_on_three_servers_is_trained_as_in_tensorflow(tf, optimizer, loss, three_servers):
    make, loss = OPTIMIZERS[optimizer], LOSSES_OF_PARTS[loss]
    setter = ps.train.replica_device_setter(cluster=three_servers.target, worker_device="")
    ours = trained_in_parts(ps, make, loss, lambda: ps.device(setter), three_servers.session)
    three_servers.reset()
    theirs = trained_in_parts(tf, make, loss, nullcontext, tf.Session)
    assert_trained_alike(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_train_as_in_tensorflow(tf, dtype):
    # There, 0.1 is rounded to float32 on its way to float64.
    rtol, atol = {"float64": (1e-6, 1e-7), "float16": (2e-2, 5e-3)}[dtype]
    for optimizer in ("gradient descent", "momentum", "adagrad", "rmsprop"):
        ours, _ = trained(ps, OPTIMIZERS[optimizer], LOSSES["dense"], dtype)
        theirs, _ = trained(tf, OPTIMIZERS[optimizer], LOSSES["dense"], dtype)
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            np.testing.assert_allclose(
                ours[name], value, rtol=rtol, atol=atol, err_msg=f"{optimizer}: {name}"
            )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_of_updates_is_tensorflows(tf, optimizer):
    def updates(ns):
        with ns.Graph().as_default() as graph:
            w = ns.Variable(START.astype("float32"), name="w")
            step = ns.Variable(0, trainable=False, name="step", dtype=ns.int64)
            grads = [(ns.placeholder(ns.float32, [4, 3], name="gradient"), w)]
            train = OPTIMIZERS[optimizer](ns.train, step).apply_gradients(
                grads, global_step=step, name="train"
            )
            found = {
                op.name: (
                    op.type,
                    [t.name for t in op.inputs if t.dtype.name.endswith("_ref")],
                    op.colocation_groups(),
                )
                for op in graph.get_operations()
                if op.type.startswith("Apply")
            }
            return found, train.name, train.type

    assert updates(ps) == updates(tf)


def rates(ns, make, steps):
    with ns.Graph().as_default():
        step = ns.placeholder(ns.int64, [])
        rate = make(ns.train, step)
        with ns.Session() as session:
            return [session.run(rate, {step: number}) for number in steps]


SCHEDULES = {
    "exponential": lambda train, step: train.exponential_decay(0.1, step, 10, 0.9),
    "exponential, stairs": lambda train, step: train.exponential_decay(0.1, step, 10, 0.9, True),
    "natural": lambda train, step: train.natural_exp_decay(0.1, step, 10, 0.9),
    "natural, stairs": lambda train, step: train.natural_exp_decay(0.1, step, 10, 0.9, True),
    "inverse": lambda train, step: train.inverse_time_decay(0.1, step, 10, 0.9),
    "inverse, stairs": lambda train, step: train.inverse_time_decay(0.1, step, 10, 0.9, True),
    "polynomial": lambda train, step: train.polynomial_decay(0.1, step, 10, 0.01, 2.0),
    "polynomial, cycles": lambda train, step: train.polynomial_decay(
        0.1, step, 10, 0.01, 0.5, cycle=True
    ),
    "cosine": lambda train, step: train.cosine_decay(0.1, step, 10, 0.2),
    "pieces": lambda train, step: train.piecewise_constant(step, [3, 10], [1.0, 0.5, 0.1]),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_learning_rate_is_tensorflows(tf, schedule):
    steps = [0, 1, 3, 4, 9, 10, 11, 20, 35]
    ours, theirs = (rates(ns, SCHEDULES[schedule], steps) for ns in (ps, tf))
    assert [rate.dtype for rate in ours] == [rate.dtype for rate in theirs]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def averaged(ns, options, devices, session):
    """Averages of a variable and of a tensor after each of some updates, and their names."""
    with ns.Graph().as_default(), devices:
        w = ns.Variable([1.0, 2.0], name="w")
        updates = ns.Variable(0.0, trainable=False, name="updates")
        x = ns.placeholder(ns.float32, [2], name="x")
        tensor = ns.identity(x, name="tensor")
        if options.pop("counts", False):
            options["num_updates"] = updates
        ema = ns.train.ExponentialMovingAverage(0.9, **options)
        assert ema.average(w) is None
        names = [ema.average_name(w), ema.average_name(tensor)]
        with ns.control_dependencies([w.assign_add([1.0, -1.0]), updates.assign_add(1.0)]):
            apply = ema.apply([w, tensor])
        names += [ema.average_name(w), ema.average_name(tensor)]
        names += sorted((name, v.op.name) for name, v in ema.variables_to_restore().items())
        values = []
        with session() as sess:
            # In one step, TensorFlow may read the variable before it is there.
            sess.run(ns.variables_initializer([w, updates]))
            sess.run(ns.global_variables_initializer())
            for i in range(5):
                sess.run(apply, {x: [i, 1.0]})
                values.append(sess.run([ema.average(w), ema.average(tensor)]))
        return values, names


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize(
    "options", [{}, {"zero_debias": True}, {"name": "Mean"}, {"counts": True}], ids=str
)
def test_a_moving_average_is_tensorflows(tf, options, place):
    ours, our_names = averaged(ps, dict(options), place.devices(), place.session)
    theirs, their_names = averaged(tf, dict(options), nullcontext(), tf.Session)
    assert our_names == their_names
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)

"""Moving averages: what they are of, where they are, and what a saver makes of them."""

import numpy as np
import pytest

import paramserve as ps
from paramserve.train import ExponentialMovingAverage


def test_an_average_begins_as_its_variable_and_follows_it(session):
    w = ps.Variable([1.0, 2.0], name="w")
    ema = ExponentialMovingAverage(0.9)
    apply = ema.apply([w])
    session.start()
    average = ema.average(w)
    assert session.run(average).tolist() == [1.0, 2.0]
    session.run(w.assign([2.0, 2.0]))
    session.run(apply)
    np.testing.assert_allclose(session.run(average), [1.1, 2.0])


def test_an_average_takes_the_value_after_the_step(session):
    w = ps.Variable(0.0)
    step = w.assign_add(1.0)
    ema = ExponentialMovingAverage(0.5)
    with ps.control_dependencies([step]):
        train = ema.apply([w])
    session.start()
    session.run(train)
    assert session.run(ema.average(w)) == 0.5


def test_an_average_is_beside_its_variable_and_is_not_trained(graph):
    with ps.device("/job:ps/task:1"):
        w = ps.Variable([1.0], name="layer/w")
    ema = ExponentialMovingAverage(0.9)
    assert ema.average(w) is None
    with ps.name_scope("train"):
        apply = ema.apply()
    average = ema.average(w)
    assert average.op.name == "layer/w/ExponentialMovingAverage"
    assert average.device == "/job:ps/task:1"
    assert ps.trainable_variables() == [w]
    assert ps.moving_average_variables() == [w]
    assert apply.name == "train/ExponentialMovingAverage"
    update = graph.get_operation_by_name("train/ExponentialMovingAverage/AssignMovingAvg")
    assert (update.type, update.device) == ("ApplyGradientDescent", "/job:ps/task:1")


def test_averages_are_named_in_the_open_variable_scope(graph):
    v = ps.Variable(1.0, name="v")
    total = v + 1.0
    with ps.variable_scope("averages"), ps.name_scope("ops"):
        averages = ps.train.ExponentialMovingAverage(0.5, name="mean")
        averages.apply([v, total])
    assert averages.average(v).op.name == "averages/v/mean"
    assert averages.average(total).op.name == "averages/add/mean"


def test_the_number_of_updates_bounds_the_decay(session):
    w, count = ps.Variable(0.0), ps.placeholder(ps.int32, [])
    ema = ExponentialMovingAverage(0.99, num_updates=count)
    apply = ema.apply([w])
    session.start()
    session.run(w.assign(1.0))
    session.run(apply, {count: 0})
    assert session.run(ema.average(w)) == pytest.approx(0.9)
    session.run(apply, {count: 10**6})
    assert session.run(ema.average(w)) == pytest.approx(0.901)


def test_a_tensor_is_averaged_from_zero_or_without_that_bias(session):
    x = ps.placeholder(ps.float32, [2], name="x")
    plain, unbiased = ExponentialMovingAverage(0.5), ExponentialMovingAverage(0.5, None, True, "U")
    applies = [plain.apply([x]), unbiased.apply([x])]
    assert unbiased.average(x).op.name == "x/U"
    session.start()
    for value, wanted in ([4.0, 8.0], [2.0, 4.0]), ([4.0, 8.0], [3.0, 6.0]):
        session.run(applies, {x: value})
        assert session.run(plain.average(x)).tolist() == wanted
        np.testing.assert_allclose(session.run(unbiased.average(x)), [4.0, 8.0])
    assert {"x/U/biased", "x/U/local_step"} <= {v.op.name for v in ps.global_variables()}


@pytest.mark.parametrize("dtype", [ps.float16, ps.bfloat16, ps.float64], ids=lambda t: t.name)
def test_an_average_is_of_its_variables_type(dtype, session):
    w = ps.Variable(ps.constant([1.0], dtype))
    ema = ExponentialMovingAverage(0.5)
    apply = ema.apply([w])
    session.start()
    session.run(w.assign(ps.constant([3.0], dtype)))
    session.run(apply)
    value = session.run(ema.average(w))
    assert (ps.as_dtype(value.dtype), float(value[0])) == (dtype, 2.0)


def test_averages_are_restored_into_their_variables(session, tmp_path):
    w, other = ps.Variable(1.0, name="w"), ps.Variable(7.0, name="other", trainable=False)
    ema = ExponentialMovingAverage(0.5)
    apply = ema.apply()
    saver = ps.train.Saver()
    session.start()
    session.run(w.assign(3.0))
    session.run(apply)
    path = saver.save(session, str(tmp_path / "model"))
    restored = ema.variables_to_restore()
    assert restored == {"w/ExponentialMovingAverage": w, "other": other}
    ps.train.Saver(restored).restore(session, path)
    assert session.run([w, other]) == [2.0, 7.0]


def test_a_program_that_only_evaluates_finds_the_averages_names():
    w = ps.Variable(1.0, name="w")
    ema = ExponentialMovingAverage(0.9, name="Mean")
    assert ema.average_name(w) == "w/Mean"
    assert ema.variables_to_restore() == {"w/Mean": w}
    assert ema.variables_to_restore([]) == {"w": w}


def test_what_has_no_average_is_refused():
    ema = ExponentialMovingAverage(0.9)
    w = ps.Variable(1.0, name="w")
    ema.apply([w])
    with pytest.raises(ValueError, match="Moving average already computed for: w:0"):
        ema.apply([w])
    with pytest.raises(TypeError, match="must be half, float, or double: count:0"):
        ema.apply([ps.Variable(1, name="count")])
    with pytest.raises(ValueError, match=r"x:0.*not fully known"):
        ema.apply([ps.placeholder(ps.float32, [None], name="x")])

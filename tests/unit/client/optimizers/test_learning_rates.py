"""Learning rates by the step, and the variable that counts it."""

import pytest

import paramserve as ps
from paramserve import train

DECAYS = {
    "exponential_decay": lambda step, **o: train.exponential_decay(0.1, step, 10, 0.5, **o),
    "natural_exp_decay": lambda step, **o: train.natural_exp_decay(0.1, step, 10, 0.5, **o),
    "inverse_time_decay": lambda step, **o: train.inverse_time_decay(0.1, step, 10, 0.5, **o),
    "polynomial_decay": lambda step, **o: train.polynomial_decay(0.1, step, 10, **o),
    "cosine_decay": lambda step, **o: train.cosine_decay(0.1, step, 10, **o),
}


@pytest.mark.parametrize("name", DECAYS)
def test_a_rate_decays_with_the_step(name, session):
    step = train.create_global_step()
    rate = DECAYS[name](step, name="rate")
    assert rate.op.name == "rate"
    session.start()
    first = session.run(rate)
    assert first == pytest.approx(0.1)
    session.run(step.assign(9))
    assert session.run(rate) < first


@pytest.mark.parametrize("name", DECAYS)
def test_a_rate_needs_a_step(name):
    with pytest.raises(ValueError, match=f"global_step is required for {name}"):
        DECAYS[name](None)


@pytest.mark.parametrize("name", ["exponential_decay", "natural_exp_decay", "inverse_time_decay"])
def test_a_staircase_stays_until_the_steps_are_done(name, session):
    step = ps.placeholder(ps.int32, [])
    rate = DECAYS[name](step, staircase=True)
    values = [session.run(rate, {step: number}) for number in (0, 9, 10, 19)]
    assert values[0] == values[1] > values[2] == values[3]


def test_a_rate_is_of_the_type_it_is_given_in(session):
    rate = train.exponential_decay(ps.constant(0.1, ps.float64), ps.constant(10), 10, 0.5)
    assert rate.dtype is ps.float64
    assert session.run(rate) == pytest.approx(0.05, rel=1e-12)


def test_an_optimizer_follows_the_rate(session):
    step = train.create_global_step()
    rate = train.piecewise_constant(step, [0, 1], [1.0, 10.0, 100.0])
    w = ps.Variable(0.0)
    update = train.GradientDescentOptimizer(rate).minimize(-w, global_step=step)
    session.start()
    seen = []
    for _ in range(4):
        session.run(update)
        seen.append(session.run(w))
    assert seen == [1.0, 11.0, 111.0, 211.0]


def test_a_boundary_belongs_to_what_is_before_it(session):
    x = ps.placeholder(ps.float32, [])
    rate = train.piecewise_constant(x, [1.0, 2.0], [0.1, 0.2, 0.3], name="pieces")
    assert rate.op.name == "pieces"
    values = [session.run(rate, {x: value}) for value in (-1, 1, 1.5, 2, 2.5)]
    assert values == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3])


def test_one_value_needs_no_boundary(session):
    assert session.run(train.piecewise_constant(ps.constant(3), [], [0.5])) == 0.5


def test_boundaries_of_the_steps_type_are_made(session):
    step = ps.constant(3, ps.int64)
    rate = train.piecewise_constant(step, [ps.constant(2, ps.int32), 5], [1.0, 2.0, 3.0])
    assert session.run(rate) == 2.0


def test_pieces_that_do_not_fit_are_refused():
    x = ps.constant(3)
    with pytest.raises(ValueError, match="1 less than the length of values, and they are 1 and 3"):
        train.piecewise_constant(x, [1], [0.1, 0.2, 0.3])
    for boundary in (1.5, ps.constant(1.5)):
        with pytest.raises(ValueError, match=r"Boundaries \(float32\) must have the same dtype"):
            train.piecewise_constant(x, [boundary], [0.1, 0.2])
    with pytest.raises(TypeError, match="int32"):
        train.piecewise_constant(x, ["one"], [0.1, 0.2])
    with pytest.raises(ValueError, match="same dtype, not float32, float64"):
        train.piecewise_constant(x, [1], [0.1, ps.constant(0.2, ps.float64)])


# The step.


def test_the_step_is_made_once_and_found(graph, session):
    assert train.get_global_step() is None
    step = train.get_or_create_global_step()
    assert (step.op.name, step.dtype.base_dtype, step.shape) == ("global_step", ps.int64, [])
    assert train.get_global_step() is train.get_or_create_global_step(graph) is step
    assert step not in ps.trainable_variables()
    with pytest.raises(ValueError, match='"global_step" already exists'):
        train.create_global_step()
    session.start()
    session.run(step.assign_add(3))
    assert train.global_step(session, step) == 3
    assert type(train.global_step(session, step)) is int


def test_the_step_has_its_name_in_every_scope():
    with ps.name_scope("scope"):
        assert train.create_global_step().op.name == "global_step"


def test_a_step_of_another_graph_is_made_there(graph):
    with ps.Graph().as_default() as other:
        step = train.create_global_step(graph)
        assert step.graph is graph
        assert train.get_global_step() is None
        assert train.get_global_step(graph) is step
        assert other.get_operations() == []


def test_a_variable_of_the_name_is_the_step():
    step = ps.Variable(0, name="global_step", trainable=False)
    assert train.get_global_step() is step.ref()


def test_what_cannot_be_the_step_is_refused(graph):
    graph.add_to_collection(ps.GraphKeys.GLOBAL_STEP, ps.Variable(0.0, name="real"))
    with pytest.raises(TypeError, match="does not have integer type: float32"):
        train.get_global_step()
    graph.add_to_collection(ps.GraphKeys.GLOBAL_STEP, ps.Variable(0, name="second"))
    with pytest.raises(ValueError, match=r"several global steps.*real:0, second:0"):
        train.get_global_step()
    with pytest.raises(TypeError, match="is not scalar"):
        train.assert_global_step(ps.Variable([0, 0]))
    with pytest.raises(TypeError, match="must be a Tensor or a Variable"):
        train.assert_global_step(3)

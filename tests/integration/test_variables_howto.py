"""Every statement of "Variables: creation, initialization, saving, and loading", in its order.

Each test runs in the three modes: in this process, on one server, and over two servers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import paramserve as ps
from processes import parameter_servers, server

pytestmark = pytest.mark.slow


class Mode:
    """One way to run the how-to: how to place variables, and how to open a session."""

    def __init__(self, open_session: Callable[[], ps.Session], root: Path, devices: int) -> None:
        self.session = open_session
        self._root = root
        self._devices = devices

    def placement(self):
        """The device function that a program for this mode uses."""
        return ps.train.replica_device_setter(self._devices) if self._devices else None

    def path(self, name: str) -> str:
        """A checkpoint's path, as the program writes it."""
        return str(self._root / name)


@contextmanager
def in_process(folder: Path) -> Iterator[Mode]:
    yield Mode(ps.Session, folder, 0)


@contextmanager
def on_one_server(folder: Path) -> Iterator[Mode]:
    with server(folder / "server") as process:
        yield Mode(lambda: ps.Session(process.target), folder / "server", 0)


@contextmanager
def over_two_servers(folder: Path) -> Iterator[Mode]:
    with parameter_servers(folder, 2) as processes:
        cluster = ps.train.ClusterSpec({"ps": [process.address for process in processes]})
        # Relative to each server's own checkpoint root.
        yield Mode(lambda: ps.Session(cluster), Path(), 2)


@pytest.fixture(
    params=[in_process, on_one_server, over_two_servers], ids=lambda mode: mode.__name__
)
def mode(request, tmp_path) -> Iterator[Mode]:
    with request.param(tmp_path) as mode, ps.Graph().as_default(), ps.device(mode.placement()):
        yield mode


def create_two_variables() -> tuple[ps.Variable, ps.Variable]:
    weights = ps.Variable(ps.random_normal([784, 200], stddev=0.35), name="weights")
    biases = ps.Variable(ps.zeros([200]), name="biases")
    return weights, biases


# Creation.


def test_creation_adds_a_variable_op_an_initializer_and_the_initial_value(mode):
    weights, biases = create_two_variables()
    assert isinstance(weights, ps.Variable)
    assert weights.get_shape() == [784, 200]
    assert biases.get_shape() == [200]
    names = {op.name for op in ps.get_default_graph().get_operations()}
    assert {"weights", "weights/Assign", "weights/read"} <= names
    assert {"biases", "biases/Assign", "biases/read", "zeros"} <= names
    assert weights.op.type == "VariableV2"
    assert weights.initializer.type == "Assign"
    assert weights.initializer.inputs[1].op.name.startswith("random_normal")


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (lambda: ps.zeros([3, 4]), lambda value: (value == 0).all()),
        (lambda: ps.ones([3, 4]), lambda value: (value == 1).all()),
        (lambda: ps.fill([3, 4], 9.0), lambda value: (value == 9).all()),
        (lambda: ps.constant(-1.0, shape=[3, 4]), lambda value: (value == -1).all()),
        (lambda: ps.random_normal([3, 4], mean=5.0, stddev=0.0), lambda value: (value == 5).all()),
        (lambda: ps.truncated_normal([3, 4]), lambda value: (abs(value) <= 2).all()),
        (
            lambda: ps.random_uniform([3, 4], 2.0, 3.0),
            lambda value: ((value >= 2) & (value < 3)).all(),
        ),
    ],
)
def test_constants_and_random_values_give_the_variable_its_shape(mode, make, check):
    variable = ps.Variable(make(), name="v")
    assert variable.get_shape() == [3, 4]
    with mode.session() as sess:
        sess.run(variable.initializer)
        value = sess.run(variable)
    assert value.shape == (3, 4)
    assert check(value)


# Initialization.


def test_initializers_must_be_run_before_other_ops(mode):
    weights, _ = create_two_variables()
    with (
        mode.session() as sess,
        pytest.raises(ps.errors.FailedPreconditionError, match="uninitialized value weights"),
    ):
        sess.run(weights)


def test_initialize_all_variables_then_use_the_model(mode):
    weights, biases = create_two_variables()
    init_op = ps.initialize_all_variables()
    with mode.session() as sess:
        sess.run(init_op)
        w, b = sess.run([weights, biases])
    assert abs(w.std() - 0.35) < 0.01
    assert (b == 0).all()


def test_initialization_from_another_variable(mode):
    weights = ps.Variable(ps.random_normal([784, 200], stddev=0.35), name="weights")
    w2 = ps.Variable(weights.initialized_value(), name="w2")
    w_twice = ps.Variable(weights.initialized_value() * 2.0, name="w_twice")
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        first, second, twice = sess.run([weights, w2, w_twice])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(2 * first, twice)


def test_initialization_from_another_variable_at_any_depth_and_in_any_order(mode):
    chain = [ps.Variable(ps.random_normal([5]), name="v0")]
    for depth in range(1, 9):
        chain.append(ps.Variable(chain[-1].initialized_value() + 1.0, name=f"v{depth}"))
    init_op = ps.initialize_variables(list(reversed(chain)))
    with mode.session() as sess:
        sess.run(init_op)
        values = sess.run(chain)
    for depth, value in enumerate(values):
        np.testing.assert_allclose(value, values[0] + depth, rtol=1e-6)


def test_initialized_value_of_an_initialized_variable_is_its_value(mode):
    v = ps.Variable(1.0, name="v")
    w = ps.Variable(v.initialized_value(), name="w")
    with mode.session() as sess:
        sess.run(v.initializer)
        sess.run(v.assign(7.0))
        sess.run(w.initializer)
        assert sess.run(w) == 7.0


def test_custom_initialization_of_a_list_and_checking_what_is_initialized(mode):
    weights, biases = create_two_variables()
    is_ready = ps.is_variable_initialized(weights)
    missing = ps.report_uninitialized_variables()
    ready = ps.assert_variables_initialized()
    with mode.session() as sess:
        assert not sess.run(is_ready)
        assert sorted(sess.run(missing)) == [b"biases", b"weights"]
        sess.run(ps.initialize_variables([weights]))
        assert sess.run(is_ready)
        assert list(sess.run(missing)) == [b"biases"]
        with pytest.raises(ps.errors.FailedPreconditionError, match="biases"):
            sess.run(ready)
        sess.run(biases.initializer)
        assert list(sess.run(missing)) == []
        sess.run(ready)


# Saving and restoring.


def create_some_variables() -> tuple[ps.Variable, ps.Variable]:
    v1 = ps.Variable(ps.random_normal([20, 3]), name="v1")
    v2 = ps.Variable(ps.random_normal([7]), name="v2")
    return v1, v2


def test_saving_and_restoring_without_initializing(mode):
    v1, v2 = create_some_variables()
    init_op = ps.initialize_all_variables()
    saver = ps.train.Saver()
    with mode.session() as sess:
        sess.run(init_op)
        sess.run(v1.assign_add(ps.ones([20, 3])))
        expected = sess.run([v1, v2])
        save_path = saver.save(sess, mode.path("model.ckpt"))
        assert save_path == mode.path("model.ckpt")
        sess.run([v1.assign(ps.zeros([20, 3])), v2.assign(ps.zeros([7]))])
    with mode.session() as sess:
        saver.restore(sess, save_path)
        restored = sess.run([v1, v2])
    for found, wanted in zip(restored, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_names_in_a_checkpoint_are_those_of_the_variables_by_default(mode):
    create_some_variables()
    saver = ps.train.Saver()
    other = ps.Graph()
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        path = saver.save(sess, mode.path("model.ckpt"))
        expected = sess.run("v2:0")
    with other.as_default(), ps.device(mode.placement()):
        renamed = ps.Variable(ps.zeros([7]), name="renamed")
        missing = ps.Variable(ps.zeros([7]), name="v3")
        by_name = ps.train.Saver({"v2": renamed})
        without = ps.train.Saver([missing])
        with mode.session() as sess:
            by_name.restore(sess, path)
            np.testing.assert_array_equal(sess.run(renamed), expected)
            with pytest.raises(ps.errors.NotFoundError, match="Key v3 not found in checkpoint"):
                without.restore(sess, path)


def test_choosing_which_variables_to_save_under_which_names(mode):
    _, v2 = create_some_variables()
    saver = ps.train.Saver({"my_v2": v2})
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        expected = sess.run(v2)
        path = saver.save(sess, mode.path("only_v2.ckpt"))
        sess.run(v2.assign(ps.zeros([7])))
        saver.restore(sess, path)
        np.testing.assert_array_equal(sess.run(v2), expected)
        with pytest.raises(ps.errors.NotFoundError, match="Key v2 not found in checkpoint"):
            ps.train.Saver([v2]).restore(sess, path)


def test_several_savers_over_one_variable(mode):
    v1, v2 = create_some_variables()
    both, second = ps.train.Saver(), ps.train.Saver([v2])
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        path_of_both = both.save(sess, mode.path("both.ckpt"))
        old = sess.run([v1, v2])
        sess.run([v1.assign(ps.ones([20, 3])), v2.assign(ps.ones([7]))])
        path_of_second = second.save(sess, mode.path("second.ckpt"))
        both.restore(sess, path_of_both)
        for found, wanted in zip(sess.run([v1, v2]), old, strict=True):
            np.testing.assert_array_equal(found, wanted)
        second.restore(sess, path_of_second)
        np.testing.assert_array_equal(sess.run(v1), old[0])
        assert (sess.run(v2) == 1).all()


def test_a_subset_is_restored_and_the_rest_initialized(mode):
    v1, v2 = create_some_variables()
    saver = ps.train.Saver([v1])
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        expected = sess.run(v1)
        path = saver.save(sess, mode.path("v1.ckpt"))
    with mode.session() as sess:
        saver.restore(sess, path)
        sess.run(ps.initialize_variables([v2]))
        np.testing.assert_array_equal(sess.run(v1), expected)
        assert sess.run(v2).shape == (7,)


def test_checkpoints_are_numbered_by_the_global_step_and_the_oldest_deleted(mode):
    create_some_variables()
    global_step = ps.Variable(0, trainable=False, name="global_step")
    saver = ps.train.Saver(max_to_keep=2)
    with mode.session() as sess:
        sess.run(ps.initialize_all_variables())
        paths = []
        for _ in range(4):
            sess.run(global_step.assign_add(10))
            paths.append(saver.save(sess, mode.path("step.ckpt"), global_step=global_step))
        assert paths == [mode.path(f"step.ckpt-{step}") for step in (10, 20, 30, 40)]
        assert saver.last_checkpoints == paths[2:]
        saver.restore(sess, paths[2])
        assert sess.run(global_step) == 30
        with pytest.raises((ValueError, ps.errors.NotFoundError)):
            saver.restore(sess, paths[0])
        assert sess.run(global_step) == 30

"""Variables that begin as the tensors of a checkpoint."""

import numpy as np
import pytest

import paramserve as ps
from paramserve_core.errors import NotFoundError

W, B = np.arange(6, dtype=np.float32).reshape(3, 2), np.float32([7.0, 8.0])


@pytest.fixture(params=[None, ps.train.SaverDef.V2])
def path(request, tmp_path):
    with ps.Graph().as_default(), ps.Session() as session:
        with ps.variable_scope("old"):
            ps.get_variable("w", initializer=W)
            with ps.variable_scope("inner"):
                ps.get_variable("b", initializer=B)
        session.run(ps.global_variables_initializer())
        saver = ps.train.Saver(write_version=request.param)
        return saver.save(session, str(tmp_path / "model"), 3)


def zeros(name, shape, **options):
    return ps.get_variable(name, shape, initializer=ps.zeros_initializer(), **options)


def initial_values(*variables):
    with ps.Session() as session:
        session.run(ps.global_variables_initializer())
        return session.run(variables)


def test_variables_are_named_or_given(path):
    w, b, other = zeros("w", [3, 2]), zeros("b", [2]), zeros("other", [2])
    ps.train.init_from_checkpoint(path, {"old/w": "w", "old/inner/b": b})
    found = initial_values(w, b, other)
    assert [value.tolist() for value in found] == [W.tolist(), B.tolist(), [0.0, 0.0]]


@pytest.mark.parametrize(
    ("source", "target", "scope"), [("old/", "new/", "new"), ("/", "/", "old")]
)
def test_a_scope_takes_what_has_its_names(path, tmp_path, source, target, scope):
    with ps.variable_scope(scope):
        w = zeros("w", [3, 2])
        with ps.variable_scope("inner"):
            b = zeros("b", [2])
    ps.train.init_from_checkpoint(tmp_path, {source: target})
    assert [value.tolist() for value in initial_values(w, b)] == [W.tolist(), B.tolist()]


def test_parts_take_their_parts(path):
    with ps.variable_scope("new"):
        w = zeros("w", [3, 2], partitioner=ps.fixed_size_partitioner(2))
    ps.train.init_from_checkpoint(path, {"old/w": "new/w"})
    assert initial_values(w.as_tensor())[0].tolist() == W.tolist()
    ps.train.init_from_checkpoint(path, {"old/w": list(w)})
    assert initial_values(w.as_tensor())[0].tolist() == W.tolist()


def test_what_begins_as_such_a_variable_begins_as_the_tensor(path):
    b = zeros("b", [2])
    ps.train.init_from_checkpoint(path, {"old/inner/b": "b"})
    double = ps.Variable(b.initialized_value() * 2.0)
    assert initial_values(double)[0].tolist() == (2 * B).tolist()


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        ({"old/inner/b": "b", "old/w": "b"}, r"Shape of variable b \(\(2,\)\) doesn't match"),
        ({"old/inner/b": "b", "old/v": "b"}, "Tensor old/v, for b, is not found in .* checkpoint"),
        ({"old/inner/b": "b", "old/w": "v"}, "v: there is no such variable"),
        ({"old/inner/b": "b", "old": "/"}, "Should be 'scope/': 'other_scope/'"),
        (
            {"old/inner/b": "n"},
            r"Type of variable n \(int32\) doesn't match with type .*\(float32\)",
        ),
    ],
)
def test_what_does_not_fit_changes_no_variable(path, assignments, text):
    b, _ = zeros("b", [2]), ps.get_variable("n", initializer=[1, 2])
    with pytest.raises(ValueError, match=text):
        ps.train.init_from_checkpoint(path, assignments)
    assert initial_values(b)[0].tolist() == [0.0, 0.0]


def test_a_checkpoint_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="Couldn't find 'checkpoint' file"):
        ps.train.init_from_checkpoint(tmp_path, {})
    with pytest.raises(NotFoundError, match="there is no checkpoint"):
        ps.train.init_from_checkpoint(tmp_path / "model", {})
    with pytest.raises(NotFoundError, match="no state file"):
        ps.train.load_checkpoint(tmp_path)


def test_the_newest_checkpoint_of_a_directory_is_looked_into(path, tmp_path):
    assert ps.train.load_checkpoint(tmp_path).get_tensor("old/w").tolist() == W.tolist()
    assert ps.train.load_checkpoint(path).get_tensor("old/w").tolist() == W.tolist()

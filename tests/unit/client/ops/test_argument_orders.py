"""Functions that TensorFlow renamed or whose arguments it reordered take both forms."""

import numpy as np
import pytest

import paramserve as ps

A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


@pytest.mark.parametrize(
    "call",
    [
        lambda: ps.concat([A, A], 1),
        lambda: ps.concat(1, [A, A]),
        lambda: ps.concat(values=[A, A], axis=1),
        lambda: ps.concat(concat_dim=1, values=[A, A]),
        lambda: ps.concat(ps.constant(1), [A, A], name="joined"),
    ],
)
def test_concat_takes_its_arguments_in_both_orders(session, call):
    assert session.run(call()).tolist() == np.concatenate([A, A], 1).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ps.split(A, 3, 1),
        lambda: ps.split(1, 3, A),
        lambda: ps.split(value=A, num_or_size_splits=3, axis=1),
        lambda: ps.split(split_dim=1, num_split=3, value=A),
        lambda: ps.split(A, [1, 1, 1], axis=1),
        lambda: ps.split(A, ps.placeholder_with_default([1, 1, 1], None), 1, num=3),
    ],
)
def test_split_takes_its_arguments_in_both_orders(session, call):
    parts = session.run(call())
    assert [part.tolist() for part in parts] == [[[1], [4]], [[2], [5]], [[3], [6]]]


def test_split_needs_to_know_how_many_parts_there_are(session):
    with pytest.raises(ValueError, match="Cannot infer num"):
        ps.split(A, ps.placeholder(ps.int32))
    with pytest.raises(TypeError, match="the number of parts must be an int"):
        ps.split(A, ps.constant(3))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"reduction_indices": 1}, {"axis": 1}),
        ({"keep_dims": True}, {"keepdims": True}),
    ],
)
def test_reductions_take_the_old_names_of_arguments(session, old, new):
    with_old, with_new = session.run([ps.reduce_sum(A, **old), ps.reduce_sum(A, **new)])
    assert with_old.tolist() == with_new.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ps.reduce_sum(A, axis=0, reduction_indices=0),
        lambda: ps.expand_dims(A, axis=0, dim=0),
        lambda: ps.squeeze(A, axis=0, squeeze_dims=0),
        lambda: ps.argmax(A, axis=0, dimension=0),
        lambda: ps.concat([A, A], axis=0, concat_dim=0),
        lambda: ps.nn.softmax(A, axis=0, dim=0),
    ],
)
def test_an_argument_with_two_names_is_given_once(session, call):
    with pytest.raises(ValueError, match="Cannot specify both"):
        call()


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (lambda: ps.concat([A, A]), "axis"),
        (lambda: ps.split(A), "num_or_size_splits"),
        (lambda: ps.reverse(A), "axis"),
        (lambda: ps.nn.softmax_cross_entropy_with_logits(A), "labels"),
        (lambda: ps.nn.sigmoid_cross_entropy_with_logits(labels=A), "logits"),
        (lambda: ps.cond(ps.constant(True), lambda: 1), "false_fn"),
    ],
)
def test_an_argument_that_is_needed_is_missed(session, call, missing):
    with pytest.raises(TypeError, match=f"missing the argument '{missing}'"):
        call()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mul", "multiply"),
        ("sub", "subtract"),
        ("neg", "negative"),
        ("listdiff", "setdiff1d"),
        ("lin_space", "linspace"),
        ("floor_div", "floordiv"),
        ("reverse_v2", "reverse"),
    ],
)
def test_both_names_are_one_function(old, new):
    assert getattr(ps, old) is getattr(ps, new)


def test_pack_and_unpack_are_stack_and_unstack(session):
    packed, first = session.run([ps.pack([A[0], A[1]]), ps.unpack(A)[0]])
    assert packed.tolist() == A.tolist()
    assert first.tolist() == [1, 2, 3]
    assert ps.pack([1, 2]).op.type == ps.stack([1, 2]).op.type == "Pack"


def test_select_is_where_with_three_arguments(session):
    chosen = ps.select([True, False], A, -A)
    assert session.run(chosen).tolist() == [[1, 2, 3], [-4, -5, -6]]


def test_reverse_takes_a_boolean_per_dimension(session):
    by_flags, by_axis = session.run([ps.reverse(A, [False, True]), ps.reverse(A, [1])])
    assert by_flags.tolist() == by_axis.tolist() == [[3, 2, 1], [6, 5, 4]]


def test_old_losses_take_logits_first(session):
    labels = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    old = ps.nn.softmax_cross_entropy_with_logits(A, labels)
    new = ps.nn.softmax_cross_entropy_with_logits(logits=A, labels=labels)
    sparse = ps.nn.sparse_softmax_cross_entropy_with_logits(A, [2, 0])
    for loss in session.run([old, sparse]):
        np.testing.assert_allclose(loss, session.run(new), rtol=1e-6)


def test_old_cond_takes_a_name_as_its_fourth_argument(session):
    result = ps.cond(ps.constant(True), lambda: A, lambda: -A, "choice")
    assert result.name == "choice/Merge:0"


def test_random_shapes_may_be_tensors(session):
    assert session.run(ps.random_normal(ps.shape(A))).shape == (2, 3)

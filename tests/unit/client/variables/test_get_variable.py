"""`get_variable`: making a variable, or finding it."""

import math

import numpy as np
import pytest

import paramserve as ps


def test_a_new_variable_has_the_name_shape_and_type_asked_for(graph):
    v = ps.get_variable("v", [2, 3], ps.float64)
    assert v.name == "v:0"
    assert v.shape.as_list() == [2, 3]
    assert v.dtype.base_dtype is ps.float64
    assert ps.global_variables() == ps.trainable_variables() == [v]


def test_the_initial_value_is_made_beside_the_variable():
    with ps.device("/job:ps/task:1"):
        v = ps.get_variable("v", [2, 3])
    op = v.initial_value.op
    assert op.name.startswith("v/Initializer/")
    assert op.device == "/job:ps/task:1"
    assert op.colocation_groups() == [b"loc:@v"]


def test_floats_are_glorot_uniform_and_other_types_zeros_by_default(session):
    w = ps.get_variable("w", [60, 140])
    others = [
        ps.get_variable(f"v{i}", [2], dtype)
        for i, dtype in enumerate([ps.int32, ps.bool, ps.complex64, ps.string])
    ]
    session.run(ps.initialize_all_variables())
    bound = math.sqrt(6 / 200)
    assert abs(session.run(w)).max() == pytest.approx(bound, rel=1e-2)
    assert [session.run(v).tolist() for v in others] == [[0, 0], [False, False], [0, 0], [b""] * 2]


def test_an_initializer_may_be_a_function_a_class_or_a_value(session):
    made = {
        "function": ps.get_variable("a", [2], initializer=lambda shape, dtype: ps.ones(shape)),
        "class": ps.get_variable("b", [2], initializer=ps.random_uniform_initializer),
        "both": ps.get_variable("c", [2], initializer=ps.zeros_initializer),
        "tensor": ps.get_variable("d", initializer=ps.ones([2])),
        "array": ps.get_variable("e", initializer=np.array([3, 4])),
        "number": ps.get_variable("f", initializer=5.0),
        "no arguments": ps.get_variable("g", initializer=lambda: ps.fill([2], 6.0)),
    }
    session.run(ps.initialize_all_variables())
    values = {key: session.run(v).tolist() for key, v in made.items()}
    assert all(0 <= x < 1 for x in values.pop("class"))
    assert values == {
        "function": [1, 1],
        "both": [0, 0],
        "tensor": [1, 1],
        "array": [3, 4],
        "number": 5.0,
        "no arguments": [6, 6],
    }
    assert made["array"].dtype.base_dtype is ps.int64


def test_a_value_becomes_one_op(graph):
    ps.get_variable("v", initializer=5.0)
    assert [op.name for op in graph.get_operations() if op.type == "Const"] == ["v/initial_value"]


def test_a_type_converts_a_number_but_not_a_tensor():
    assert ps.get_variable("a", dtype=ps.int64, initializer=3).dtype.base_dtype is ps.int64
    with pytest.raises(ValueError, match=r"b: Initializer type .*int32.* explicit dtype 'float64'"):
        ps.get_variable("b", dtype=ps.float64, initializer=ps.zeros([1], ps.int32))


def test_the_type_of_the_scope_is_that_of_new_variables_but_of_given_values():
    with ps.variable_scope("s", dtype=ps.float64):
        assert ps.get_variable("a", [1]).dtype.base_dtype is ps.float64
        assert ps.get_variable("b", initializer=ps.zeros([1])).dtype.base_dtype is ps.float32


def test_options_are_those_of_variable():
    v = ps.get_variable(
        "v", [2], trainable=False, collections=["mine"], caching_device="/job:worker"
    )
    assert ps.get_collection("mine") == [v]
    assert ps.global_variables() == ps.trainable_variables() == []
    assert v.value().device == "/job:worker"
    x = ps.placeholder(ps.float32)
    assert ps.get_variable("w", initializer=x, validate_shape=False).shape.ndims is None


def test_control_dependencies_around_do_not_hold_the_variable():
    with ps.control_dependencies([ps.no_op()]):
        v = ps.get_variable("v", [2])
    for op in (v.op, v.initializer, v.initial_value.op):
        assert op.control_inputs == []


# Reuse.


def test_a_variable_that_exists_is_not_taken_by_accident():
    with ps.variable_scope("foo"):
        ps.get_variable("v", [1])
        with pytest.raises(
            ValueError, match=r"^Variable foo/v already exists, disallowed. Did you mean to set reu"
        ) as caught:
            ps.get_variable("v", [1])
    text = str(caught.value)
    assert f"Originally defined at {__file__}:" in text
    assert "test_a_variable_that_exists_is_not_taken_by_accident" in text
    assert len(ps.global_variables()) == 1


def test_a_variable_that_does_not_exist_is_not_made_by_accident():
    with (
        ps.variable_scope("foo", reuse=True),
        pytest.raises(ValueError, match=r"Variable foo/v does not exist, or was not created with"),
    ):
        ps.get_variable("v", [1])
    assert ps.global_variables() == []


def test_a_variable_of_its_own_name_is_not_shared():
    ps.Variable(1.0, name="v")
    with (
        ps.variable_scope("", reuse=True),
        pytest.raises(ValueError, match=r"Variable v does not exist, or was not created with"),
    ):
        ps.get_variable("v")


def test_reuse_finds_the_variable_whatever_else_is_said():
    with ps.variable_scope("foo"):
        v = ps.get_variable("v", [2])
    with ps.variable_scope("foo", reuse=True):
        assert ps.get_variable("v") is v
        assert ps.get_variable("v", [2], ps.float32) is v
        assert ps.get_variable("v", [None], initializer=ps.ones_initializer()) is v
    assert len(ps.global_variables()) == 1


def test_reuse_without_a_type_takes_any():
    with ps.variable_scope("foo"):
        v = ps.get_variable("v", [2], ps.int64)
    with ps.variable_scope("foo", reuse=True):
        assert ps.get_variable("v") is v


def test_auto_reuse_makes_or_finds():
    with ps.variable_scope("foo", reuse=ps.AUTO_REUSE):
        v = ps.get_variable("v", [2])
        assert ps.get_variable("v", [2]) is v


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shape": [3]}, r"specified shape \(3,\) and found shape \(2,\)"),
        ({"shape": [2, 1]}, r"specified shape \(2, 1\) and found shape \(2,\)"),
        ({"dtype": ps.int32}, "specified dtype int32 and found dtype float32"),
    ],
)
def test_a_shared_variable_has_the_shape_and_type_that_it_was_made_with(options, text):
    with ps.variable_scope("foo"):
        ps.get_variable("v", [2])
    with (
        ps.variable_scope("foo", reuse=True),
        pytest.raises(ValueError, match=f"Trying to share variable foo/v, but {text}.*{__file__}"),
    ):
        ps.get_variable("v", **options)


# Regularizers.


def test_the_loss_of_a_new_variable_is_collected_once():
    def regularizer(v):
        return ps.reduce_sum(v, name="loss")

    with ps.variable_scope("foo", regularizer=regularizer):
        ps.get_variable("v", [2])
        ps.get_variable("free", [2], regularizer=ps.no_regularizer)
        ps.get_variable("other", [2], regularizer=lambda v: None)
    with ps.variable_scope("foo", reuse=True, regularizer=regularizer):
        ps.get_variable("v")
    losses = ps.get_collection(ps.GraphKeys.REGULARIZATION_LOSSES)
    assert [loss.name for loss in losses] == ["foo/v/Regularizer/loss:0"]
    assert losses[0].op.colocation_groups() == [b"loc:@foo/v"]


# What is refused.


def test_a_new_variable_needs_a_shape():
    for shape in (None, [None, 2]):
        with pytest.raises(
            ValueError, match=r"Shape of a new variable \(v\) must be fully defined"
        ):
            ps.get_variable("v", shape)


def test_a_value_has_its_own_shape():
    with pytest.raises(ValueError, match="v: If initializer is a constant, do not specify shape"):
        ps.get_variable("v", [1], initializer=ps.zeros([1]))


def test_an_initializer_that_makes_another_shape_or_type_is_refused():
    with pytest.raises(ValueError, match=r"(?s)Assign.*3"):
        ps.get_variable("v", [2], initializer=lambda shape, dtype: ps.zeros([3]))
    with pytest.raises(ValueError, match="int32"):
        ps.get_variable("w", [2], initializer=lambda shape, dtype: ps.zeros([2], ps.int32))


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="the name of a variable is a string, got 3"):
        ps.get_variable(3, [1])


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "_v", "a//b:0"])
def test_a_malformed_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        ps.get_variable(name, [1])
    assert ps.global_variables() == []


def test_an_initializer_that_fails_leaves_the_name_free():
    def fails(shape, dtype):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        ps.get_variable("v", [1], initializer=fails)
    assert ps.global_variables() == []
    ps.get_variable("v", [1])
    assert len(ps.global_variables()) == 1

"""Custom getters: what `get_variable` calls in its own place."""

import pytest

import paramserve as ps


def test_a_getter_may_change_what_is_made_and_what_is_answered(session):
    def halved(getter, name, **kwargs):
        kwargs["trainable"] = False
        return getter(f"{name}/whole", **kwargs) / 2.0

    x = ps.get_variable("x", [2], initializer=ps.ones_initializer(), custom_getter=halved)
    (made,) = ps.global_variables()
    assert made.name == "x/whole:0"
    assert ps.trainable_variables() == []
    session.run(made.initializer)
    assert session.run(x).tolist() == [0.5, 0.5]


def test_a_getter_sees_the_full_name_and_what_the_scopes_say():
    seen = {}

    def look(getter, *args, **kwargs):
        seen.update(kwargs)
        return getter(*args, **kwargs)

    with ps.variable_scope("s", dtype=ps.float64, custom_getter=look, reuse=ps.AUTO_REUSE):
        v = ps.get_variable("v", [2])
    assert seen["name"] == "s/v"
    assert seen["dtype"] is ps.float64
    assert seen["reuse"] is ps.AUTO_REUSE
    assert seen["trainable"] is True
    assert v.dtype.base_dtype is ps.float64


def test_a_getter_that_names_its_arguments_is_given_those():
    def plain(getter, name, shape, dtype=None, initializer=None):
        return getter(name, shape, dtype, initializer)

    v = ps.get_variable("v", [2], initializer=ps.zeros_initializer(), custom_getter=plain)
    assert v.shape.as_list() == [2]


def test_a_value_without_a_type_of_its_own_says_the_type_through_a_getter():
    def through(getter, *args, **kwargs):
        return getter(*args, **kwargs)

    assert ps.get_variable("a", initializer=3, custom_getter=through).dtype.base_dtype is ps.int32
    tensor = ps.zeros([2], ps.float64)
    v = ps.get_variable("b", initializer=tensor, custom_getter=through)
    assert v.dtype.base_dtype is ps.float64


def test_an_inner_getter_is_called_first_and_calls_the_outer_one():
    def suffixed(suffix):
        return lambda getter, name, **kwargs: getter(f"{name}{suffix}", **kwargs)

    with ps.variable_scope("s", custom_getter=suffixed("_outer")) as outer:
        with ps.variable_scope("t", custom_getter=suffixed("_inner")):
            assert ps.get_variable("v", []).name == "s/t/v_inner_outer:0"
        with ps.variable_scope("u"):
            assert ps.get_variable("v", []).name == "s/u/v_outer:0"
    assert ps.get_variable("v", []).name == "v:0"
    with ps.variable_scope(outer, custom_getter=suffixed("_again")):
        assert ps.get_variable("v", []).name == "s/v_again_outer:0"


def test_the_getter_of_a_call_takes_the_place_of_the_scopes():
    with ps.variable_scope("s", custom_getter=lambda *args, **kwargs: pytest.fail("called")):
        mine = ps.get_variable("v", [], custom_getter=lambda getter, name, **kwargs: name)
    assert mine == "s/v"


def test_sharing_goes_through_the_getter():
    def through(getter, *args, **kwargs):
        return getter(*args, **kwargs)

    with ps.variable_scope("s", custom_getter=through) as scope:
        v = ps.get_variable("v", [1])
        with pytest.raises(ValueError, match="already exists"):
            ps.get_variable("v", [1])
    with ps.variable_scope(scope, reuse=True):
        assert ps.get_variable("v", [1]) is v
        with pytest.raises(ValueError, match="does not exist"):
            ps.get_variable("w", [1])


def test_a_getter_that_is_no_function_is_refused():
    with pytest.raises(ValueError, match="custom_getter which is not callable: 3"):
        ps.get_variable("v", [1], custom_getter=3)
    with (
        pytest.raises(ValueError, match="custom_getter which is not callable: 3"),
        ps.variable_scope("s", custom_getter=3),
    ):
        pass

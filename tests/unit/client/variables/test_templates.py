"""`make_template`: functions that share their variables between calls."""

import pytest

import paramserve as ps


def scale(x, name):
    return x * ps.get_variable(name, [], initializer=ps.constant_initializer(2.0))


def variable():
    return ps.get_variable("v", [])


def test_calls_share_the_variables(session):
    template = ps.make_template("scale", scale, name="y")
    a, b = template(1.0), template(3.0)
    assert [v.name for v in ps.global_variables()] == ["scale/y:0"]
    assert (a.name, b.name) == ("scale/mul:0", "scale_1/mul:0")
    session.run(ps.initialize_all_variables())
    assert session.run([a, b]) == [2.0, 6.0]


def test_two_templates_of_one_name_share_nothing():
    first, second = ps.make_template("t", variable), ps.make_template("t", variable)
    assert first() is first()
    assert first() is not second()
    assert [v.name for v in ps.global_variables()] == ["t/v:0", "t_1/v:0"]


def test_a_template_knows_its_scope_and_variables():
    def both():
        return variable(), ps.get_variable("l", [], trainable=False)

    template = ps.make_template("t", both)
    assert template.variable_scope is None
    assert template.variables == template.trainable_variables == []
    v, w = template()
    assert template.name == "t"
    assert template.variable_scope.name == "t"
    assert template.variables == [v, w]
    assert template.trainable_variables == [v]
    assert template.func is both


def test_the_scope_may_be_made_where_the_template_is():
    with ps.variable_scope("here"):
        now = ps.make_template("t", variable, create_scope_now_=True)
        later = ps.make_template("u", variable)
    assert now().name == "here/t/v:0"
    assert later().name == "u/v:0"


def test_a_template_in_a_scope_that_reuses_finds_the_variables_of_another():
    with ps.variable_scope("scope") as scope:
        v = ps.make_template("t", variable)()
    with ps.variable_scope(scope, reuse=True):
        again = ps.make_template("t", variable)
        assert again() is v
        assert again() is v


def test_templates_nest():
    inner = ps.make_template("inner", variable)
    outer = ps.make_template("outer", lambda: (inner(), variable()))
    assert outer() == outer()
    assert [v.name for v in ps.global_variables()] == ["outer/inner/v:0", "outer/v:0"]


def test_a_unique_name_is_taken_as_it_is():
    assert ps.make_template("t", variable, unique_name_="u")().name == "u/v:0"
    with pytest.raises(ValueError, match="u/v already exists"):
        ps.make_template("t", variable, unique_name_="u")()


def test_a_later_call_that_makes_a_trainable_variable_is_refused():
    template = ps.make_template("t", lambda: ps.Variable(1.0))
    template()
    with pytest.raises(ValueError, match="Trainable variable created when calling a template"):
        template()


def test_a_later_call_may_make_a_variable_that_is_not_trained():
    template = ps.make_template("t", lambda: ps.Variable(1.0, trainable=False))
    assert template() is not template()


def test_a_later_call_that_asks_for_another_variable_is_refused():
    template = ps.make_template("t", lambda name: ps.get_variable(name, []))
    template("a")
    with pytest.raises(ValueError, match="Variable t/b does not exist"):
        template("b")


def test_an_error_says_where_the_template_was_made():
    def fails():
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom") as caught:
        ps.make_template("t", fails)()
    (note,) = caught.value.__notes__
    assert note.startswith(f"in the template 't' made at {__file__}:")


def test_a_name_is_needed():
    with pytest.raises(ValueError, match="name cannot be None"):
        ps.make_template(None, variable)

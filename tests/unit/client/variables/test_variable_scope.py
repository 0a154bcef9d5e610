"""Scopes for `get_variable`: names, reuse, defaults."""

import threading

import pytest

import paramserve as ps


def test_a_scope_is_a_prefix_and_scopes_nest():
    with ps.variable_scope("foo"):
        assert ps.get_variable("v", [1]).name == "foo/v:0"
        with ps.variable_scope("bar") as bar:
            assert ps.get_variable("v", [1]).name == "foo/bar/v:0"
            assert bar.name == "foo/bar"
    assert ps.get_variable("v", [1]).name == "v:0"


def test_a_scope_opens_a_scope_of_op_names_and_a_name_scope_renames_no_variable():
    with ps.variable_scope("foo"):
        x = 1.0 + ps.get_variable("v", [1])
        with ps.name_scope("bar"):
            w = ps.get_variable("w", [1])
            y = 1.0 + w
    assert x.op.name == "foo/add"
    assert y.op.name == "foo/bar/add"
    assert w.name == "foo/w:0"


def test_a_scope_entered_again_by_name_makes_new_op_names():
    with ps.variable_scope("foo") as first:
        assert ps.no_op().name == "foo/NoOp"
    with ps.variable_scope("foo") as second:
        assert ps.no_op().name == "foo_1/NoOp"
        assert ps.get_variable("v", [1]).name == "foo/v:0"
    assert (first.original_name_scope, second.original_name_scope) == ("foo/", "foo_1/")


def test_an_empty_name_stays_in_the_scope():
    with ps.variable_scope("foo"), ps.variable_scope("", reuse=ps.AUTO_REUSE) as scope:
        assert scope.name == "foo"
        assert ps.get_variable("v", [1]).name == "foo/v:0"
        assert ps.no_op().name == "foo/NoOp"


# Captured scopes.


def test_a_captured_scope_is_entered_with_its_own_name():
    with ps.variable_scope("foo") as foo:
        v = ps.get_variable("v", [1])
    with ps.variable_scope("bar"), ps.variable_scope("baz") as other:
        assert other.name == "bar/baz"
        with ps.variable_scope(foo) as again:
            assert again.name == "foo"
            w = ps.get_variable("w", [1])
            x = ps.no_op()
        assert ps.get_variable_scope().name == "bar/baz"
    assert w.name == "foo/w:0"
    assert x.name == "bar/baz/foo/NoOp"
    assert again.original_name_scope == "foo/"
    with ps.variable_scope(foo, reuse=True):
        assert ps.get_variable("v", [1]) is v
        assert ps.get_variable("w", [1]) is w


def test_entering_a_captured_scope_changes_nothing_in_it():
    with ps.variable_scope("foo") as foo:
        pass
    with ps.variable_scope(foo, reuse=True, dtype=ps.float64) as again:
        assert again.reuse is True
        assert again.dtype is ps.float64
    assert foo.reuse is False
    assert foo.dtype is ps.float32


# Reuse.


def test_reuse_is_off_at_first_and_inherited_and_ends_with_the_block():
    with ps.variable_scope("root"):
        assert ps.get_variable_scope().reuse is False
        with ps.variable_scope("foo"):
            assert ps.get_variable_scope().reuse is False
        with ps.variable_scope("foo", reuse=True):
            assert ps.get_variable_scope().reuse is True
            with ps.variable_scope("bar"):
                assert ps.get_variable_scope().reuse is True
            with ps.variable_scope("bar", reuse=False):
                assert ps.get_variable_scope().reuse is True
        assert ps.get_variable_scope().reuse is False


def test_reuse_can_be_switched_on_in_the_middle():
    with ps.variable_scope("foo"):
        v = ps.get_variable("v", [1])
        ps.get_variable_scope().reuse_variables()
        assert ps.get_variable("v", [1]) is v


def test_a_captured_scope_does_not_inherit_reuse_from_around():
    with ps.variable_scope("foo") as foo:
        pass
    with ps.variable_scope("bar", reuse=True), ps.variable_scope(foo) as again:
        assert again.reuse is False


def test_the_root_scope_can_be_entered_with_reuse():
    v = ps.get_variable("v", [1])
    with ps.variable_scope(ps.get_variable_scope(), reuse=True) as root:
        assert root.name == ""
        assert ps.get_variable("v", [1]) is v
        assert ps.no_op().name == "NoOp"
    with pytest.raises(ValueError, match="Variable v already exists"):
        ps.get_variable("v", [1])


# Default names.


def test_a_default_name_is_made_unique_and_begins_anew_in_a_scope_entered_again():
    names = []
    for _ in range(2):
        with ps.variable_scope(None, "d") as scope:
            names.append(scope.name)
    for _ in range(2):
        with ps.variable_scope("p"):
            for _ in range(2):
                with ps.variable_scope(None, "d") as scope:
                    names.append(scope.name)
    assert names == ["d", "d_1", "p/d", "p/d_1", "p/d", "p/d_1"]


def test_a_default_name_does_not_forget_what_a_captured_scope_opened():
    with ps.variable_scope("p") as p:
        with ps.variable_scope(None, "d") as first:
            pass
        with ps.variable_scope(p), ps.variable_scope(None, "d") as second:
            pass
        with ps.variable_scope(None, "d") as third:
            pass
    assert [scope.name for scope in (first, second, third)] == ["p/d", "p/d_1", "p/d_1"]


def test_a_given_name_comes_before_the_default_one():
    with ps.variable_scope("given", "default") as scope:
        assert scope.name == "given"


def test_variable_op_scope_takes_its_values_first():
    with ps.Graph().as_default():
        a = ps.constant(1.0)
    with ps.variable_op_scope([a], None, "my_op", initializer=ps.ones_initializer()) as scope:
        assert ps.get_default_graph() is a.graph
        assert scope.name == "my_op"
        assert ps.get_variable("v", [1]).graph is a.graph


def test_values_of_two_graphs_are_refused():
    with ps.Graph().as_default():
        a = ps.constant(1.0)
    with pytest.raises(ValueError, match="graph"), ps.variable_scope("s", values=[a, ps.zeros([])]):
        pass


# Defaults.


def test_a_scope_has_defaults_and_inner_ones_win(session):
    with ps.variable_scope("foo", initializer=ps.constant_initializer(0.4)):
        v = ps.get_variable("v", [1])
        w = ps.get_variable("w", [1], initializer=ps.constant_initializer(0.3))
        with ps.variable_scope("bar"):
            x = ps.get_variable("v", [1])
        with ps.variable_scope("baz", initializer=ps.constant_initializer(0.2)):
            y = ps.get_variable("v", [1])
    session.run(ps.initialize_all_variables())
    values = [float(value[0]) for value in session.run([v, w, x, y])]
    assert values == pytest.approx([0.4, 0.3, 0.4, 0.2])


def test_setters_set_the_defaults_from_then_on(session):
    with ps.variable_scope("foo") as scope:
        scope.set_initializer(ps.ones_initializer())
        scope.set_dtype(ps.float64)
        scope.set_caching_device("/job:worker")
        scope.set_partitioner(ps.fixed_size_partitioner(2))
        scope.set_regularizer(ps.no_regularizer)
        assert scope.initializer is not None
        assert scope.regularizer is ps.no_regularizer
        assert scope.caching_device == "/job:worker"
        assert scope.partitioner is not None
        v = ps.get_variable("v", [4])
        scope.set_partitioner(None)
        w = ps.get_variable("w", [4])
    assert isinstance(v, ps.PartitionedVariable)
    assert v.dtype is ps.float64
    assert w.value().device == "/job:worker"
    session.run(w.initializer)
    assert session.run(w.ref()).tolist() == [1, 1, 1, 1]


def test_a_scope_lists_its_own_variables():
    with ps.variable_scope("foo") as scope:
        v = ps.get_variable("v", [1])
        w = ps.get_variable("w", [1], trainable=False)
        local = ps.get_variable("l", [1], collections=[ps.GraphKeys.LOCAL_VARIABLES])
    ps.get_variable("foolish", [1])
    assert scope.global_variables() == [v, w]
    assert scope.trainable_variables() == [v, local]
    assert scope.local_variables() == [local]
    assert scope.get_collection(ps.GraphKeys.GLOBAL_VARIABLES) == [v, w]


def test_a_scope_can_be_made_by_hand():
    scope = ps.VariableScope(True, "foo", initializer=ps.ones_initializer(), dtype=ps.int32)
    assert (scope.reuse, scope.name, scope.dtype) == (True, "foo", ps.int32)
    assert repr(scope) == "<paramserve.VariableScope 'foo' reuse=True>"
    with ps.variable_scope(scope) as entered:
        assert (entered.reuse, entered.name, entered.dtype) == (True, "foo", ps.int32)


# What is refused.


@pytest.mark.parametrize("reuse", [3, "yes", 2.5])
def test_reuse_is_true_false_none_or_auto(reuse):
    with (
        pytest.raises(ValueError, match="The reuse parameter must be"),
        ps.variable_scope("s", reuse=reuse),
    ):
        pass


def test_a_name_is_needed():
    with pytest.raises(TypeError, match="name_or_scope is required"), ps.variable_scope(None):
        pass
    with pytest.raises(TypeError, match="must be a string or VariableScope"), ps.variable_scope(3):
        pass
    with (
        pytest.raises(ValueError, match="reuse=True cannot be used without a name_or_scope"),
        ps.variable_scope(None, "default", reuse=True),
    ):
        pass


def test_a_malformed_name_is_refused_and_leaves_the_scope():
    with pytest.raises(ValueError, match="scope name"), ps.variable_scope("a b"):
        pass
    assert ps.get_variable_scope().name == ""


def test_an_error_in_the_block_leaves_the_scope():
    with pytest.raises(RuntimeError, match="boom"), ps.variable_scope("foo"):
        raise RuntimeError("boom")
    assert ps.get_variable_scope().name == ""


# Graphs and threads.


def test_every_graph_has_its_own_scopes_and_variables():
    with ps.variable_scope("foo"):
        v = ps.get_variable("v", [1])
        with ps.Graph().as_default():
            assert ps.get_variable_scope().name == ""
            w = ps.get_variable("foo/v", [1])
    assert v.graph is not w.graph
    assert v.name == w.name


def test_every_thread_begins_in_the_root_scope_and_shares_the_variables(graph):
    found = []

    def other():
        with graph.as_default():
            found.append(ps.get_variable_scope().name)
            with ps.variable_scope("foo", reuse=True):
                found.append(ps.get_variable("v"))

    with ps.variable_scope("foo"):
        v = ps.get_variable("v", [1])
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert ps.get_variable_scope().name == "foo"
    assert found == ["", v]


def test_threads_that_ask_for_one_name_get_one_variable(graph):
    barrier = threading.Barrier(4)
    found = []

    def ask():
        with graph.as_default(), ps.variable_scope("s", reuse=ps.AUTO_REUSE):
            barrier.wait()
            found.append(ps.get_variable("v", [1]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert ps.global_variables() == [found[0]]

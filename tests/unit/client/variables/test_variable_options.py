"""What later releases of TensorFlow let a program say of a variable."""

import numpy as np
import pytest

import paramserve as ps


def nonnegative(value):
    return ps.maximum(value, 0.0)


# Constraints.


def test_an_optimizer_applies_the_constraint_after_its_update(session):
    v = ps.Variable([3.0, 1.0], constraint=nonnegative)
    free = ps.Variable([3.0, 1.0])
    step = ps.train.GradientDescentOptimizer(2.0).minimize(ps.reduce_sum(v) + ps.reduce_sum(free))
    session.run(ps.global_variables_initializer())
    session.run(step)
    assert session.run([v, free])[0].tolist() == [1.0, 0.0]
    assert session.run(free).tolist() == [1.0, -1.0]


def test_a_constraint_holds_for_sparse_updates_and_parts_of_variables(session):
    v = ps.get_variable(
        "v",
        [4, 1],
        initializer=ps.ones_initializer(),
        constraint=nonnegative,
        partitioner=ps.fixed_size_partitioner(2),
    )
    rows = ps.nn.embedding_lookup(v, [0, 3], partition_strategy="div")
    step = ps.train.AdagradOptimizer(5.0).minimize(ps.reduce_sum(rows))
    session.run(ps.global_variables_initializer())
    session.run(step)
    assert session.run(v).ravel().tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_scope_gives_its_constraint_to_new_variables():
    with ps.variable_scope("s", constraint=nonnegative) as scope:
        assert ps.get_variable("v", [1]).constraint is nonnegative
        assert ps.get_variable("w", [1], constraint=abs).constraint is abs
    with ps.variable_scope(scope):
        assert ps.get_variable("x", [1]).constraint is nonnegative
    assert ps.get_variable("v", [1]).constraint is None


# Reading anew.


def test_a_resource_variable_is_read_where_it_is_used(session):
    v = ps.Variable(1.0, use_resource=True)
    shared = ps.Variable(1.0, use_resource=False)
    with ps.control_dependencies([v.assign_add(1.0), shared.assign_add(1.0)]):
        after = [v + 0.0, ps.identity(v), v.value()]
    assert shared.value() is shared.value()
    session.run(ps.global_variables_initializer())
    assert session.run(after) == [2.0, 2.0, 2.0]


def test_a_resource_variable_has_gradients_and_works_in_branches_and_loops(session):
    v = ps.get_variable("v", initializer=2.0, use_resource=True)
    chosen = ps.cond(v > 1.0, lambda: v * 3.0, lambda: v)
    looped = ps.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * v), [0, 1.0])[1]
    gradients = ps.gradients([v * v, chosen], v)
    session.run(v.initializer)
    assert session.run([chosen, looped, *gradients]) == [6.0, 8.0, 7.0]


def test_a_scope_says_that_variables_are_read_anew():
    with ps.variable_scope("s", use_resource=True) as scope:
        v = ps.get_variable("v", [1])
        scope.set_use_resource(False)
        w = ps.get_variable("w", [1])
    assert v.value() is not v.value()
    assert w.value() is w.value()


# Copies.


def test_a_variable_that_is_synchronized_when_read_is_not_trained():
    on_read = ps.VariableSynchronization.ON_READ
    mean = ps.VariableAggregation.MEAN
    v = ps.get_variable("v", [1], synchronization=on_read, aggregation=mean)
    w = ps.Variable(1.0, aggregation=mean)
    assert (v.synchronization, v.aggregation, w.aggregation) == (on_read, mean, mean)
    assert ps.trainable_variables() == [w]


def test_a_variable_is_trainable_unless_the_program_says_no():
    made = [ps.get_variable(f"v{i}", [1], trainable=t) for i, t in enumerate((None, True, False))]
    made += [ps.Variable(1.0, trainable=t) for t in (None, True, False)]
    assert [v.trainable for v in made] == [True, True, False] * 2


# Local variables.


def test_a_local_variable_is_shared_by_name_and_neither_trained_nor_saved(session):
    with ps.variable_scope("s") as scope:
        v = ps.get_local_variable("v", [], ps.int32, collections=["mine"])
    with ps.variable_scope(scope, reuse=True):
        assert ps.get_local_variable("v") is v
    assert v.name == "s/v:0"
    assert ps.local_variables() == ps.get_collection("mine") == [v]
    assert ps.trainable_variables() == ps.global_variables() == []
    session.run(ps.local_variables_initializer())
    assert session.run(v) == 0


# Scopes without a scope of op names.


def test_a_scope_may_leave_the_names_of_ops_alone():
    with ps.variable_scope("outer"):
        with ps.variable_scope("inner", auxiliary_name_scope=False) as inner:
            assert ps.get_variable("v", []).name == "outer/inner/v:0"
            assert ps.no_op().name == "outer/NoOp"
        assert inner.original_name_scope == "outer/"
        with ps.name_scope("inner"):
            assert ps.no_op().name == "outer/inner/NoOp"
    with ps.variable_scope(None, "given", auxiliary_name_scope=False) as given:
        assert ps.get_variable("v", []).name == "given/v:0"
        assert ps.no_op().name == "NoOp"
    assert given.original_name_scope == ""


def test_a_scope_entered_again_may_go_back_to_its_first_op_names():
    with ps.variable_scope("a"), ps.variable_scope("b") as scope:
        pass
    with (
        ps.variable_scope(scope, auxiliary_name_scope=False) as again,
        ps.name_scope(again.original_name_scope),
    ):
        assert ps.no_op().name == "a/b/NoOp"
        assert ps.get_variable("v", []).name == "a/b/v:0"


def test_whether_to_leave_names_alone_is_a_bool():
    with (
        pytest.raises(TypeError, match="auxiliary_name_scope must be a bool, got 'no'"),
        ps.variable_scope("s", auxiliary_name_scope="no"),
    ):
        pass


# Partitioned variables as a whole.


def partitioned(shape=(5, 2)):
    options = {"partitioner": ps.fixed_size_partitioner(2)}
    return ps.get_variable("w", shape, initializer=ps.zeros_initializer(), **options)


def test_a_partitioned_variable_takes_a_value_of_the_whole(session):
    w = partitioned()
    new = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    session.run(ps.global_variables_initializer())
    assert [part.tolist() for part in session.run(w.assign(new))] == [
        new[:3].tolist(),
        new[3:].tolist(),
    ]
    session.run(w.assign_add(ps.ones([5, 2])))
    session.run(w.assign_sub(w, read_value=False))
    assert session.run(w).tolist() == np.zeros((5, 2)).tolist()


def test_a_partitioned_variable_takes_one_value_for_each_part(session):
    w = partitioned()
    session.run(ps.global_variables_initializer())
    session.run(w.assign([np.ones((3, 2)), np.full((2, 2), 2.0)]))
    assert session.run(w)[:, 0].tolist() == [1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="w: 3 values for 2 parts"):
        w.assign([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"w: a value of shape \(4, 2\) .* of shape \(5, 2\)"):
        w.assign(np.ones((4, 2)))


def test_the_whole_of_a_partitioned_variable_has_its_name():
    assert partitioned().as_tensor().name == "w:0"


def test_an_initializer_learns_where_its_part_begins():
    places = []

    def initializer(shape, dtype, partition_info):
        places.append((partition_info.single_slice_dim(shape), partition_info.single_offset(shape)))
        for wrong, text in (([9], "rank"), ([6, 2], "within"), ([1, 1], "not along one")):
            with pytest.raises(ValueError, match=text):
                partition_info.single_offset(wrong)
        return ps.zeros(shape, dtype)

    ps.get_variable("w", [5, 2], initializer=initializer, partitioner=ps.fixed_size_partitioner(2))
    ps.get_variable("v", [5, 2], initializer=initializer, partitioner=ps.fixed_size_partitioner(1))
    assert places == [(0, 0), (0, 3), (None, 0)]

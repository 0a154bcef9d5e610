"""Conditionals and gradients over variables that live on two servers."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def cluster():
    """Two parameter servers."""
    spec = {"ps": ["localhost:0"]}
    with ps.train.Server(spec) as one, ps.train.Server(spec) as two:
        addresses = [s.target.removeprefix("grpc://") for s in (one, two)]
        yield ps.train.ClusterSpec({"ps": dict(enumerate(addresses))})


def variable_on(task, value):
    with ps.device(f"/job:ps/task:{task}"):
        return ps.Variable(value)


def test_a_branch_may_use_variables_of_several_servers(cluster):
    a, b = variable_on(0, [1.0, 2.0]), variable_on(1, [10.0, 20.0])
    pred = ps.placeholder(ps.bool, [])
    result = ps.cond(pred, lambda: a * b, lambda: ps.cond(pred, lambda: a, lambda: b - a))
    by_a, by_b = ps.gradients(result, [a, b])
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        taken = sess.run([result, by_a, by_b], {pred: True})
        other = sess.run([result, by_a, by_b], {pred: False})
    assert [value.tolist() for value in taken] == [[10, 40], [10, 20], [1, 2]]
    assert [value.tolist() for value in other] == [[9, 18], [-1, -1], [1, 1]]


def test_a_predicate_may_be_computed_on_a_server(cluster):
    count = variable_on(0, 0)
    w = variable_on(1, 5.0)
    with ps.device(count.device):
        pred = ps.assign_add(count, 1) > 1
    result = ps.cond(pred, lambda: w * 2.0, lambda: ps.constant(-1.0))
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        assert [sess.run(result) for _ in range(3)] == [-1, 10, 10]


def test_only_the_variable_of_the_branch_taken_is_updated(cluster):
    a, b = variable_on(1, 0), variable_on(1, 0)
    pred = ps.placeholder(ps.bool, [])
    update = ps.cond(pred, lambda: ps.assign_add(a, 1), lambda: ps.assign_add(b, 1))
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        sess.run(update, {pred: True})
        sess.run(update, {pred: False})
        sess.run(update, {pred: False})
        assert sess.run([a, b]) == [1, 2]


def test_a_conditional_that_updates_variables_of_two_servers_is_refused(cluster):
    a, b = variable_on(0, 0), variable_on(1, 0)
    pred = ps.placeholder(ps.bool, [])
    update = ps.cond(pred, lambda: ps.assign_add(a, 1), lambda: ps.assign_add(b, 1))
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        with pytest.raises(ps.errors.InvalidArgumentError, match="must be on one task"):
            sess.run(update, {pred: True})
        assert sess.run([a, b]) == [0, 0]


def test_rows_of_a_table_on_two_servers_are_learned(cluster):
    table = [variable_on(i, np.zeros((3, 2), np.float32)) for i in range(2)]
    ids = ps.placeholder(ps.int64, [None])
    rows = ps.nn.embedding_lookup(table, ids)
    found = ps.gradients(ps.reduce_sum(ps.square(rows - 1.0)) / 2.0, table)
    updates = [
        ps.scatter_sub(part, rows.indices, rows.values)
        for part, rows in zip(table, found, strict=True)
    ]
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        sess.run(ps.group(*updates), {ids: [0, 3, 4]})
        even, odd = sess.run(table)
    assert even.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert odd.tolist() == [[0, 0], [1, 1], [0, 0]]

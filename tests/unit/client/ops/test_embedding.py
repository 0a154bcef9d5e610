"""A lookup reads the same rows however the table is split."""

import numpy as np
import pytest

import paramserve as ps

TABLE = np.arange(14, dtype=np.float32).reshape(7, 2)


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def parts_by_mod(count):
    return [TABLE[i::count] for i in range(count)]


def parts_by_div(count):
    return np.array_split(TABLE, count)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize(("strategy", "split"), [("mod", parts_by_mod), ("div", parts_by_div)])
@pytest.mark.parametrize("known", [True, False])
def test_every_id_finds_its_row(session, count, strategy, split, known):
    parts = [p if known else ps.placeholder_with_default(p, None) for p in split(count)]
    ids = ps.placeholder(ps.int64)
    rows = ps.nn.embedding_lookup(parts, ids, strategy)
    for wanted in (np.arange(7), np.array([[6, 0, 6]]), np.array(3), np.zeros([0, 2], np.int64)):
        assert session.run(rows, {ids: wanted}).tolist() == TABLE[wanted].tolist()


@pytest.mark.parametrize(("strategy", "split"), [("mod", parts_by_mod), ("div", parts_by_div)])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("bad", [-1, 7, 100])
def test_an_id_out_of_range_fails(session, strategy, split, count, bad):
    rows = ps.nn.embedding_lookup(split(count), ps.constant([0, bad]), strategy)
    with pytest.raises(ps.errors.InvalidArgumentError):
        session.run(rows)


def test_the_shape_is_known_as_far_as_the_tables_is(session):
    ids = ps.placeholder(ps.int32, [None, 3])
    assert ps.nn.embedding_lookup(parts_by_mod(2), ids).shape.as_list() == [None, 3, 2]
    unknown = [ps.placeholder(ps.float32, [None, None]) for _ in range(2)]
    assert ps.nn.embedding_lookup(unknown, ids).shape.as_list() == [None, 3, None]


def test_rows_are_gathered_where_the_parts_are(session):
    parts = []
    for i in range(2):
        with ps.device(f"/job:ps/task:{i}"):
            parts.append(ps.Variable(TABLE[i::2]))
    ps.nn.embedding_lookup(parts, [0, 1])
    gathers = [op for op in session.graph.get_operations() if op.type == "Gather"]
    assert [op.device for op in gathers] == [part.device for part in parts]


def test_gradients_are_rows_of_the_parts(session):
    parts = [ps.Variable(TABLE[i::2]) for i in range(2)]
    rows = ps.nn.embedding_lookup(parts, [0, 3, 4, 3])
    even, odd = ps.gradients(ps.reduce_sum(rows * [[1.0], [2.0], [3.0], [4.0]]), parts)
    session.run(ps.global_variables_initializer())
    even, odd = session.run([even, odd])
    assert (even.indices.tolist(), even.values.tolist()) == ([0, 2], [[1, 1], [3, 3]])
    assert (odd.indices.tolist(), odd.values.tolist()) == ([1, 1], [[2, 2], [4, 4]])


def test_a_partitioned_variable_is_a_table(session):
    with ps.variable_scope("scope", partitioner=ps.fixed_size_partitioner(3)):
        table = ps.get_variable("table", initializer=TABLE.copy(), shape=None)
    session.run(ps.global_variables_initializer())
    rows = ps.nn.embedding_lookup(table, [6, 0, 3], partition_strategy="div")
    assert session.run(rows).tolist() == TABLE[[6, 0, 3]].tolist()


def test_rows_beyond_the_norm_are_scaled_down(session):
    rows = session.run(ps.nn.embedding_lookup(TABLE, [[1], [6]], max_norm=4.0))
    norms = np.linalg.norm(rows, axis=-1)
    np.testing.assert_allclose(norms, [[np.sqrt(13)], [4.0]], rtol=1e-6)


def test_bad_arguments_are_refused(session):
    with pytest.raises(ValueError, match="params is empty"):
        ps.nn.embedding_lookup([], [0])
    with pytest.raises(ValueError, match="'mod' or 'div'"):
        ps.nn.embedding_lookup([TABLE], [0], partition_strategy="hash")

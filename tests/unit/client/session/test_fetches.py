"""Fetches: any structure, each element once, values that belong to the caller."""

from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import paramserve as ps
from paramserve._session.fetches import structure_key

Pair = namedtuple("Pair", "a b")


@pytest.fixture
def a():
    return ps.constant(1.0, name="a")


@pytest.fixture
def b():
    return ps.constant([2, 3], name="b")


def test_a_scalar_is_numpys_scalar_and_a_string_is_bytes(sess, a):
    value = sess.run(a)
    assert type(value) is np.float32
    assert value == 1.0
    assert sess.run(ps.constant("text")) == b"text"
    assert type(sess.run(ps.constant(True))) is np.bool_


def test_a_tensor_is_an_array_of_its_type(sess, b):
    value = sess.run(b)
    assert type(value) is np.ndarray
    assert value.dtype == np.int32
    assert value.tolist() == [2, 3]


def test_text_is_an_array_of_bytes(sess):
    value = sess.run(ps.constant(["a", "é"]))
    assert value.dtype == object
    assert value.tolist() == [b"a", "é".encode()]


def test_an_operation_is_none(sess, a):
    assert sess.run(a.op) is None
    assert sess.run(ps.no_op()) is None


def test_a_variable_is_its_value(sess):
    v = ps.Variable([1.0, 2.0], name="v")
    sess.run(v.initializer)
    assert sess.run(v).tolist() == [1.0, 2.0]
    assert sess.run([v, v.ref(), v.value()])[2].tolist() == [1.0, 2.0]


def test_names_stand_for_tensors_and_operations(sess, a):
    assert sess.run("a:0") == 1.0
    assert sess.run("a") is None
    assert sess.run(["a:0", "a"]) == [1.0, None]


def test_indexed_slices_are_a_named_tuple(sess, a, b):
    slices = ps.IndexedSlices(ps.constant([[1.0], [2.0]]), b)
    value = sess.run(slices)
    assert isinstance(value, ps.IndexedSlicesValue)
    assert value.values.tolist() == [[1.0], [2.0]]
    assert value.indices.tolist() == [2, 3]
    assert value.dense_shape is None
    whole = ps.IndexedSlices(slices.values, b, ps.constant([9, 1]))
    assert sess.run({"g": whole})["g"].dense_shape.tolist() == [9, 1]


@pytest.mark.parametrize(
    "structure",
    [
        lambda a, b: [a, b],
        lambda a, b: (a,),
        lambda a, b: Pair(a, b),
        lambda a, b: {"x": a, "y": [b, (a,)]},
        lambda a, b: OrderedDict(x=a, y=b),
        lambda a, b: [],
        lambda a, b: {},
        lambda a, b: [[], ({},)],
        lambda a, b: [a, a.op, "b:0", {"n": Pair([a], (b,))}],
    ],
)
def test_the_result_has_the_structure_of_the_fetches(sess, a, b, structure):
    values = {a: 1.0, b: [2, 3], "b:0": [2, 3], a.op: None}

    def check(fetch, found):
        if fetch.__class__ in (list, tuple, Pair):
            assert type(found) is type(fetch)
            assert len(found) == len(fetch)
            for item, value in zip(fetch, found, strict=True):
                check(item, value)
        elif isinstance(fetch, dict):
            assert type(found) is type(fetch)
            assert list(found) == list(fetch)
            for key, item in fetch.items():
                check(item, found[key])
        else:
            assert np.array_equal(found, values[fetch])

    check(structure(a, b), sess.run(structure(a, b)))
    check(structure(a, b), sess.run(structure(a, b)))


def test_a_dict_with_a_default_becomes_a_plain_dict(sess, a):
    fetches = defaultdict(list, x=a)
    assert sess.run(fetches) == {"x": 1.0}


def test_a_fetch_that_is_there_twice_is_computed_once(sess):
    counter = ps.Variable(0, name="counter")
    add = counter.assign_add(1)
    sess.run(counter.initializer)
    assert sess.run([add, {"again": add}, add.name, add.op]) == [1, {"again": 1}, 1, None]


def test_two_random_fetches_of_one_op_are_equal(sess):
    r = ps.random_uniform([4])
    first, second = sess.run([r, ps.identity(r)])
    np.testing.assert_array_equal(first, second)


def test_values_are_writable_and_the_callers_own(sess, b):
    v = ps.Variable([1.0, 2.0], name="v")
    sess.run(v.initializer)
    for fetch in (b, v, v.value(), ps.identity(v)):
        value = sess.run(fetch)
        value += 5
    assert sess.run(b).tolist() == [2, 3]
    assert sess.run(v).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("fetches", [None, [None], {"a": (None,)}])
def test_none_is_refused(sess, a, fetches):
    with pytest.raises(TypeError, match="Fetch argument None has invalid type"):
        sess.run(fetches)


@pytest.mark.parametrize("fetch", [3, 1.5, object(), np.ones(2)])
def test_what_is_no_element_of_a_graph_is_refused(sess, a, fetch):
    with pytest.raises(TypeError, match=r"has invalid type .*, must be a string or Tensor"):
        sess.run(fetch)


@pytest.mark.parametrize("name", ["nothing:0", "nothing", "a:7", "a:x"])
def test_a_name_that_is_not_there_is_refused(sess, a, name):
    with pytest.raises(ValueError, match=f"Fetch argument '{name}' cannot be interpreted"):
        sess.run(name)


def test_an_element_of_another_graph_is_refused(sess, a):
    with ps.Graph().as_default():
        other = ps.constant(1.0)
    with pytest.raises(ValueError, match=r"is not an element of this graph.* made in another"):
        sess.run(other)


def test_what_may_not_be_fetched_is_refused(sess, graph, a):
    graph.prevent_fetching(a.op)
    with pytest.raises(ValueError, match="has been marked as not fetchable"):
        sess.run(a)


def test_keys_of_structures_differ_when_the_structures_do(a, b):
    structures = [a, b, [a], (a,), [a, b], [b, a], [[a], b], {"x": a}, {"y": a}, {"x": [a]}, "a:0"]
    structures += [Pair(a, b), (a, b), OrderedDict(x=a), []]
    keys = [structure_key(structure) for structure in structures]
    assert len(set(keys)) == len(keys)
    assert structure_key({"x": [a, (b,)]}) == structure_key({"x": [a, (b,)]})


def test_a_name_may_be_bytes(sess):
    a = ps.constant(3, name="a")
    assert sess.run([b"a:0", b"a"]) == [3, None]
    assert sess.run(a + 1, {b"a:0": 4}) == 5

"""Feeds: any tensor, by any key; what does not fit is refused before anything is sent."""

import numpy as np
import pytest

import paramserve as ps


def test_every_kind_of_key_feeds_its_tensor(sess):
    x = ps.placeholder(ps.float32, [2], name="x")
    y = x * 2.0
    for key in (x, "x:0"):
        assert sess.run(y, {key: [1.0, 2.0]}).tolist() == [2.0, 4.0]


def test_any_tensor_may_be_fed_and_what_computes_it_does_not_run(sess):
    v = ps.Variable(1.0, name="v")
    doubled = v * 2.0
    assert sess.run(doubled + 1.0, {doubled: 10.0}) == 11.0
    assert sess.run(v.value() + 1.0, {v.value(): 3.0}) == 4.0
    assert sess.run(ps.identity(v.ref()), {v: 7.0}) == 7.0


def test_a_fed_tensor_can_be_fetched(sess):
    x = ps.placeholder(ps.float32, [2])
    fed = np.array([1, 2], np.float32)
    found = sess.run(x, {x: fed})
    found += 1
    assert fed.tolist() == [1.0, 2.0]


def test_indexed_slices_are_fed_by_a_tuple(sess):
    slices = ps.IndexedSlices(
        ps.placeholder(ps.float32, [None, 1]), ps.placeholder(ps.int64, [None])
    )
    out = [ps.identity(slices.values), ps.identity(slices.indices)]
    for value in (([[1.0]], [4]), ps.IndexedSlicesValue([[1.0]], [4])):
        values, indices = sess.run(out, {slices: value})
        assert values.tolist() == [[1.0]]
        assert indices.tolist() == [4]
    with pytest.raises(ValueError, match="wanted 2 values, found 1"):
        sess.run(out, {slices: ([[1.0]],)})
    with pytest.raises(TypeError, match="wanted a tuple of 2 values, found int"):
        sess.run(out, {slices: 3})


def test_indexed_slices_with_a_shape_are_fed_with_one(sess):
    slices = ps.IndexedSlices(
        ps.placeholder(ps.float32), ps.placeholder(ps.int32), ps.placeholder(ps.int32)
    )
    found = sess.run(slices, {slices: ([[1.0]], [4], [9, 1])})
    assert found.dense_shape.tolist() == [9, 1]


def test_a_tuple_of_keys_is_fed_by_a_tuple_of_values(sess):
    x, y, z = (ps.placeholder(ps.float32, []) for _ in range(3))
    total = x + y * z
    for _ in range(2):
        assert sess.run(total, {(x, (y, z)): (1.0, [2.0, 3.0])}) == 7.0
    with pytest.raises(ValueError, match="a tuple of keys: wanted 2 values, found 3"):
        sess.run(total, {(x, y): (1.0, 2.0, 3.0), z: 1.0})


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        (ps.float32, 2, 2.0),
        (ps.float32, 2.5, 2.5),
        (ps.float32, 1e300, np.inf),
        (ps.float32, float("nan"), np.nan),
        (ps.float32, np.float64(2.5), 2.5),
        (ps.float32, np.array(3), 3.0),
        (ps.float64, True, 1.0),
        (ps.float16, 65519, 65504.0),
        (ps.bfloat16, 1.5, 1.5),
        (ps.int32, -(2**31), -(2**31)),
        (ps.int64, 2**63 - 1, 2**63 - 1),
        (ps.uint64, 2**64 - 1, 2**64 - 1),
        (ps.uint8, np.int64(255), 255),
        (ps.int32, np.array(2.0), 2),
        (ps.bool, 1, True),
        (ps.bool, False, False),
        (ps.complex64, 1 + 2j, 1 + 2j),
        (ps.string, "é", "é".encode()),
        (ps.string, b"\xff", b"\xff"),
    ],
)
def test_a_value_takes_the_type_of_its_tensor(sess, dtype, value, wanted):
    x = ps.placeholder(dtype, [])
    found = sess.run(ps.identity(x), {x: value})
    if dtype is not ps.string:
        assert found.dtype == dtype.as_numpy_dtype
        np.testing.assert_equal(found.item(), wanted)
    else:
        assert found == wanted


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        (ps.uint8, 256, TypeError),
        (ps.uint8, -1, TypeError),
        (ps.int32, 2**31, TypeError),
        (ps.int32, np.int64(2**40), TypeError),
        (ps.int64, 2**100, TypeError),
        (ps.int32, 1.5, TypeError),
        (ps.float32, 1j, TypeError),
        (ps.float32, np.complex64(1j), TypeError),
        (ps.float32, "1.5", TypeError),
        (ps.float32, np.array(["a"]), TypeError),
        (ps.float32, None, ValueError),
        (ps.float32, object(), TypeError),
        (ps.float32, [1.0, [2.0]], ValueError),
        (ps.bool, "yes", TypeError),
        (ps.string, 3, TypeError),
        (ps.string, np.array([1, 2]), TypeError),
        (ps.string, np.array([b"a", 3], object), TypeError),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_refused_before_anything_is_sent(
    watched, dtype, value, error
):
    x = ps.placeholder(dtype, name="fed")
    with ps.Session() as sess:
        for _ in range(2):
            with pytest.raises(error, match=r"Cannot feed .*'fed:0'"):
                sess.run(ps.identity(x), {x: value})
        assert watched[0].calls == []


@pytest.mark.parametrize("shape", [[2], [None, 3], []])
def test_a_shape_that_does_not_fit_is_refused_before_anything_is_sent(watched, shape):
    x = ps.placeholder(ps.float32, shape, name="fed")
    with ps.Session() as sess:
        with pytest.raises(ValueError, match=r"value of shape \(4,\) for Tensor 'fed:0', which"):
            sess.run(x, {x: np.ones(4)})
        assert watched[0].calls == []


def test_an_unknown_size_takes_any(sess):
    x = ps.placeholder(ps.float32, [None, 2])
    total = ps.reduce_sum(x)
    for rows in range(3):
        assert sess.run(total, {x: np.ones((rows, 2), np.float32)}) == 2 * rows


def test_a_value_may_be_of_any_layout_and_byte_order(sess):
    x = ps.placeholder(ps.float32, [2, 3])
    values = np.arange(6).reshape(3, 2).T.astype(">f4")
    for value in (values, values.astype(np.float32), np.asfortranarray(values)):
        np.testing.assert_array_equal(sess.run(ps.identity(x), {x: value}), values)


def test_what_was_fed_can_be_changed_afterwards(sess):
    x = ps.placeholder(ps.float32, [2])
    v = ps.Variable([0.0, 0.0], name="v")
    set_v = v.assign(x)
    fed = np.array([1, 2], np.float32)
    sess.run(set_v.op, {x: fed})
    fed += 10
    assert sess.run(v).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("make", [lambda: ps.constant(1.0), lambda: ps.Variable(1.0)])
def test_a_tensor_or_variable_is_no_value(sess, make):
    x = ps.placeholder(ps.float32)
    with pytest.raises(TypeError, match=r"The value of a feed cannot be a tf\.Tensor"):
        sess.run(x, {x: make()})


@pytest.mark.parametrize("key", ["nothing:0", "x", 3, None])
def test_a_key_that_is_no_tensor_is_refused(sess, key):
    x = ps.placeholder(ps.float32, name="x")
    with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor"):
        sess.run(x, {key: 1.0})


def test_a_key_of_another_graph_is_refused(sess):
    x = ps.placeholder(ps.float32)
    with ps.Graph().as_default():
        other = ps.placeholder(ps.float32)
    with pytest.raises(TypeError, match="is not an element of this graph"):
        sess.run(x, {other: 1.0})


def test_a_tensor_that_is_fed_twice_is_refused(sess):
    x = ps.placeholder(ps.float32, name="x")
    with pytest.raises(ValueError, match=r"'x:0'.* is fed twice"):
        sess.run(x, {x: 1.0, "x:0": 2.0})


def test_what_may_not_be_fed_is_refused(sess, graph):
    x = ps.placeholder(ps.float32)
    graph.prevent_feeding(x)
    with pytest.raises(ValueError, match="may not be fed"):
        sess.run(x, {x: 1.0})


@pytest.mark.parametrize("feeds", [[1], "x:0", 3])
def test_feeds_that_are_no_dict_are_refused(sess, feeds):
    x = ps.placeholder(ps.float32, name="x")
    with pytest.raises(TypeError, match="feed_dict must be a dictionary"):
        sess.run(x, feeds)


def test_a_placeholder_that_is_needed_and_not_fed_is_named(sess):
    x = ps.placeholder(ps.float32, [2], name="wanted")
    with pytest.raises(ps.errors.InvalidArgumentError, match="placeholder tensor 'wanted'") as info:
        sess.run(x + 1.0)
    assert info.value.op is x.op
    assert "test_feeds.py" in info.value.created_at


def test_a_placeholder_with_default_need_not_be_fed(sess):
    x = ps.placeholder_with_default([1.0], [None])
    assert sess.run(x + 1.0).tolist() == [2.0]
    assert sess.run(x + 1.0, {x: [4.0, 5.0]}).tolist() == [5.0, 6.0]


def test_a_number_that_is_too_large_is_not_compatible_with_the_type(sess):
    x = ps.placeholder(ps.int32)
    for value in (1 << 40, np.int64(1 << 40)):
        with pytest.raises(TypeError, match="776 is not compatible with Tensor type int32"):
            sess.run(x, {x: value})


@pytest.mark.parametrize(
    ("number", "value", "error"),
    [
        (3, np.ones(3, np.float32), "Cannot feed value of shape"),
        (0, np.ones(2, np.complex64), "Cannot feed"),
        (9, None, "Cannot feed"),
    ],
)
def test_one_of_many_values_that_does_not_fit_is_refused_before_anything_is_sent(
    watched, number, value, error
):
    keys = [ps.placeholder(ps.float32, [2], name=f"x{i}") for i in range(10)]
    values = [np.ones(2, np.float32)] * 10
    values[number] = value
    with ps.Session() as sess:
        with pytest.raises((TypeError, ValueError), match=error):
            sess.run(ps.add_n(keys), dict(zip(keys, values, strict=True)))
        assert watched[0].calls == []


def test_many_values_of_other_types_are_converted(sess):
    keys = [ps.placeholder(ps.float32, [2]) for _ in range(10)]
    values = [np.ones(2, np.float32)] * 8 + [[1.0, 1.0], np.ones(2, np.int32)]
    assert sess.run(ps.add_n(keys), dict(zip(keys, values, strict=True))).tolist() == [10.0, 10.0]

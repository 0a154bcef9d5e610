"""Arrays that a session feeds from: their kind, their shape, and that they stay the caller's."""

import math

import numpy as np
import pytest

import paramserve as ps
from paramserve._session.buffers import new_buffer


@pytest.fixture
def sess():
    with ps.Graph().as_default(), ps.Session() as sess:
        yield sess


def test_a_buffer_is_an_array_of_zeros(sess):
    buffer = sess.buffer([3, 2], ps.bfloat16)
    assert type(buffer) is np.ndarray
    assert (buffer.shape, buffer.dtype) == ((3, 2), ps.bfloat16.as_numpy_dtype)
    assert buffer.flags.writeable
    assert not buffer.any()
    assert sess.buffer(5).dtype == np.float32
    assert sess.buffer([]).shape == ()


def test_a_buffer_is_like_a_placeholder_a_variable_or_an_array(sess):
    fed = ps.placeholder(ps.int64, [2, 3])
    v = ps.Variable(ps.zeros([4], ps.float64))
    for like in (fed, v, np.ones((5, 1), np.complex64)):
        buffer = sess.buffer_like(like)
        assert list(buffer.shape) == list(like.shape)
        assert ps.as_dtype(buffer.dtype) == ps.as_dtype(like.dtype).base_dtype


def test_a_buffer_needs_a_whole_shape(sess):
    with pytest.raises(ValueError, match=r"shape \(\?, 3\): say how long each axis is"):
        sess.buffer_like(ps.placeholder(ps.float32, [None, 3]))
    with pytest.raises(ValueError, match="say how long"):
        sess.buffer(None)


def test_a_buffer_of_strings_or_like_a_shape_is_refused(sess):
    with pytest.raises(TypeError, match="a buffer of strings"):
        sess.buffer([2], ps.string)
    with pytest.raises(TypeError, match=r"got 'list'; session\.buffer"):
        sess.buffer_like([2, 3])


def test_a_buffer_is_the_callers_again_after_each_step(sess):
    fed = ps.placeholder(ps.float32, [1000])
    v = ps.Variable(ps.zeros([1000]))
    assign, add = v.assign(fed).op, v.assign_add(fed)
    buffer = sess.buffer_like(fed)
    buffer[:] = 1
    sess.run(assign, {fed: buffer})
    buffer[:] = 2
    fetched, same = sess.run([add, fed], {fed: buffer})
    buffer[:] = 9
    assert (fetched == 3).all()
    assert (same == 2).all()
    assert (sess.run(v) == 3).all()


@pytest.mark.parametrize("shape", [[2**50], [2**40, 2**40]])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_buffer_larger_than_memory_is_refused_with_its_size(shape, is_shared):
    nbytes = 4 * math.prod(shape)
    with pytest.raises(ps.errors.ResourceExhaustedError, match=f"float32, has {nbytes} bytes"):
        new_buffer(shape, ps.float32, is_shared=is_shared)

"""Arrays as messages, rows as tensors, collections as a list of names."""

import numpy as np
import pytest

import paramserve as ps
from paramserve_protos.v1.tensor_pb2 import TensorProto


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.mark.parametrize("value", [3, [1.5, 2.5], [[1], [2]], "text", [True, False], np.int8([7])])
def test_a_value_comes_back_from_its_message(value):
    message = ps.make_tensor_proto(value)
    assert isinstance(message, TensorProto)
    expected = b"text" if value == "text" else np.asarray(value).tolist()
    assert ps.make_ndarray(message).tolist() == expected


def test_a_message_has_the_type_and_shape_that_were_asked_for():
    message = ps.make_tensor_proto([1, 2], ps.float64, shape=[3])
    array = ps.make_ndarray(message)
    assert (array.dtype, array.tolist()) == (np.float64, [1.0, 2.0, 2.0])
    with pytest.raises(TypeError, match="shape"):
        ps.make_tensor_proto([1, 2], shape=[3], verify_shape=True)


def test_a_malformed_message_is_refused():
    with pytest.raises(ValueError, match="tensor message"):
        ps.make_ndarray(TensorProto(dtype=999))


def test_rows_know_the_shape_of_the_whole():
    rows, numbers = ps.ones([2, 3]), ps.constant([0, 4])
    assert ps.IndexedSlices(rows, numbers, ps.constant([5, 3])).shape.as_list() == [5, 3]
    assert ps.IndexedSlices(rows, numbers).shape.ndims is None


def test_rows_times_a_scalar_are_rows():
    rows = ps.scalar_mul(-2.0, ps.IndexedSlices(ps.ones([2, 3]), ps.constant([0, 4])))
    assert isinstance(rows, ps.IndexedSlices)
    with ps.Session() as session:
        values, numbers = session.run([rows.values, rows.indices])
    assert (values.tolist(), numbers.tolist()) == ([[-2.0] * 3] * 2, [0, 4])


def test_a_graph_lists_its_collections(graph):
    assert graph.collections == []
    graph.add_to_collection("mine", 1)
    graph.add_to_collection(("not", "a string"), 2)
    assert graph.collections == ["mine"]

"""`py_func`: Python functions in a graph."""

import gc
import weakref

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def sess():
    with ps.Session() as session:
        yield session


def test_a_function_gets_values_and_gives_a_tensor(sess):
    x = ps.placeholder(ps.float32, [None])
    y = ps.py_func(np.sinh, [x], ps.float32)
    assert y.dtype is ps.float32
    assert y.get_shape().ndims is None
    np.testing.assert_allclose(sess.run(y + 1, {x: [0.0, 1.0]}), np.sinh([0, 1]) + 1, rtol=1e-6)


def test_several_types_make_several_tensors(sess):
    outputs = ps.py_func(lambda: (np.int32(3), "é", [True]), [], [ps.int32, ps.string, ps.bool])
    a, b, c = sess.run(outputs)
    assert a == 3
    assert b == "é".encode()
    np.testing.assert_array_equal(c, [True])


def test_no_types_make_an_operation(sess):
    called = []
    op = ps.py_func(lambda x: called.append(x), [ps.constant(2)], [], name="record")
    assert isinstance(op, ps.Operation)
    assert op.name == "record"
    assert sess.run(op) is None
    assert called == [2]


def test_what_has_no_dimensions_arrives_as_a_scalar(sess):
    seen = []
    inputs = [ps.constant("s"), ps.constant(["a"]), ps.constant(1), 2.0]
    sess.run(ps.py_func(lambda *values: seen.extend(values), inputs, []))
    assert [type(value) for value in seen] == [bytes, np.ndarray, np.int32, np.float32]


def test_the_function_cannot_write_to_its_inputs(sess):
    v = ps.Variable([1.0, 2.0])

    def write(values):
        values[0] = 9

    op = ps.py_func(write, [v], [])
    sess.run(v.initializer)
    with pytest.raises(ps.errors.InvalidArgumentError, match="read-only"):
        sess.run(op)
    np.testing.assert_array_equal(sess.run(v), [1, 2])


def test_the_function_may_keep_and_change_what_it_returned(sess):
    buffer = np.zeros(2, np.float32)

    def count():
        buffer[:] += 1
        return buffer

    v = ps.Variable([0.0, 0.0])
    store = ps.assign(v, ps.py_func(count, [], ps.float32), validate_shape=False)
    sess.run(v.initializer)
    sess.run(store)
    buffer[:] = 100
    np.testing.assert_array_equal(sess.run(v), [1, 1])


@pytest.mark.parametrize(
    ("result", "types", "message"),
    [
        (3, ps.float32, r"the 1\. value that pyfunc_\d+ returns is int64, but float32 is expected"),
        (1.5, ps.float32, "is float64, but float32 is expected; convert it"),
        ([1, 2], ps.int64, "returns 2 values, but 1 are expected"),
        (None, ps.float32, "is NoneType, but float32 is expected"),
        (3, ps.string, "is int64, but strings are expected"),
        ([[1, [2]]], [ps.int64], "is ragged"),
    ],
)
def test_a_result_of_another_type_or_number_is_refused(sess, result, types, message):
    y = ps.py_func(lambda: result, [], types)
    with pytest.raises(ps.errors.InvalidArgumentError, match=message):
        sess.run(y)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StopIteration("x"), ps.errors.OutOfRangeError),
        (ValueError("x"), ps.errors.InvalidArgumentError),
        (TypeError("x"), ps.errors.InvalidArgumentError),
        (MemoryError("x"), ps.errors.ResourceExhaustedError),
        (NotImplementedError("x"), ps.errors.UnimplementedError),
        (ZeroDivisionError("x"), ps.errors.UnknownError),
        (ps.errors.AbortedError(None, None, "x"), ps.errors.AbortedError),
    ],
)
def test_an_exception_becomes_an_error_of_the_step(sess, error, kind):
    def fails():
        raise error

    y = ps.py_func(fails, [], ps.float32, name="fails")
    with pytest.raises(kind, match="x") as found:
        sess.run(y)
    assert found.value.node_name == "fails"
    if not isinstance(error, ps.OpError):
        assert "in fails" in found.value.message


def test_an_op_says_whether_equal_inputs_may_give_different_outputs(graph):
    ps.py_func(len, [ps.constant([1])], ps.int64, name="a")
    ps.py_func(len, [ps.constant([1])], ps.int64, stateful=False, name="b")
    assert graph.get_operation_by_name("a").type == "PyFunc"
    assert graph.get_operation_by_name("b").type == "PyFuncStateless"


def test_a_function_has_no_gradient():
    x = ps.constant([1.0])
    y = ps.py_func(np.sinh, [x], ps.float32)
    assert ps.gradients(y, [x]) == [None]


def test_a_graph_keeps_its_functions_and_lets_them_go_with_itself():
    def function():
        return np.float32(1)

    alive = weakref.ref(function)
    graph = ps.Graph()
    with graph.as_default():
        y = ps.py_func(function, [], ps.float32)
    del function
    gc.collect()
    with ps.Session(graph=graph) as session:
        assert session.run(y) == 1
    del graph, y, session
    gc.collect()
    assert alive() is None


def test_a_token_of_another_process_is_not_found():
    x = ps.py_func(len, [ps.constant([1])], ps.int64, name="f")
    message = x.graph.as_graph_def()
    next(node for node in message.node if node.name == "f").attr["token"].s = b"pyfunc_from_afar"
    with ps.Graph().as_default():
        ps.import_graph_def(message, name="")
        with ps.Session() as session, pytest.raises(ps.errors.NotFoundError, match="from_afar"):
            session.run("f:0")


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="func must be callable, got 3"):
        ps.py_func(3, [], ps.float32)

"""One op, run here and by TensorFlow: what the tests of kernels are made of.

`run` makes a graph of one node and runs it as a stage; `run_oracle` gives TensorFlow the same
graph, byte for byte. `assert_agrees` compares the two (values, or the class of the error) and also
holds the op's shape function to what the kernel gave. Attributes that follow from the inputs (types
and counts) need not be given; an input that is a list of tensors is given as a list.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from graph_builder import GraphBuilder
from paramserve_core import dtypes, errors
from paramserve_core.dtypes import DType
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.graphdef import decode_attrs
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.opdefs import ShapeContext, find_op
from paramserve_core.opdefs.registry import OpDef
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import graph_pb2

Array = np.ndarray[Any, Any]
Input = Any
"""An array, what NumPy makes one of, or for a list argument a list of those."""

# How far two correct kernels may be apart: some roundings in the type they compute in.
_RTOL = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "complex64": 2e-5}
_DEFAULT_RTOL = 1e-10


def few_examples(count: int = 25) -> hypothesis.settings:
    """Settings of a differential test: the same examples on every run of CI."""
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def tensorflow() -> Any:
    """The oracle's module; skips the test where it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")


def make_step(entropy: int = 0) -> StepContext:
    """A step of a session of its own, on an empty store."""
    return StepContext(VariableStore(), RandomStreams(entropy))


def run(op: str, *inputs: Input, step: StepContext | None = None, **attrs: Any) -> list[Array]:
    """The outputs of our kernel.

    Raises:
        OpError: what the kernel, or the compilation of its node, raised.
    """
    graph, arrays = _graph(op, inputs, attrs)
    names, count = _placeholders(graph), len(_output_dtypes(graph))
    program = Program([graph.node[-1]], received=names, returned=[f"op:{i}" for i in range(count)])
    given = [a.copy() for a in arrays]
    for array in given:
        array.flags.writeable = False
    return program.run(step or make_step(), given, {})


class Case:
    """The inputs and attributes of one call of an op."""

    def __init__(self, *inputs: Input, **attrs: Any) -> None:
        self.inputs = inputs
        self.attrs = attrs

    def __repr__(self) -> str:
        return f"Case(*{self.inputs}, **{self.attrs})"


def run_oracle(tf: Any, op: str, *inputs: Input, **attrs: Any) -> list[Array]:
    """The outputs of TensorFlow's kernel.

    Raises:
        OpError: ours of the same name as TensorFlow's error; its refusal to make the node at all
            is an InvalidArgumentError.
        LookupError: TensorFlow has no kernel for these types on a CPU.
    """
    graph, arrays = _graph(op, inputs, attrs)
    try:
        call = _oracle_call(tf, graph.SerializeToString())
        return list(call(*arrays))
    except tf.errors.OpError as error:
        if "No OpKernel was registered" in error.message or "Unsupported data" in error.message:
            raise LookupError(error.message) from None
        raise getattr(errors, type(error).__name__)(None, None, error.message) from None
    except ValueError as error:
        raise errors.InvalidArgumentError(None, None, str(error)) from None


def assert_agrees(
    tf: Any,
    op: str,
    *inputs: Input,
    rtol: float | None = None,
    atol: float = 0.0,
    **attrs: Any,
) -> None:
    """Both give equal outputs, or an error of one class; the shape function fits them.

    Args:
        tf: what `tensorflow` answers.
        op: the op's type.
        inputs: one per argument of the op.
        rtol: relative tolerance for floats; by default some roundings of the type.
        atol: absolute tolerance for floats.
        attrs: attributes as Python values.
    """
    theirs = _outcome(lambda: run_oracle(tf, op, *inputs, **attrs))
    ours = _outcome(lambda: run(op, *inputs, **attrs))
    if isinstance(ours, errors.OpError) or isinstance(theirs, errors.OpError):
        assert type(ours) is type(theirs), f"ours: {ours}\ntheirs: {theirs}"
        return
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other, rtol=rtol, atol=atol)
    assert_shapes_fit(op, *inputs, outputs=ours, **attrs)


def _outcome(call: Callable[[], list[Array]]) -> list[Array] | errors.OpError:
    try:
        return call()
    except errors.OpError as error:
        return error


def assert_same(ours: Array, theirs: Array, rtol: float | None = None, atol: float = 0.0) -> None:
    """Two arrays are of one type and shape, and equal up to rounding; nan equals nan."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    dtype = dtypes.as_dtype(ours.dtype)
    if not (dtype.is_floating or dtype.is_complex):
        assert np.array_equal(ours, theirs), f"{ours} differs from {theirs}"
        return
    if rtol is None:
        rtol = _RTOL.get(dtype.name, _DEFAULT_RTOL)
    wide = np.complex128 if dtype.is_complex else np.float64
    np.testing.assert_allclose(ours.astype(wide), theirs.astype(wide), rtol=rtol, atol=atol)


def assert_shapes_fit(op: str, *inputs: Input, outputs: Sequence[Array], **attrs: Any) -> None:
    """The shape function allows what the kernel gave, knowing nothing, and knowing everything."""
    graph, arrays = _graph(op, inputs, attrs)
    for known in (False, True):
        shapes = _inferred(graph, arrays, known)
        assert len(shapes) == len(outputs)
        for shape, output in zip(shapes, outputs, strict=True):
            assert shape.is_compatible_with(output.shape), f"{op}: inferred {shape}"


def infer_shapes(op: str, *inputs: Input, **attrs: Any) -> list[TensorShape]:
    """What the op's shape function says when all inputs are known constants.

    Raises:
        ValueError: the function refuses the inputs.
    """
    graph, arrays = _graph(op, inputs, attrs)
    return _inferred(graph, arrays, known=True)


def _inferred(graph: graph_pb2.GraphDef, arrays: Sequence[Array], known: bool) -> list[TensorShape]:
    node = graph.node[-1]
    definition = _definition(node.op)
    attrs = decode_attrs(node, definition)

    def partial_of(index: int) -> TensorShape:
        if not known:
            return TensorShape(None)
        return TensorShape([None if size < 0 else int(size) for size in arrays[index]])

    context = ShapeContext(
        op=node.op,
        name=node.name,
        attrs=attrs,
        input_shapes=[TensorShape(a.shape if known else None) for a in arrays],
        input_dtypes=definition.input_dtypes(attrs),
        constant_of=lambda index: arrays[index] if known else None,
        partial_of=partial_of,
    )
    return list(definition.shape(context))


def _definition(op: str) -> OpDef:
    definition = find_op(op)
    assert definition is not None, f"there is no op {op!r}"
    return definition


def _graph(
    op: str, inputs: Sequence[Input], attrs: dict[str, Any]
) -> tuple[graph_pb2.GraphDef, list[Array]]:
    """A graph of placeholders and, last, the node "op"; and the value of each placeholder."""
    definition = _definition(op)
    assert len(inputs) == len(definition.inputs), f"{op} takes {len(definition.inputs)} inputs"
    attrs, arrays = dict(attrs), []
    for arg, value in zip(definition.inputs, inputs, strict=True):
        given = [as_tensor(v) for v in value] if arg.is_list else [as_tensor(value)]
        types = [dtypes.as_dtype(a.dtype) for a in given]
        if arg.number_attr is not None:
            attrs.setdefault(arg.number_attr, len(given))
        if arg.type_list_attr is not None:
            attrs.setdefault(arg.type_list_attr, types)
        elif arg.type_attr is not None and types:
            attrs.setdefault(arg.type_attr, types[0])
        arrays += given
    builder = GraphBuilder()
    names = [
        builder.node("Placeholder", f"in{i}", dtype=dtypes.as_dtype(a.dtype), shape=None)
        for i, a in enumerate(arrays)
    ]
    builder.node(op, "op", *names, **attrs)
    return builder.graph, arrays


def as_tensor(value: Any) -> Array:
    """An array of a type that tensors have; text becomes an object array of bytes."""
    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    if array.dtype.kind in "SU":
        texts = [t if isinstance(t, bytes) else t.encode() for t in array.reshape(-1).tolist()]
        array = np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)
    return array


def _placeholders(graph: graph_pb2.GraphDef) -> list[str]:
    return [f"{node.name}:0" for node in graph.node[:-1]]


def _output_dtypes(graph: graph_pb2.GraphDef) -> tuple[DType, ...]:
    node = graph.node[-1]
    definition = _definition(node.op)
    return definition.output_dtypes(decode_attrs(node, definition))


@functools.lru_cache(maxsize=64)
def _oracle_call(tf: Any, serialized: bytes) -> Any:
    """A function of the placeholders' values that runs the graph's last node in a session."""
    message = tf.compat.v1.GraphDef.FromString(serialized)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(message, name="")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    # The kernel is to run, not what the optimizer would put in its place.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    session = tf.compat.v1.Session(graph=graph, config=config)
    outputs = list(graph.get_operation_by_name("op").outputs)
    feeds = [graph.get_tensor_by_name(f"{node.name}:0") for node in message.node[:-1]]

    def call(*arrays: Array) -> list[Array]:
        values = session.run(outputs, dict(zip(feeds, arrays, strict=True)))
        return [as_tensor(value) for value in values]

    return call


def shapes(
    min_rank: int = 0, max_rank: int = 3, min_size: int = 0, max_size: int = 4
) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of small tensors."""
    sizes = st.integers(min_size, max_size)
    return st.lists(sizes, min_size=min_rank, max_size=max_rank).map(tuple)


def axes(rank: int) -> st.SearchStrategy[int]:
    """An axis of a tensor of `rank` dimensions, counted from either end."""
    return st.integers(-rank, rank - 1)


def index_types() -> st.SearchStrategy[type[np.signedinteger[Any]]]:
    """The types that most ops take axes, shapes and indices in."""
    return st.sampled_from([np.int32, np.int64])


@st.composite
def tensors(
    draw: st.DrawFn,
    dtype: DType | st.SearchStrategy[DType],
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    low: int = -8,
    high: int = 8,
) -> Array:
    """Arrays of small numbers, which every type adds and multiplies without much rounding.

    Args:
        draw: given by hypothesis.
        dtype: a type, or a strategy for one.
        shape: a shape, or a strategy for one; any small one by default.
        low: the least number; 0 for unsigned types.
        high: the greatest.
    """
    kind = dtype if isinstance(dtype, DType) else draw(dtype)
    if not isinstance(shape, tuple | list):
        shape = draw(shapes() if shape is None else shape)
    # One seed instead of one draw per element: examples stay small and drawing fast.
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    if kind.is_bool:
        return random.random(shape) < 0.5
    if kind is dtypes.string:
        texts = [b"", b"a", b"bc", "\u00e9".encode(), b"\xff\x00"]
        flat = np.empty(int(np.prod(shape)), object)
        flat[:] = [texts[i] for i in random.integers(len(texts), size=flat.size)]
        return flat.reshape(shape)
    if kind.is_unsigned:
        low = max(low, 0)
    numbers = random.integers(low, high, endpoint=True, size=shape)
    if kind.is_integer:
        return np.asarray(numbers, kind.as_numpy_dtype)
    fractions = numbers + random.integers(0, 4, size=shape) / 4
    if kind.is_complex:
        fractions = fractions + 1j * random.integers(low, high, endpoint=True, size=shape)
    return np.asarray(fractions, kind.as_numpy_dtype)

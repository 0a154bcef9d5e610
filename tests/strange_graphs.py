"""Graphs as a stranger might send them: mostly right, some of them with one thing wrong.

Random ops on small constants of several shapes and types, with attributes of the right kind, so
that shape functions and kernels see combinations that nobody thought of.
"""

from __future__ import annotations

import math
import random

import numpy as np

from paramserve_core.dtypes import as_dtype, float32
from paramserve_core.errors import OpError
from paramserve_core.graphdef import decode_attrs
from paramserve_core.opdefs import all_ops
from paramserve_core.opdefs.registry import REQUIRED
from paramserve_core.tensors import make_tensor_proto
from paramserve_protos.v1 import attr_value_pb2, graph_pb2, types_pb2

_OPS = sorted(all_ops())
_TYPES = [types_pb2.DT_FLOAT, types_pb2.DT_INT32, types_pb2.DT_INT64, types_pb2.DT_BOOL]
_ODD_TYPES = [0, 7, 99, 101, types_pb2.DT_COMPLEX64, types_pb2.DT_BFLOAT16]
_SIZES = [-1, -1, 0, 1, 2, 2, 3, 2**40, -2]


def strange_graph(seed: int) -> graph_pb2.GraphDef:
    """A graph of random ops on small constants; the same for the same seed."""
    return _Stranger(seed).write()


class _Stranger:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.graph = graph_pb2.GraphDef()
        self.outputs = []

    def write(self):
        for value in ([[1, 2], [3, 4]], [0, 1], [2, -1], 1, 0, -3, [], [[[7]]]):
            for numpy_type in (np.float32, np.int32, np.int64, np.bool_):
                self._constant(np.array(value).astype(numpy_type))
        self._variable()
        for _ in range(self.random.randint(1, 5)):
            self._node(self.random.choice(_OPS))
        if not self.random.randrange(4):
            self._damage(self.random.choice(self.graph.node))
        return self.graph

    def _constant(self, array):
        node = self._add("Const")
        dtype = as_dtype(array.dtype)
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(make_tensor_proto(array))
        self.outputs.append((node.name, dtype))

    def _variable(self):
        node = self._add("VariableV2")
        node.attr["dtype"].type = types_pb2.DT_FLOAT
        node.attr["shape"].shape.dim.add(size=2)
        self.outputs.append((node.name, float32.as_ref))

    def _add(self, op):
        return self.graph.node.add(name=f"n{len(self.graph.node)}", op=op)

    def _node(self, op):
        node = self._add(op)
        definition = all_ops()[op]
        for key, attr in definition.attrs.items():
            if attr.default is REQUIRED or self.random.random() < 0.3:
                self._set(node.attr[key], attr)
        try:
            attrs = decode_attrs(node, definition)
        except OpError:
            del self.graph.node[-1]
            return
        for dtype in definition.input_dtypes(attrs):
            fitting = [n for n, given in self.outputs if dtype in (given, given.base_dtype)]
            if not fitting:
                del self.graph.node[-1]
                return
            node.input.append(self.random.choice(fitting))
        if not self.random.randrange(5):
            node.input.append("^n1")
        for index, dtype in enumerate(definition.output_dtypes(attrs)):
            self.outputs.append((f"{node.name}:{index}", dtype))

    def _set(self, value, attr):
        count = self.random.randint(0, 3) if attr.is_list else 1
        for _ in range(count):
            getattr(self, f"_set_{attr.kind}")(value.list if attr.is_list else value, attr)
        if attr.is_list:
            value.list.SetInParent()

    def _put(self, holder, field, item):
        if isinstance(holder, attr_value_pb2.AttrValue.ListValue):
            getattr(holder, field).append(item)
        else:
            setattr(holder, field, item)

    def _set_type(self, value, attr):
        allowed = [t.as_datatype_enum for t in attr.allowed] or _TYPES
        usual = [t for t in _TYPES if t in allowed]
        self._put(value, "type", self.random.choice(usual or allowed))

    def _set_int(self, value, attr):
        self._put(value, "i", self.random.choice([0, 1, 1, 2, 3, -1]))

    def _set_float(self, value, attr):
        self._put(value, "f", self.random.choice([0.0, 1.0, math.nan]))

    def _set_bool(self, value, attr):
        self._put(value, "b", self.random.random() < 0.5)

    def _set_string(self, value, attr):
        self._put(value, "s", self.random.choice([t.encode() for t in attr.allowed] or [b"", b"a"]))

    def _set_shape(self, value, attr):
        shape = value.shape.add() if hasattr(value.shape, "add") else value.shape
        for _ in range(self.random.randint(0, 3)):
            shape.dim.add(size=self.random.choice(_SIZES))

    def _set_tensor(self, value, attr):
        value.tensor.CopyFrom(make_tensor_proto(np.zeros([2], np.float32)))

    def _damage(self, node):
        names = [*node.attr, "_class", "_output_shapes", "unknown"]
        value = node.attr[self.random.choice(names)]
        match self.random.randrange(10):
            case 0:
                value.type = self.random.choice(_ODD_TYPES)
            case 1:
                value.i = self.random.choice([2**62, -5, 10**6])
            case 2:
                value.list.s.append(self.random.choice([b"loc:@n0", b"loc:@gone", b"x"]))
            case 3:
                value.tensor.tensor_shape.dim.add(size=self.random.choice(_SIZES))
            case 4:
                value.Clear()
            case 5:
                value.list.shape.add().dim.add(size=self.random.choice(_SIZES))
            case 6:
                node.input.append(self.random.choice(["n1", "n8", "gone", "^gone", "n0:7", ""]))
            case 7:
                del node.input[:1]
            case 8:
                node.name = self.random.choice(["n0", "", "_", "a/"])
            case 9:
                node.device = self.random.choice(["/cpu:0", "/nonsense", "/task:x"])

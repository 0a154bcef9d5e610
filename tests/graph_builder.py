"""Small graphs for tests of the layers below the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve_core import dtypes
from paramserve_core.graphdef import attr_to_proto, canonical_attr
from paramserve_core.opdefs import find_op
from paramserve_protos.v1 import graph_pb2, node_def_pb2


class GraphBuilder:
    """Adds nodes to a GraphDef; attributes are Python values."""

    def __init__(self) -> None:
        self.graph = graph_pb2.GraphDef()

    def node(
        self,
        op: str,
        name: str,
        *inputs: str,
        device: str = "",
        colocate_with: Sequence[str] = (),
        **attrs: Any,
    ) -> str:
        """Adds a node and answers its name."""
        message = node_def_pb2.NodeDef(op=op, name=name, input=inputs, device=device)
        definition = find_op(op)
        for key, value in attrs.items():
            if definition is None:
                continue
            attr = definition.attrs[key]
            canonical = canonical_attr(value, attr, op=op, name=key)
            message.attr[key].CopyFrom(attr_to_proto(canonical, attr))
        if colocate_with:
            message.attr["_class"].list.s.extend(f"loc:@{n}".encode() for n in colocate_with)
        self.graph.node.append(message)
        return name

    def constant(self, name: str, value: Any, **options: Any) -> str:
        array = np.asarray(value, None if not isinstance(value, (float, list)) else np.float32)
        return self.node("Const", name, value=array, dtype=dtypes.as_dtype(array.dtype), **options)

    def variable(self, name: str, shape: Sequence[int] = (), **options: Any) -> str:
        return self.node("VariableV2", name, shape=shape, dtype=dtypes.float32, **options)

    def placeholder(self, name: str, shape: Any = None, **options: Any) -> str:
        return self.node("Placeholder", name, shape=shape, dtype=dtypes.float32, **options)

    def assign(
        self, name: str, variable: str, value: str, op: str = "Assign", **options: Any
    ) -> str:
        return self.node(op, name, variable, value, T=dtypes.float32, **options)

    def identity(self, name: str, *inputs: str, **options: Any) -> str:
        return self.node("Identity", name, *inputs, T=dtypes.float32, **options)

    def add(self, name: str, a: str, b: str, **options: Any) -> str:
        return self.node("Add", name, a, b, T=dtypes.float32, **options)

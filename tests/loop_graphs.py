"""A loop as a graph has it, whole, in part and damaged."""

from __future__ import annotations

import random

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_protos.v1 import graph_pb2

FLOAT = {"T": dtypes.float32}


class LoopBuilder(GraphBuilder):
    """`a = first; while a < limit: a = a + 1`, all or in part."""

    def __init__(self, limit: float = 5.0) -> None:
        super().__init__()
        self.constant("first", 0.0)
        self.constant("limit", limit)
        self.constant("one", 1.0)

    def enter(self, name, source, frame="loop", **options):
        return self.node("Enter", name, source, frame_name=frame, **{**FLOAT, **options})

    def head(self):
        self.enter("enter", "first")
        self.enter("limit_in", "limit", is_constant=True)
        self.enter("one_in", "one", is_constant=True)
        self.node("Merge", "merge", "enter", "next", N=2, **FLOAT)
        self.node("Less", "less", "merge", "limit_in", **FLOAT)
        self.node("LoopCond", "condition", "less")
        self.node("Switch", "switch", "merge", "condition", **FLOAT)

    def rest(self):
        self.add("sum", "switch:1", "one_in")
        self.node("NextIteration", "next", "sum", **FLOAT)
        self.node("Exit", "exit", "switch", **FLOAT)

    def whole(self):
        self.head()
        self.rest()
        return self

    def replace(self, name, *inputs):
        """Gives a node other inputs."""
        (node,) = [node for node in self.graph.node if node.name == name]
        del node.input[:]
        node.input.extend(inputs)

    def remove(self, name):
        (node,) = [node for node in self.graph.node if node.name == name]
        self.graph.node.remove(node)


def damaged_loop(seed: int) -> graph_pb2.GraphDef:
    """A loop with a few things wrong, or none; the same for the same seed."""
    chance = random.Random(seed)
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(LoopBuilder().whole().graph)
    names = [node.name for node in graph.node]
    for _ in range(chance.randint(1, 3)):
        node = chance.choice(graph.node)
        match chance.randrange(5):
            case 0 if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice(
                    [*names, "switch:1", "merge:1", "^switch", "^next", "^exit"]
                )
            case 1:
                node.input.append(f"^{chance.choice(names)}")
            case 2:
                node.name = chance.choice(names)
            case 3 if len(graph.node) > 2:
                graph.node.remove(node)
            case _:
                node.attr["is_constant"].b = not node.attr["is_constant"].b
                if node.op != "Enter":
                    del node.attr["is_constant"]
    return graph

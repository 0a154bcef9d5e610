"""Seeds of random ops: the graph's, the op's, and how they combine.

Thread rule: reads and sets the default graph's seed.
"""

from __future__ import annotations

from typing import Final

from paramserve._framework.graph import get_default_graph

DEFAULT_GRAPH_SEED: Final = 87654321
_MOST: Final = 2**31


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The two seeds that a random op is given.

    | graph seed | op seed | result |
    |---|---|---|
    | none | none | none: another sequence in every session |
    | set | none | the graph's, and a number that is the op's own in this graph |
    | none | set | a fixed number, and the op's |
    | set | set | both |

    Args:
        op_seed: what the caller of the random op gave.
    """
    graph = get_default_graph()
    graph_seed = graph.seed
    seeds: tuple[int | None, int | None]
    if graph_seed is not None:
        seeds = graph_seed, graph.version if op_seed is None else op_seed
    elif op_seed is not None:
        seeds = DEFAULT_GRAPH_SEED, op_seed
    else:
        return None, None
    # Both 0 would mean that there is none.
    return (0, _MOST - 1) if seeds == (0, 0) else (int(seeds[0] or 0), int(seeds[1] or 0))


def set_random_seed(seed: int | None) -> None:
    """Sets the default graph's seed, so that its random ops give one sequence in every session."""
    get_default_graph().seed = seed

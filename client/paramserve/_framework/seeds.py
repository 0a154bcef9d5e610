"""Seeds of random ops: the graph's, the op's, and how they combine.

Thread rule: reads and sets the default graph's seed.
"""

from __future__ import annotations

from typing import Final

from paramserve._framework.graph import get_default_graph

DEFAULT_GRAPH_SEED: Final = 87654321
_MODULUS: Final = 2**31 - 1


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The two seeds that a random op is given.

    | graph seed | op seed | result |
    |---|---|---|
    | none | none | none: another sequence in every session |
    | set | none | the graph's, and the number of operations that the graph has |
    | none | set | 87654321, and the op's |
    | set | set | both |

    Args:
        op_seed: what the caller of the random op gave.

    Returns:
        Two numbers from 0 to 2**31 - 1 that are not both 0, or two times None.
    """
    graph = get_default_graph()
    graph_seed = graph.seed
    if graph_seed is None and op_seed is None:
        return None, None
    if graph_seed is None:
        graph_seed = DEFAULT_GRAPH_SEED
    if op_seed is None:
        op_seed = graph.version
    seeds = graph_seed % _MODULUS, op_seed % _MODULUS
    # An op takes two zeros for no seed.
    return (0, _MODULUS) if seeds == (0, 0) else seeds


def set_random_seed(seed: int | None) -> None:
    """Sets the default graph's seed, so that its random ops give one sequence in every session."""
    get_default_graph().seed = seed

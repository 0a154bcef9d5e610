"""The value of a variable that may not have one yet.

`initialized_value()` is a conditional on whether the variable has a value: that value, or else the
tensor that the initializer would store. Both are right in a step that also initialises the
variable, because an initializer that came first has stored that very tensor. So no op needs to
run before another one, and a step may initialise any number of variables from each other in
parallel, where an ordering of initializers would have to know of all of them.

The conditional is where the variable is, so of the value nothing travels but the result.

Thread rule: adds to the graph that the variable belongs to; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.apply import apply_op
from paramserve._framework.tensor import Tensor


def add_initialized_value(ref: Tensor, initial_value: Tensor) -> Tensor:
    """Adds the conditional, outside of all control dependencies and other conditionals.

    Args:
        ref: the variable's reference.
        initial_value: what its initializer stores.

    Returns:
        The value if the variable has one when the step looks, else the initial value.
    """
    graph, op = ref.graph, ref.op
    with (
        graph.as_default(),
        graph.control_dependencies(None),
        graph.name_scope(None),
        graph.name_scope(f"{op.name}/initialized_value"),
        graph.colocate_with(op, ignore_existing=True),
    ):
        is_initialized = apply_op("IsVariableInitialized", ref=ref)
        _, present = apply_op("RefSwitch", data=ref, pred=is_initialized)
        initial, _ = apply_op("Switch", data=initial_value, pred=is_initialized)
        merged: Tensor = apply_op("Merge", inputs=[initial, present])[0]
    return merged

"""`cond` and `case`: ops of which only those on the branch taken run.

A conditional is data flow. A tensor from outside that a branch uses comes in through a `Switch`,
which sends it down one branch and nothing down the other; an op with a missing input does not run;
and a `Merge` takes what arrived. An op that would use nothing from outside waits for the branch's
*pivot*, an identity of the predicate that is only there on the branch taken. So what makes an op
part of a branch is in the graph itself, and an imported graph needs nothing else.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import control_dependencies, name_scope
from paramserve._framework.stacks import ControlFlow
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import cast, constant, identity
from paramserve._ops.checks import Assert
from paramserve._ops.control import with_dependencies
from paramserve._ops.emit import emit_tensors
from paramserve._ops.joining import stack
from paramserve._ops.math import less_equal
from paramserve._ops.math_reduce import reduce_any, reduce_sum
from paramserve._ops.nest import leaves, rebuilt
from paramserve._ops.renamed import needed, one_of
from paramserve_core import dtypes

__all__ = ["case", "cond"]


def switch(data: Tensor, pred: Tensor, name: str | None = None) -> list[Tensor]:
    """The tensor on two edges, of which one is alive: `[if false, if true]`.

    Args:
        data: a tensor; a reference to a variable stays one.
        pred: a boolean scalar.
        name: the name of the op.
    """
    if data.dtype.is_ref:
        with data.graph.colocate_with(data.op, ignore_existing=True):
            return emit_tensors("RefSwitch", name or "Switch", data=data, pred=pred)
    # With the predicate, not with the data: a conditional runs on one task, and the data that it
    # uses may come from several.
    with pred.graph.colocate_with(pred.op, ignore_existing=True):
        return emit_tensors("Switch", name or "Switch", data=data, pred=pred)


def merge(inputs: Sequence[Tensor], name: str | None = None) -> tuple[Tensor, Tensor]:
    """The tensor that is alive, and which of the inputs it was."""
    op_type = "RefMerge" if all(tensor.dtype.is_ref for tensor in inputs) else "Merge"
    output, index = emit_tensors(op_type, name or "Merge", inputs=inputs)
    return output, index


class _Branch:
    """One side of a conditional, while its function runs.

    Args:
        pred: the predicate, outside of the branch.
        pivot: a tensor that is there when the branch is taken.
        side: 0 where the predicate is false, 1 where it is true.
    """

    def __init__(self, pred: Tensor, pivot: Tensor, side: int) -> None:
        self._pred = pred
        self._side = side
        self._outer: ControlFlow | None = pred.graph.current_control_flow
        self.pivot = pivot
        self._inside: set[Operation] = {pivot.op}
        self._brought: dict[Tensor, Tensor] = {}

    def admit(
        self, op_type: str, inputs: Sequence[Tensor], control_inputs: Sequence[Operation]
    ) -> tuple[Sequence[Tensor], Sequence[Operation]]:
        """See `ControlFlow`."""
        if not inputs and self._inside.isdisjoint(control_inputs):
            control_inputs = [*control_inputs, self.pivot.op]
        return [self._bring(tensor) for tensor in inputs], list(map(self.awaited, control_inputs))

    def awaited(self, op: Operation) -> Operation:
        """See `ControlFlow`."""
        return op if op in self._inside or self._outer is None else self._outer.awaited(op)

    def entered(self, op: Operation) -> None:
        """See `ControlFlow`; a tensor that may not be there cannot be fetched."""
        self._inside.add(op)
        op.graph.prevent_fetching(op)
        if self._outer is not None:
            self._outer.entered(op)

    def _bring(self, tensor: Tensor) -> Tensor:
        """The tensor as it is inside the branch."""
        if tensor.op in self._inside:
            return tensor
        if tensor not in self._brought:
            graph = tensor.graph
            with graph.control_dependencies(None), graph.control_flow(self._outer):
                inside = switch(tensor, self._pred)[self._side]
            self.entered(inside.op)
            self._brought[tensor] = inside
        return self._brought[tensor]

    def run(self, function: Callable[[], Any]) -> _Result:
        """Calls the branch's function, and brings its result to its end."""
        graph = self.pivot.graph
        with graph.control_flow(self):
            return _Result(function(), self.pivot)


class _Result:
    """What a branch's function returned: a structure, and its tensors within the branch."""

    def __init__(self, structure: Any, pivot: Tensor) -> None:
        self.structure = structure
        self.leaves = [_as_value(leaf, pivot) for leaf in leaves(structure)]


def _as_value(leaf: Any, pivot: Tensor) -> Tensor | IndexedSlices:
    if isinstance(leaf, Operation):
        done: Tensor = with_dependencies([leaf], pivot)
        return done
    if isinstance(leaf, IndexedSlices):
        dense_shape = leaf.dense_shape
        return IndexedSlices(
            identity(leaf.values),
            identity(leaf.indices),
            None if dense_shape is None else identity(dense_shape),
        )
    return identity(convert_to_tensor(leaf))


def cond(
    pred: TensorLike,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool | str = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What one of two functions returns, by a predicate that is known when the graph runs.

    Both functions are called once, while the graph is built. The ops that they create run only
    where their branch is taken; ops that exist already, and that a branch uses, run always.
    A conditional runs on one task: its branches may read variables of several servers, and update
    those of one.

        y = ps.cond(x < 1.0, lambda: x * 2.0, lambda: ps.square(x))

    Args:
        pred: a boolean scalar tensor.
        true_fn: called without arguments; returns tensors, IndexedSlices or operations, or a
            nesting of them in lists, tuples and dicts.
        false_fn: likewise; what it returns has the same structure and types.
        strict: leave a list of one element a list. (A string here is the `name`, as it was once
            the fourth argument.)
        name: the scope of the ops.
        fn1: the older name of `true_fn`.
        fn2: the older name of `false_fn`.

    Returns:
        Tensors in the structure that the functions return. In place of an operation there is a
        boolean tensor, which is there when the operation has run.

    Raises:
        TypeError: a function is missing or no function, `pred` is a Python bool, or the branches
            return different types.
        ValueError: a branch returns nothing, or they return different structures.
    """
    if isinstance(strict, str):
        name, strict = strict, False
    true_fn = needed("cond", "true_fn", one_of("true_fn", true_fn, "fn1", fn1))
    false_fn = needed("cond", "false_fn", one_of("false_fn", false_fn, "fn2", fn2))
    for function, text in ((true_fn, "true_fn"), (false_fn, "false_fn")):
        if not callable(function):
            raise TypeError(f"{text} must be callable, got {function!r}")
    if isinstance(pred, bool):
        raise TypeError(
            f"pred must not be a Python bool, got {pred}: it is known now, so use an if statement"
        )
    with name_scope(name, "cond", [pred]):
        pred = convert_to_tensor(pred, dtype=dtypes.bool, name="pred")
        if_false, if_true = switch(pred, pred)
        true_pivot = identity(if_true, name="switch_t")
        false_pivot = identity(if_false, name="switch_f")
        pred = identity(pred, name="pred_id")
        for pivot in (true_pivot, false_pivot):
            pivot.graph.prevent_fetching(pivot.op)
            pivot.graph.prevent_fetching(pivot.op.inputs[0].op)
        when_true = _Branch(pred, true_pivot, 1).run(true_fn)
        when_false = _Branch(pred, false_pivot, 0).run(false_fn)
        _check_alike(when_true, when_false)
        merged = [_merged(a, b) for a, b in zip(when_false.leaves, when_true.leaves, strict=True)]
        return rebuilt(when_true.structure, iter(merged), strict)


def _merged(if_false: Any, if_true: Any) -> Tensor | IndexedSlices:
    if isinstance(if_true, IndexedSlices):
        values, _ = merge([if_false.values, if_true.values])
        numbers = [if_false.indices, if_true.indices]
        if numbers[0].dtype != numbers[1].dtype:
            numbers = [cast(number, dtypes.int64) for number in numbers]
        indices, _ = merge(numbers)
        dense_shape = None
        if if_true.dense_shape is not None and if_false.dense_shape is not None:
            dense_shape = merge([if_false.dense_shape, if_true.dense_shape])[0]
        return IndexedSlices(values, indices, dense_shape)
    return merge([if_false, if_true])[0]


def _check_alike(when_true: _Result, when_false: _Result) -> None:
    for result, text in ((when_true, "true_fn"), (when_false, "false_fn")):
        if not result.leaves:
            raise ValueError(f"{text} must return a tensor or an operation, it returns nothing")
    if len(when_true.leaves) != len(when_false.leaves):
        raise ValueError(
            "true_fn and false_fn must return the same number of values, they return "
            f"{len(when_true.leaves)} and {len(when_false.leaves)}"
        )
    for a, b in zip(when_true.leaves, when_false.leaves, strict=True):
        if type(a) is not type(b) or a.dtype.base_dtype is not b.dtype.base_dtype:
            raise TypeError(
                "the results of true_fn and false_fn must have the same type, they are "
                f"{type(a).__name__} of {a.dtype.name} and {type(b).__name__} of {b.dtype.name}"
            )


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first true predicate returns.

    Args:
        pred_fn_pairs: pairs of a boolean scalar tensor and a function, in a list; or in a dict,
            whose pairs are tried in the order of the tensors' names.
        default: called where no predicate is true.
        exclusive: fail where more than one predicate is true.
        strict: see `cond`.
        name: the scope of the ops.

    Returns:
        See `cond`.

    Raises:
        TypeError: pairs of other things.
        ValueError: no pairs, or see `cond`.
        InvalidArgumentError: at run time, where no predicate is true and there is no default, or
            where several are and `exclusive`.
    """
    if isinstance(pred_fn_pairs, Mapping):
        pairs: list[Any] = sorted(
            pred_fn_pairs.items(), key=lambda pair: str(getattr(pair[0], "name", ""))
        )
    elif isinstance(pred_fn_pairs, (list, tuple)):
        pairs = list(pred_fn_pairs)
    else:
        raise TypeError(f"pred_fn_pairs must be a list, tuple or dict, got {pred_fn_pairs!r}")
    if not pairs:
        raise ValueError("case needs one pair of predicate and function, or more")
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"each element of pred_fn_pairs must be a pair, got {pair!r}")
        if not isinstance(pair[0], Tensor) or pair[0].dtype.base_dtype is not dtypes.bool:
            raise TypeError(f"a predicate must be a boolean tensor, got {pair[0]!r}")
        if not callable(pair[1]):
            raise TypeError(f"what follows a predicate must be callable, got {pair[1]!r}")
    if default is not None and not callable(default):
        raise TypeError(f"default must be callable, got {default!r}")
    with name_scope(name, "case", [pred for pred, _ in pairs]):
        checks: list[Operation] = []
        preds = stack([pred for pred, _ in pairs], name="preds")
        if exclusive:
            count = reduce_sum(cast(preds, dtypes.int32))
            message = ["More than one condition evaluated as True but exclusive=True:", preds]
            checks.append(Assert(less_equal(count, 1), message, summarize=len(pairs)))
        rest = default
        if rest is None:
            message = ["None of the conditions evaluated as True, and there is no default:", preds]
            checks.append(Assert(reduce_any(preds), message, summarize=len(pairs)))
            _, rest = pairs.pop()
        with control_dependencies(checks):
            chosen = rest
            for pred, function in reversed(pairs):
                chosen = _choice(pred, function, chosen, strict)
            if pairs:
                return chosen()
            result = _Result(chosen(), constant(True))
            return rebuilt(result.structure, iter(result.leaves), strict)


def _choice(
    pred: Tensor, function: Callable[[], Any], otherwise: Callable[[], Any], strict: bool
) -> Callable[[], Any]:
    return lambda: cond(pred, function, otherwise, strict=strict)

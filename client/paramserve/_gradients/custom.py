"""`custom_gradient`: a function that says its own derivative.

The results of the function leave it through one `IdentityN`, which also takes the arguments, and
whose gradient is the program's: the gradients of the results go in, those of the arguments come
out, and nothing flows back through the ops that the function made.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from paramserve._framework.convert import convert_n_to_tensor
from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.graph import get_default_graph, graph_of
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.array import identity, identity_n

__all__ = ["custom_gradient"]

_numbers: Final = itertools.count()


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function differentiable by a function of its own.

        @ps.custom_gradient
        def log1pexp(x):
            e = ps.exp(x)
            return ps.log(1 + e), lambda dy: dy * (1 - 1 / (1 + e))

    Args:
        f: a function of tensors that answers its result, a tensor or a list of tensors, and a
            function. That one is given the gradient of each result and answers the gradient of
            each argument; it is called each time that a gradient is asked for.

    Returns:
        A function of tensors, or what becomes tensors, that answers the result.

    Raises:
        TypeError: called with keywords, or `f` answers no such pair.
        ValueError: `f` uses a variable that is no argument, whose gradient would be lost; or its
            gradient function answers not one gradient for each argument.
    """

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        name = getattr(f, "__name__", "function")
        if kwargs:
            raise TypeError(f"{name}: arguments of a custom_gradient are given by position")
        with graph_of(list(args)).as_default():
            return _call(f, name, convert_n_to_tensor(args))

    return decorated


def _call(f: Callable[..., Any], name: str, values: Sequence[Tensor]) -> Any:
    graph = get_default_graph()
    # Gradients are of these, so that a tensor given twice has two of them.
    arguments = [identity(value) for value in values]
    before = graph.version
    answer = f(*arguments)
    if not isinstance(answer, tuple) or len(answer) != 2 or not callable(answer[1]):
        raise TypeError(f"{name}: answers a result and a gradient function, not {answer!r}")
    result, gradient = answer
    is_one = not isinstance(result, (list, tuple))
    results = convert_n_to_tensor([result] if is_one else result)
    _check_no_variables(name, graph.get_operations()[before:])

    def flow(op: Operation, *gradients: Tensor) -> list[Any]:
        found = gradient(*gradients[: len(results)])
        answers = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(answers) != len(arguments):
            raise ValueError(
                f"{name}: its gradient function answers {len(answers)} gradients for "
                f"{len(arguments)} arguments"
            )
        return [None] * len(results) + answers

    gradient_name = f"CustomGradient-{next(_numbers)}"
    RegisterGradient(gradient_name)(flow)
    with graph.gradient_override_map({"IdentityN": gradient_name}):
        outputs = identity_n([*results, *arguments])
    if is_one:
        return outputs[0]
    return type(result)(outputs[: len(results)])


def _check_no_variables(name: str, made: Sequence[Operation]) -> None:
    for op in made:
        for tensor in op.inputs:
            read = tensor if tensor.dtype.is_ref else next(iter(tensor.op.inputs), None)
            if read is not None and read.dtype.is_ref:
                raise ValueError(
                    f"{name}: uses the variable {read.op.name!r}, whose gradient would be lost; "
                    "make it an argument of the function"
                )

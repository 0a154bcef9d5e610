"""A tensor: one output of an operation.

The arithmetic of tensors is defined by the op functions, which stand above this package; they put
it here with `Tensor.override_operator`.

Thread rule: a tensor is immutable but for its shape, which only ever becomes more specific.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from paramserve._framework.default_session import RunsFetches, evaluate
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape, as_shape

if TYPE_CHECKING:
    from paramserve._framework.graph import Graph
    from paramserve._framework.operation import Operation
    from paramserve._framework.types import TensorLike


class Tensor:
    """One output of an `Operation`: it has a type and what is known of its shape, but no value.

    A session computes its value: `session.run(tensor)`.
    """

    __slots__ = ("__weakref__", "_consumers", "_dtype", "_op", "_shape", "_value_index")

    __array_priority__ = 100  # NumPy leaves `array + tensor` to the tensor.

    def __init__(self, op: Operation, value_index: int, dtype: DType, shape: TensorShape) -> None:
        self._op = op
        self._value_index = value_index
        self._dtype = dtype
        self._shape = shape
        self._consumers: list[Operation] = []

    @property
    def op(self) -> Operation:
        """The operation that computes the tensor."""
        return self._op

    @property
    def value_index(self) -> int:
        """Which of the operation's outputs this is."""
        return self._value_index

    @property
    def graph(self) -> Graph:
        """The graph that the tensor belongs to."""
        return self._op.graph

    @property
    def name(self) -> str:
        """The operation's name and the number of the output: "weights/read:0"."""
        return f"{self._op.name}:{self._value_index}"

    @property
    def dtype(self) -> DType:
        """The type of the elements; a `_ref` type for a reference to a variable."""
        return self._dtype

    @property
    def device(self) -> str:
        """The device that the operation was put on; "" where it may run anywhere."""
        return self._op.device

    @property
    def shape(self) -> TensorShape:
        """What is known of the shape."""
        return self._shape

    def get_shape(self) -> TensorShape:
        """What is known of the shape."""
        return self._shape

    def set_shape(self, shape: Any) -> None:
        """Says more about the shape than was inferred.

        Raises:
            ValueError: it contradicts what is known.
        """
        self._shape = self._shape.merge_with(as_shape(shape))

    def consumers(self) -> list[Operation]:
        """The operations that take this tensor, in the order of their creation."""
        return list(self._consumers)

    def eval(self, feed_dict: Any = None, session: RunsFetches | None = None) -> Any:
        """Computes the value in `session`, or in the default session.

        Raises:
            ValueError: there is no session, or it runs another graph.
        """
        return evaluate(self, self.graph, feed_dict, session, "evaluate tensor using `eval()`")

    @staticmethod
    def override_operator(operator: str, function: Callable[..., Any] | property) -> None:
        """Defines an operator of tensors, such as `__add__`; called while op families load.

        Raises:
            ValueError: the operator is defined already.
        """
        if operator in Tensor.__dict__ and operator not in ("__eq__", "__iter__", "__bool__"):
            raise ValueError(f"operator {operator} of Tensor is defined already")
        setattr(Tensor, operator, function)

    if TYPE_CHECKING:  # for type checkers and editors; `_ops.operators` puts them here

        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __add__(self, other: TensorLike) -> Tensor: ...
        def __radd__(self, other: TensorLike) -> Tensor: ...
        def __sub__(self, other: TensorLike) -> Tensor: ...
        def __rsub__(self, other: TensorLike) -> Tensor: ...
        def __mul__(self, other: TensorLike) -> Tensor: ...
        def __rmul__(self, other: TensorLike) -> Tensor: ...
        def __truediv__(self, other: TensorLike) -> Tensor: ...
        def __rtruediv__(self, other: TensorLike) -> Tensor: ...
        def __floordiv__(self, other: TensorLike) -> Tensor: ...
        def __rfloordiv__(self, other: TensorLike) -> Tensor: ...
        def __mod__(self, other: TensorLike) -> Tensor: ...
        def __rmod__(self, other: TensorLike) -> Tensor: ...
        def __pow__(self, other: TensorLike) -> Tensor: ...
        def __rpow__(self, other: TensorLike) -> Tensor: ...
        def __matmul__(self, other: TensorLike) -> Tensor: ...
        def __rmatmul__(self, other: TensorLike) -> Tensor: ...
        def __and__(self, other: TensorLike) -> Tensor: ...
        def __rand__(self, other: TensorLike) -> Tensor: ...
        def __or__(self, other: TensorLike) -> Tensor: ...
        def __ror__(self, other: TensorLike) -> Tensor: ...
        def __xor__(self, other: TensorLike) -> Tensor: ...
        def __rxor__(self, other: TensorLike) -> Tensor: ...
        def __lt__(self, other: TensorLike) -> Tensor: ...
        def __le__(self, other: TensorLike) -> Tensor: ...
        def __gt__(self, other: TensorLike) -> Tensor: ...
        def __ge__(self, other: TensorLike) -> Tensor: ...
        def __getitem__(self, item: Any) -> Tensor: ...

    def __iter__(self) -> Iterator[Tensor]:
        if self._shape.ndims is None or self._shape.ndims == 0:
            raise TypeError(
                f"'{self.name}' of shape {self._shape} cannot be iterated over: its length is not "
                "known while the graph is built"
            )
        length = self._shape[0].value
        if length is None:
            raise TypeError(
                f"'{self.name}' cannot be iterated over: its first dimension is not known; use "
                "unpack(value, num) where you know it"
            )
        return (self[i] for i in range(length))

    def __bool__(self) -> bool:
        raise TypeError(
            f"'{self.name}' has no truth value while the graph is built. Use `if t is not None:` "
            "to ask whether it is defined, and cond to choose by its value"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"'{self.name}' has no value while the graph is built, so it cannot become a NumPy "
            "array; run it in a session"
        )

    def __repr__(self) -> str:
        return f"<paramserve.Tensor '{self.name}' shape={self._shape} dtype={self._dtype.name}>"

    def __str__(self) -> str:
        shape = "" if self._shape.ndims is None else f", shape={self._shape}"
        device = f", device={self.device}" if self.device else ""
        return f'Tensor("{self.name}"{shape}, dtype={self._dtype.name}{device})'

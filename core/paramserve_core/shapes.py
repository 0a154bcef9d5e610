"""Shapes that may be known only in part, with the semantics of TensorFlow's 1.x classes.

A `TensorShape` is of unknown rank, or a tuple of sizes, each an int or unknown (None). Equality
compares what is known (`[None]` equals `[None]` and not `[3]`); *compatible* asks whether some
full shape fits both. A `Dimension` is one size, see `dimensions`.

Sizes are kept as plain ints and a `Dimension` is made when one is asked for: shape inference
touches every op of a graph, and most of it never looks at a `Dimension`.

Threads: a shape is immutable.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Final, SupportsIndex, TypeAlias, overload

from paramserve_core.dimensions import Dimension, DimensionLike, size_of
from paramserve_protos.v1 import tensor_shape_pb2

ShapeLike: TypeAlias = (
    "TensorShape | tensor_shape_pb2.TensorShapeProto | Iterable[DimensionLike] | DimensionLike"
)
"""What can be a shape. A single size is a vector's; None is a shape of unknown rank."""


class TensorShape:
    """The shape of a tensor: of unknown rank, or a size (perhaps unknown) for each axis."""

    __slots__ = ("_dims",)

    _dims: tuple[int | None, ...] | None

    def __init__(self, dims: ShapeLike) -> None:
        """Creates a shape.

        Args:
            dims: The sizes, each an integer, a `Dimension` or None for unknown; None for unknown
                rank; one size alone for a vector; another shape; or a `TensorShapeProto`, in
                which -1 is an unknown size.

        Raises:
            TypeError: Something in `dims` is no size.
            ValueError: A size is negative.
        """
        if dims is None:
            self._dims = None
        elif isinstance(dims, TensorShape):
            self._dims = dims._dims
        elif isinstance(dims, tensor_shape_pb2.TensorShapeProto):
            self._dims = _from_proto(dims)
        elif isinstance(dims, str | bytes):
            raise TypeError(f"{dims!r} is no shape; a shape is a sequence of integers and None")
        elif isinstance(dims, Iterable):
            self._dims = tuple(size_of(dim) for dim in dims)
        else:
            self._dims = (size_of(dims),)

    @property
    def rank(self) -> int | None:
        """The number of axes; None when it is unknown."""
        return None if self._dims is None else len(self._dims)

    @property
    def ndims(self) -> int | None:
        """The same as `rank`."""
        return self.rank

    @property
    def dims(self) -> list[Dimension] | None:
        """The sizes; None when the rank is unknown."""
        return None if self._dims is None else [Dimension(size) for size in self._dims]

    def as_list(self) -> list[int | None]:
        """The sizes as ints, None where unknown.

        Raises:
            ValueError: The rank is unknown.
        """
        if self._dims is None:
            raise ValueError("as_list() is not defined on a shape of unknown rank")
        return list(self._dims)

    def as_proto(self) -> tensor_shape_pb2.TensorShapeProto:
        """The shape as a message, with -1 for an unknown size."""
        if self._dims is None:
            return tensor_shape_pb2.TensorShapeProto(unknown_rank=True)
        dim = tensor_shape_pb2.TensorShapeProto.Dim
        return tensor_shape_pb2.TensorShapeProto(
            dim=[dim(size=-1 if size is None else size) for size in self._dims]
        )

    def is_fully_defined(self) -> bool:
        """Whether the rank and every size is known."""
        return self._dims is not None and None not in self._dims

    def assert_is_fully_defined(self) -> None:
        """Checks that the rank and every size is known.

        Raises:
            ValueError: It is not.
        """
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def num_elements(self) -> int | None:
        """The number of elements; None when the shape is not fully defined."""
        if self._dims is None:
            return None
        product = 1
        for size in self._dims:
            if size is None:
                return None
            product *= size
        return product

    def is_compatible_with(self, other: ShapeLike) -> bool:
        """Whether some full shape fits both."""
        shape = as_shape(other)
        if self._dims is None or shape._dims is None or self._dims == shape._dims:
            return True
        return len(self._dims) == len(shape._dims) and all(
            mine is None or theirs is None or mine == theirs
            for mine, theirs in zip(self._dims, shape._dims, strict=True)
        )

    def assert_is_compatible_with(self, other: ShapeLike) -> None:
        """Checks that some full shape fits both.

        Raises:
            ValueError: None does.
        """
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {as_shape(other)} are incompatible")

    def is_subtype_of(self, other: ShapeLike) -> bool:
        """Whether every full shape that fits this one fits `other` too."""
        shape = as_shape(other)
        if shape._dims is None:
            return True
        if self._dims is None or len(self._dims) != len(shape._dims):
            return False
        return all(
            theirs is None or mine == theirs
            for mine, theirs in zip(self._dims, shape._dims, strict=True)
        )

    def most_specific_compatible_shape(self, other: ShapeLike) -> TensorShape:
        """The narrowest shape that everything fits which fits either of the two."""
        shape = as_shape(other)
        if self._dims is None or shape._dims is None or len(self._dims) != len(shape._dims):
            return unknown_shape()
        return TensorShape(
            mine if mine == theirs else None
            for mine, theirs in zip(self._dims, shape._dims, strict=True)
        )

    def merge_with(self, other: ShapeLike) -> TensorShape:
        """What both together know.

        Raises:
            ValueError: No full shape fits both.
        """
        shape = as_shape(other)
        if self._dims is None:
            return shape
        if shape._dims is None:
            return self
        if not self.is_compatible_with(shape):
            raise ValueError(f"Shapes {self} and {shape} are not compatible")
        return TensorShape(
            theirs if mine is None else mine
            for mine, theirs in zip(self._dims, shape._dims, strict=True)
        )

    def concatenate(self, other: ShapeLike) -> TensorShape:
        """The sizes of both, one after the other; of unknown rank when either one is."""
        shape = as_shape(other)
        if self._dims is None or shape._dims is None:
            return unknown_shape()
        return TensorShape(self._dims + shape._dims)

    def assert_same_rank(self, other: ShapeLike) -> None:
        """Checks that the ranks are equal or that one of them is unknown.

        Raises:
            ValueError: Both are known and differ.
        """
        shape = as_shape(other)
        if self.rank is not None and shape.rank is not None and self.rank != shape.rank:
            raise ValueError(f"Shapes {self} and {shape} must have the same rank")

    def assert_has_rank(self, rank: int) -> None:
        """Checks that the rank is `rank` or unknown.

        Raises:
            ValueError: It is another.
        """
        if self.rank not in (None, rank):
            raise ValueError(f"Shape {self} must have rank {rank}")

    def with_rank(self, rank: int) -> TensorShape:
        """This shape, known to have `rank` axes.

        Raises:
            ValueError: It has another number of them.
        """
        self.assert_has_rank(rank)
        return unknown_shape(rank) if self._dims is None else self

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """This shape.

        Raises:
            ValueError: It has fewer than `rank` axes.
        """
        if self.rank is not None and self.rank < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """This shape.

        Raises:
            ValueError: It has more than `rank` axes.
        """
        if self.rank is not None and self.rank > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    @overload
    def __getitem__(self, key: SupportsIndex) -> Dimension: ...

    @overload
    def __getitem__(self, key: slice) -> TensorShape: ...

    def __getitem__(self, key: SupportsIndex | slice) -> Dimension | TensorShape:
        if isinstance(key, slice):
            if self._dims is not None:
                return TensorShape(self._dims[key])
            return unknown_shape(_slice_rank(key))
        return Dimension(None if self._dims is None else self._dims[key])

    def __iter__(self) -> Iterator[Dimension]:
        if self._dims is None:
            raise ValueError("Cannot iterate over a shape with unknown rank")
        return (Dimension(size) for size in self._dims)

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("Cannot take the length of a shape with unknown rank")
        return len(self._dims)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __add__(self, other: ShapeLike) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: ShapeLike) -> TensorShape:
        return as_shape(other).concatenate(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TensorShape):
            return self._dims == other._dims
        try:
            return self._dims == TensorShape(other)._dims  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._dims)

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        sizes = ["?" if size is None else str(size) for size in self._dims]
        return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def __reduce__(self) -> tuple[type[TensorShape], tuple[tuple[int | None, ...] | None]]:
        return (TensorShape, (self._dims,))


def as_shape(shape: ShapeLike) -> TensorShape:
    """The shape itself, or one made from what `TensorShape` takes."""
    return shape if isinstance(shape, TensorShape) else TensorShape(shape)


def unknown_shape(rank: int | None = None) -> TensorShape:
    """A shape of unknown rank, or of `rank` unknown sizes."""
    return _UNKNOWN if rank is None else TensorShape([None] * rank)


def scalar() -> TensorShape:
    """The shape of a single value: no axes."""
    return _SCALAR


def vector(length: DimensionLike) -> TensorShape:
    """The shape `[length]`."""
    return TensorShape([length])


def matrix(rows: DimensionLike, cols: DimensionLike) -> TensorShape:
    """The shape `[rows, cols]`."""
    return TensorShape([rows, cols])


def broadcast_shapes(a: ShapeLike, b: ShapeLike) -> TensorShape:
    """The shape of an elementwise op's result, by NumPy's rules, as far as it is known.

    Axes are matched from the last one back. A size of 1 stretches; an unknown size next to a
    size other than 1 must become that size or 1, so the result has that size.

    Args:
        a: One operand's shape.
        b: The other's.

    Returns:
        The broadcast shape; of unknown rank when either operand's is.

    Raises:
        ValueError: Two known sizes differ and neither is 1.
    """
    left, right = as_shape(a), as_shape(b)
    if left._dims is None or right._dims is None:
        return _UNKNOWN
    if left._dims == right._dims and None not in left._dims:
        return left
    rank = max(len(left._dims), len(right._dims))
    sizes: list[int | None] = []
    for mine, theirs in zip(_pad(left._dims, rank), _pad(right._dims, rank), strict=True):
        if mine == theirs or theirs == 1:
            sizes.append(mine)
        elif mine == 1:
            sizes.append(theirs)
        elif mine is None or theirs is None:
            sizes.append(theirs if mine is None else mine)
        else:
            raise ValueError(f"Shapes {left} and {right} cannot be broadcast: {mine} and {theirs}")
    return TensorShape(sizes)


def _from_proto(proto: tensor_shape_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size == -1 else size_of(dim.size) for dim in proto.dim)


def _slice_rank(key: slice) -> int | None:
    """How many axes a slice takes of a shape of unknown rank; None when it depends on the rank."""
    start, stop = key.start or 0, key.stop
    if stop is None or start < 0 or stop < 0 or key.step not in (None, 1):
        return None
    return max(0, operator.index(stop) - operator.index(start))


def _pad(sizes: tuple[int | None, ...], rank: int) -> tuple[int | None, ...]:
    return (1,) * (rank - len(sizes)) + sizes


_UNKNOWN: Final = TensorShape(None)
_SCALAR: Final = TensorShape(())

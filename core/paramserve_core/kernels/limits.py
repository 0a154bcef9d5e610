"""A bound on what a kernel may allocate, checked before it allocates.

A few bytes of input can ask for any amount of memory (`fill`, `tile`, `one_hot`, `broadcast_to`,
a padding), and the input may come from a stranger. So a kernel whose output may be larger than its
inputs asks `checked_size` first. The bound is a property of the process, not of a session; what a
session may hold in all is the server's concern.

Thread rule: the bound is set once, before kernels run; reading it takes no lock.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError

DEFAULT_MAX_TENSOR_BYTES = 16 << 30

_max_tensor_bytes = DEFAULT_MAX_TENSOR_BYTES


def max_tensor_bytes() -> int:
    """The most bytes that one tensor made by a kernel may have."""
    return _max_tensor_bytes


def set_max_tensor_bytes(limit_bytes: int) -> None:
    """Sets the most bytes that one tensor made by a kernel may have.

    Raises:
        ValueError: the limit is not positive.
    """
    global _max_tensor_bytes
    if limit_bytes <= 0:
        raise ValueError(f"the limit of a tensor's bytes must be positive, not {limit_bytes}")
    _max_tensor_bytes = limit_bytes


def checked_size(shape: Iterable[int], itemsize: int) -> int:
    """The number of elements of `shape`, once it is known to be sane and within the limit.

    Computed in Python integers, so it cannot overflow.

    Args:
        shape: the dimensions of the tensor that is about to be made.
        itemsize: bytes of one element.

    Raises:
        InvalidArgumentError: a dimension is negative.
        ResourceExhaustedError: the tensor would be larger than the limit.
    """
    dims = tuple(operator.index(d) for d in shape)
    count = span = 1
    for d in dims:
        if d < 0:
            raise InvalidArgumentError(
                None, None, f"a tensor of shape {list(dims)} cannot be made: {d} is negative"
            )
        count *= d
        span *= max(d, 1)
    # A shape like [2**40, 0] is bounded as if it had something in it: loops run over it, and NumPy
    # counts its strides.
    if count * itemsize > _max_tensor_bytes or span > _max_tensor_bytes:
        raise ResourceExhaustedError(
            None,
            None,
            f"a tensor of shape {list(dims)} with {itemsize} bytes per element is larger than "
            f"the limit of {_max_tensor_bytes} bytes for one tensor; make it smaller, or raise "
            "the limit of the process that runs the op",
        )
    return count

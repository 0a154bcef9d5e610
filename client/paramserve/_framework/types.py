"""Names for what public functions accept; they say in a signature what `Any` would hide.

Each is open by nature: whatever `register_tensor_conversion_function` was told about is a
`TensorLike`, whatever `as_dtype` takes is a `DTypeLike`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

TensorLike: TypeAlias = Any
"""A Tensor, a Variable, a NumPy array, a number, a string, or a nested list of those."""

ShapeLike: TypeAlias = Any
"""A TensorShape, a sequence of sizes (None: unknown), or, where said, an integer tensor."""

DTypeLike: TypeAlias = Any
"""A DType, a NumPy dtype or type, a Python type, or the name of one."""

"""Kernels that make, shape, join, cut and index tensors.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError
from paramserve_core.kernels.registry import KernelNode, kernel

Array = NDArray[Any]


@kernel("Const")
def _const(node: KernelNode) -> Array:
    value: Array = node.attrs["value"]
    return value


@kernel("Placeholder")
def _placeholder(node: KernelNode) -> Array:
    raise InvalidArgumentError(
        None,
        None,
        f"You must feed a value for placeholder tensor '{node.name}' with dtype "
        f"{node.output_dtypes[0].name} and shape {node.attrs['shape']}: pass it to run() in "
        "feed_dict",
    )


@kernel("Identity", "StopGradient", "PreventGradient")
def _identity(node: KernelNode, value: Array) -> Array:
    return value


@kernel("PlaceholderWithDefault")
def _placeholder_with_default(node: KernelNode, value: Array) -> Array:
    declared = node.attrs["shape"]
    if not declared.is_compatible_with(value.shape):
        raise InvalidArgumentError(
            None,
            None,
            f"the default of placeholder '{node.name}' has shape {list(value.shape)}, the "
            f"placeholder is declared with shape {declared}",
        )
    return value

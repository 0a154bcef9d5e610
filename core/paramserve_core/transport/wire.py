"""How the messages of one session travel over gRPC: narrower numbers, compression.

A float32 tensor may travel as bfloat16 or float16 and be float32 again at the other end: half the
bytes, for a rounding on the way. Both round to the nearest value, ties to even, and keep infinities
and NaNs. bfloat16 has float32's range and 8 bits of precision. float16 has 11 bits, but what is
65520 or more in size becomes infinite, and what is below 3e-8 zero.

A tensor that was rounded once travels on without loss, so it does not matter how many servers it
passes. Whoever narrows says so in the header of the tensor, and the other end widens what says so;
nothing else has to be agreed on.

Thread rule: pure functions, and immutable options.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import DType, as_dtype, bfloat16, float16, float32
from paramserve_core.errors import InvalidArgumentError
from paramserve_protos.v1 import service_pb2, types_pb2

Array = NDArray[Any]

WIRE_DTYPES: Final = (bfloat16, float16)
GRPC: Final = "grpc"
"""The transport that all this is for."""

GZIP: Final = "gzip"
COMPRESSIONS: Final = (GZIP,)

_HIGH_HALF: Final = 1 if sys.byteorder == "little" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """What a session asks of gRPC.

    Attributes:
        dtype: what float32 tensors of steps travel as, one of `WIRE_DTYPES`; None: as they are.
        compression: one of `COMPRESSIONS`; "": none.
    """

    dtype: DType | None = None
    compression: str = ""

    @classmethod
    def from_message(cls, message: service_pb2.WireOptions) -> WireOptions:
        """Reads what a peer asks.

        Raises:
            InvalidArgumentError: it is not to be had.
        """
        dtype = None
        if message.dtype:
            dtype = next((d for d in WIRE_DTYPES if d.as_datatype_enum == message.dtype), None)
            if dtype is None:
                raise InvalidArgumentError(
                    None,
                    None,
                    f"data type {message.dtype} to send float32 as; it is bfloat16 or float16",
                )
        if message.compression not in ("", *COMPRESSIONS):
            raise InvalidArgumentError(
                None, None, f"compression {message.compression[:100]!r}; it is 'gzip' or none"
            )
        return cls(dtype=dtype, compression=message.compression)

    def message(self) -> service_pb2.WireOptions:
        """The options as they travel."""
        dtype = types_pb2.DT_INVALID if self.dtype is None else self.dtype.as_datatype_enum
        return service_pb2.WireOptions(dtype=dtype, compression=self.compression)


NO_OPTIONS: Final = WireOptions()


def narrowed(tensor: Array, dtype: DType) -> Array:
    """A float32 tensor as a narrower one."""
    with np.errstate(over="ignore"):  # infinity is what was promised
        return tensor.astype(dtype.as_numpy_dtype)


def widened(array: Array) -> Array:
    """A float32 array of the values of a bfloat16 or float16 one; memory of its own."""
    if as_dtype(array.dtype) is not bfloat16:
        return array.astype(np.float32)
    # A bfloat16 is the upper half of a float32. Three times as fast as a conversion.
    wide = np.zeros(array.shape, np.float32)
    wide.reshape(-1).view(np.uint16)[_HIGH_HALF::2] = array.reshape(-1).view(np.uint16)
    return wide


def may_travel_as(dtype: DType, travels_as: DType) -> bool:
    """Whether a tensor of type `dtype` may be narrowed to `travels_as`."""
    return dtype is float32 and travels_as in WIRE_DTYPES

"""Which transport to use: `PARAMSERVE_TRANSPORT`.

| value | a server on this host | any other |
|---|---|---|
| `auto` (the default) | shared memory, or gRPC where that is impossible | gRPC |
| `shm` | shared memory, or an error | an error |
| `grpc` | gRPC | gRPC |

A server offers shared memory unless the value is `grpc`.

Thread rule: pure functions.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError, UnimplementedError
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.interface import Dialer

if TYPE_CHECKING:
    from paramserve_core.transport.segments import SegmentPool

TRANSPORT_VARIABLE: Final = "PARAMSERVE_TRANSPORT"

_HAS_LOCAL: Final = sys.platform == "linux"


class Transport(enum.Enum):
    """What may carry a conversation."""

    AUTO = "auto"
    SHM = "shm"
    GRPC = "grpc"


def transport_from_env(environ: Mapping[str, str] | None = None) -> Transport:
    """What the environment says.

    Raises:
        InvalidArgumentError: the value is none of those.
    """
    value = (os.environ if environ is None else environ).get(TRANSPORT_VARIABLE, "auto")
    try:
        return Transport(value)
    except ValueError:
        raise InvalidArgumentError(
            None, None, f"{TRANSPORT_VARIABLE} is 'auto', 'shm' or 'grpc', not {value!r}"
        ) from None


def dialer(
    address: str,
    credentials: ClientCredentials | None = None,
    transport: Transport | None = None,
    compression: str = "",
) -> Dialer:
    """A dialer to a server.

    Args:
        address: "host:port".
        credentials: what to show, and whether to use TLS.
        transport: what to use; None: as the environment says.
        compression: "gzip" or "", of what gRPC carries.

    Raises:
        InvalidArgumentError: the environment says something else than it may.
        UnimplementedError: shared memory is demanded, and this system has none.
    """
    transport = transport_from_env() if transport is None else transport
    grpc = GrpcDialer(address, credentials, compression=compression)
    if transport is Transport.GRPC or (transport is Transport.AUTO and not _HAS_LOCAL):
        return grpc
    if not _HAS_LOCAL:
        raise _impossible()
    from paramserve_core.transport.local_dialer import LocalDialer, is_loopback

    if transport is Transport.AUTO and not is_loopback(address):
        return grpc
    return LocalDialer(grpc, falls_back=transport is Transport.AUTO)


def shared_memory(transport: Transport | None = None) -> SegmentPool | None:
    """The memory that a server shares with its clients; None if it must not, or cannot.

    Raises:
        InvalidArgumentError: the environment says something else than it may.
        UnimplementedError: shared memory is demanded, and this system has none.
    """
    transport = transport_from_env() if transport is None else transport
    if transport is Transport.GRPC:
        return None
    if _HAS_LOCAL:
        from paramserve_core.transport import segments

        if segments.can_share():
            return segments.POOL
    if transport is Transport.SHM:
        raise _impossible()
    return None


def push_buffer(
    shape: Sequence[int], dtype: np.dtype[Any], transport: Transport | None = None
) -> NDArray[Any]:
    """An array of zeros that a server on this host reads where it lies, when it is sent.

    Where nothing can be shared, or the array is so small that it travels faster otherwise, it is an
    array like any other.

    Args:
        shape: its shape.
        dtype: its type.
        transport: what is used; None: as the environment says.

    Raises:
        InvalidArgumentError: the environment says something else than it may.
        UnimplementedError: shared memory is demanded, and this system has none.
        MemoryError: there is no such memory.
    """
    memory = shared_memory(transport)
    if memory is None:
        return np.zeros(shape, dtype)
    from paramserve_core.transport.lending import SHARED_BYTES

    array = memory.allocate(shape, dtype, SHARED_BYTES)
    array.fill(0)
    return array


def _impossible() -> UnimplementedError:
    return UnimplementedError(
        None, None, f"{TRANSPORT_VARIABLE}=shm: shared memory works on Linux 5.14 and later only"
    )

"""Which tensors a message has: announced in the same bytes again, and understood once.

The steps of a session send tensors of the same types and shapes again and again, perhaps a thousand
in one message. So a connection announces them apart from the rest of a message (a local one in a
`TensorList`, one of gRPC at the end of an `Envelope`), and both ends remember what they worked out:
the sender an `Announcement` by types and shapes, the receiver a `Layout` by the bytes that
announced it, which were checked then. A peer may announce something else each time, so only so many
tensors are remembered.

Neighbours of one type and shape are a *run*: their bytes become arrays all at once.

Thread rule: what is made here is immutable, but for what is `Remembered`, which any thread may use.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.transport import payload
from paramserve_core.values import MAX_RANK
from paramserve_protos.v1 import local_transport_pb2, service_pb2, types_pb2

Array = NDArray[Any]
Piece = bytes | memoryview | Array
"""What has bytes: an array only if it is contiguous and in the order that travels."""

Kind = type[local_transport_pb2.TensorList] | type[service_pb2.Envelope]
"""What tensors are announced in."""

REMEMBERED_BYTES: Final = 8 << 20
"""What each end of a connection remembers takes no more than about that."""

_TENSOR_BYTES: Final = 400

_IS_LITTLE: Final = sys.byteorder == "little"
_PIECES: Final = 1024

_Known = TypeVar("_Known")


class Remembered(Generic[_Known]):
    """What was worked out about lists of tensors.

    Args:
        limit_bytes: how much memory it may take, about; it starts anew beyond that.
    """

    def __init__(self, limit_bytes: int = REMEMBERED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._known: dict[Hashable, _Known] = {}
        self._used_bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: Hashable) -> _Known | None:
        """What is known under a key."""
        return self._known.get(key)

    def keep(self, key: Hashable, known: _Known, count: int, encoded: bytes) -> None:
        """Remembers what is known of `count` tensors and their announcement, unless it is much."""
        size = len(encoded) + _TENSOR_BYTES * (count + 1)
        if size > self._limit_bytes:
            return
        if self._used_bytes + size > self._limit_bytes:
            self._known, self._used_bytes = {}, 0
        self._known[key] = known
        self._used_bytes += size


# Sending.


@dataclass(frozen=True, slots=True)
class Announcement:
    """How a list of tensors is announced.

    Attributes:
        encoded: a serialized message with their headers.
        size: bytes of all the tensors as they travel.
        large: the numbers of those that have at least a certain size.
        small: the numbers of the others.
        small_bytes: what the others have together.
        bodies: the bytes of the others, where they depend on more than types and shapes; None:
            the others are pieces themselves where they are contiguous.
    """

    encoded: bytes
    size: int
    large: tuple[int, ...]
    small: tuple[int, ...]
    small_bytes: int
    bodies: tuple[memoryview, ...] | None


class Announcer:
    """Announces lists of tensors.

    Args:
        large_bytes: a tensor with at least that many bytes is large, unless it is of strings.
        kind: the message that has their headers.
    """

    def __init__(self, large_bytes: int, kind: Kind = local_transport_pb2.TensorList) -> None:
        self._large_bytes = large_bytes
        self._kind = kind
        self._remembered: Remembered[Announcement] = Remembered()

    def announce(self, tensors: Sequence[Array]) -> Announcement:
        """How to announce these tensors.

        Raises:
            InvalidArgumentError: a string of 4 GiB or more.
        """
        key = (
            tuple([tensor.dtype for tensor in tensors]),
            tuple([tensor.shape for tensor in tensors]),
        )
        found = self._remembered.find(key)
        if found is None:
            found = self._work_out(tensors)
            if found.bodies is None:
                self._remembered.keep(key, found, len(tensors), found.encoded)
        return found

    def _work_out(self, tensors: Sequence[Array]) -> Announcement:
        headers: list[service_pb2.TensorHeader] = []
        large: list[int] = []
        small: list[int] = []
        bodies: list[memoryview] = []
        all_plain = True
        for index, tensor in enumerate(tensors):
            if tensor.nbytes >= self._large_bytes and not tensor.dtype.hasobject:
                headers.append(_header(tensor))
                large.append(index)
                continue
            header, body = payload.pack(tensor)
            headers.append(header)
            bodies.append(body)
            small.append(index)
            all_plain = all_plain and _is_plain(tensor.dtype)
        return Announcement(
            encoded=self._kind(tensors=headers).SerializeToString(),
            size=sum(header.payload_bytes for header in headers),
            large=tuple(large),
            small=tuple(small),
            small_bytes=sum(map(len, bodies)),
            bodies=None if all_plain else tuple(bodies),
        )


def _header(tensor: Array) -> service_pb2.TensorHeader:
    return service_pb2.TensorHeader(
        dtype=as_dtype(tensor.dtype).as_datatype_enum,
        dims=tensor.shape,
        payload_bytes=tensor.nbytes,
    )


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of it are the bytes that travel, and Python sees those."""
    return _IS_LITTLE and dtype.isnative and dtype.isbuiltin == 1 and not dtype.hasobject


def joined(pieces: Sequence[Piece]) -> Iterator[bytes | memoryview]:
    """The bytes of pieces, a thousand at a time."""
    for begin in range(0, len(pieces), _PIECES):
        some: Sequence[Any] = pieces[begin : begin + _PIECES]
        try:
            yield b"".join(some)
        except (TypeError, ValueError, BufferError):  # One is not contiguous.
            yield b"".join([p.tobytes() if isinstance(p, np.ndarray) else p for p in some])


# Receiving.


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours of one type and shape.

    Attributes:
        begin: the number of the first tensor.
        end: one more than that of the last.
        size: bytes of each of them.
        shape: of each of them.
        dtype: of their elements; None: they have to be looked at one by one.
    """

    begin: int
    end: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None

    def arrays(self, body: Array, *, are_own: bool) -> list[Array]:
        """The tensors of the run, or some of them, if it has a `dtype`.

        Args:
            body: their bytes; none is cut.
            are_own: make each of them an array with memory of its own; else they are parts of the
                body, or of one copy.
        """
        assert self.dtype is not None
        if self.dtype.kind == "b":
            # Any byte but 0 and 1 would be a bool that NumPy does not expect.
            body = body != 0
        count = len(body) // self.size
        whole = body.view(self.dtype).reshape(count, *self.shape)
        if not are_own and not whole.flags.aligned:
            whole = whole.copy()
        parts = list(whole) if self.shape else [whole[index, ...] for index in range(count)]
        return [part.copy() for part in parts] if are_own else parts


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors that were announced; every header was checked.

    Attributes:
        headers: one for each.
        runs: all of them in order.
        size: bytes of all of them.
    """

    headers: tuple[service_pb2.TensorHeader, ...]
    runs: tuple[Run, ...]
    size: int

    @classmethod
    def of(
        cls,
        encoded: bytes,
        max_message_bytes: int,
        kind: Kind = local_transport_pb2.TensorList,
    ) -> Layout:
        """The layout that a serialized message of that kind announces.

        Raises:
            InvalidArgumentError: it is malformed.
            ResourceExhaustedError: more tensors or bytes than a message may have.
        """
        try:
            message = kind.FromString(encoded)
        except DecodeError:
            raise _malformed(f"they are no {kind.__name__}") from None
        if any(field.name != "tensors" for field, _ in message.ListFields()):
            raise _malformed("something else is among them")
        headers = message.tensors
        incoming = payload.incoming(headers, len(encoded), max_message_bytes)
        return cls(tuple(headers), tuple(_runs(headers, incoming)), sum(t.size for t in incoming))


def _malformed(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"malformed tensors in a message: {what}")


class Layouts:
    """The layouts that a peer announces."""

    def __init__(self, max_message_bytes: int, kind: Kind = local_transport_pb2.TensorList) -> None:
        self._max_message_bytes = max_message_bytes
        self._kind = kind
        self._remembered: Remembered[Layout] = Remembered()

    def find(self, encoded: bytes) -> Layout:
        """See `Layout.of`."""
        layout = self._remembered.find(encoded)
        if layout is None:
            layout = Layout.of(encoded, self._max_message_bytes, self._kind)
            self._remembered.keep(encoded, layout, len(layout.headers), encoded)
        return layout


def _runs(
    headers: Sequence[service_pb2.TensorHeader], incoming: Sequence[payload.Incoming]
) -> Iterator[Run]:
    def alike(index: int) -> tuple[DType, tuple[int, ...], int, int]:
        tensor = incoming[index]
        return tensor.dtype, tensor.shape, tensor.size, headers[index].travels_as

    begin = 0
    for (dtype, shape, size, travels_as), group in groupby(range(len(headers)), alike):
        end = begin + sum(1 for _ in group)
        is_plain = (
            _IS_LITTLE
            and dtype is not dtypes.string
            and travels_as == types_pb2.DT_INVALID
            and len(shape) < MAX_RANK
            and size > 0
        )
        numpy_dtype = np.dtype(dtype.as_numpy_dtype) if is_plain else None
        yield Run(begin, end, size, shape, numpy_dtype)
        begin = end

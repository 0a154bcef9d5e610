"""Tensors through shared memory: what this process borrows from its peer, the `lending` one.

There are two ways to borrow. A server maps each segment once, read-only, and reads a tensor where
it lies: a pushed gradient is neither copied nor costs page faults after the first time. A client
maps each huge tensor anew and privately: what it fetched is its own to write to, and the server's
memory stays as it is. Until a client writes to a page, however, the page still is the server's. So
a client that ends a connection makes the pages its own first (`Borrower.make_own`).

Copied all the same: integers in a server, since they may be indices, which must not change between
being checked and being used; bools, since not every byte is one; what a client gets that is not
huge, since copying is cheaper than mapping; and the many small tensors that share a block.

Thread rule: `message` is called by the thread that reads, everything else by any. Leases end on any
thread, in the middle of anything, so what they do then never waits for a lock.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.transport import payload, segments
from paramserve_core.transport.interface import Message
from paramserve_core.transport.layout import Layout, Layouts
from paramserve_core.transport.lending import HUGE_BYTES
from paramserve_core.transport.local_packets import PacketReader, malformed
from paramserve_core.transport.ownership import HeldMemory, array_on, hold
from paramserve_core.transport.payload import Incoming
from paramserve_core.transport.room import Admit, admitted
from paramserve_protos.v1 import local_transport_pb2, service_pb2

Array = NDArray[Any]

_WHOLE_BYTES: Final = 1 << 20
"""So many bytes behind a packet are read at once; more take memory as they come."""


class _Lease:
    """A segment of the peer's for as long as something here uses it.

    Attributes:
        is_exclusive: never, the peer can write to it.
    """

    __slots__ = ("_borrower", "_number")

    is_exclusive: Final = False

    def __init__(self, borrower: Borrower, number: int) -> None:
        self._borrower = borrower
        self._number = number

    def __del__(self) -> None:
        self._borrower.release(self._number)


class _PrivateMapping:
    """A private mapping of a part of a segment that is leased.

    Attributes:
        is_exclusive: always; its one array may be kept and written to.
        mapping: the memory.
    """

    __slots__ = ("__weakref__", "_lease", "mapping")

    is_exclusive: Final = True

    def __init__(self, lease: _Lease, mapping: mmap.mmap) -> None:
        self._lease = lease
        self.mapping = mapping


@dataclass(frozen=True, slots=True)
class _Borrowed:
    """A segment of a packet."""

    id: int
    bytes: int
    descriptor: int
    lease: _Lease


class Borrower:
    """What this end of a connection borrowed.

    Args:
        max_message_bytes: envelope and tensors of one message together.
        maps_privately: whether huge tensors become this process's own (a client), or are read where
            they lie (a server).
        released_one: called when a lease has ended, by any thread; must not wait.
    """

    def __init__(
        self, max_message_bytes: int, *, maps_privately: bool, released_one: Callable[[], None]
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._maps_privately = maps_privately
        self._released_one = released_one
        self._process = os.getpid()
        self._layouts = Layouts(max_message_bytes)
        self._known: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()
        self._private: weakref.WeakSet[_PrivateMapping] = weakref.WeakSet()
        self._is_ended = False
        self.released: deque[int] = deque()

    @property
    def known_count(self) -> int:
        """Segments that are mapped and kept for the next tensor in them."""
        return len(self._known)

    def release(self, number: int) -> None:
        """A lease ended; in a child process after a fork it did not, the parent has it."""
        if os.getpid() == self._process:
            self.released.append(number)
            self._released_one()

    def drop(self, number: int) -> None:
        """The peer will not lend a segment again."""
        self._known.pop(number, None)

    def message(
        self,
        packet: local_transport_pb2.LocalPacket,
        reader: PacketReader,
        admit: Admit = lambda _: None,
    ) -> Message | None:
        """The message in a packet, of which the body is read; None if it has none.

        Args:
            packet: the packet.
            reader: what reads its body.
            admit: waits until the message may arrive.

        Raises:
            InvalidArgumentError: it is malformed.
            ResourceExhaustedError: it is larger than the limit, or there is no memory for it.
        """
        descriptors = reader.take_descriptors(len(packet.segments)) if packet.segments else []
        try:
            if not packet.envelope:
                if reader.body_bytes or descriptors:
                    raise malformed("tensors without a message")
                return None
            envelope = service_pb2.Envelope()
            try:
                envelope.ParseFromString(packet.envelope)
            except DecodeError:
                raise malformed("its message is no Envelope") from None
            if envelope.tensors:
                raise malformed("tensors in its envelope")
            layout = self._layouts.find(packet.tensors)
            message_bytes = len(packet.envelope) + len(packet.tensors) + layout.size
            payload.check_size(message_bytes, self._max_message_bytes)
            if not (layout.headers or packet.segments or packet.shared or reader.body_bytes):
                return Message(envelope)
            admission = admit(layout.size)
            tensors = self._tensors(packet, layout, descriptors, reader)
            return Message(envelope, admitted(tensors, admission))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def make_own(self) -> None:
        """Makes private memory independent of the peer's.

        Raises:
            OSError: there is no memory for it.
        """
        with self._lock:
            mappings = list(self._private)
        for private in mappings:
            segments.make_own(private.mapping)

    def end(self) -> None:
        """Makes private memory independent of the peer's, which may do with its own as it likes.

        Raises:
            OSError: there is no memory for it.
        """
        with self._lock:
            self._is_ended = True
        self._released_one = _tell_nobody
        self.make_own()
        self._known.clear()

    def _tensors(
        self,
        packet: local_transport_pb2.LocalPacket,
        layout: Layout,
        descriptors: Sequence[int],
        reader: PacketReader,
    ) -> list[Array]:
        borrowed = [
            _Borrowed(segment.id, segment.bytes, descriptor, _Lease(self, segment.lease))
            for segment, descriptor in zip(packet.segments, descriptors, strict=True)
        ]
        places: dict[int, local_transport_pb2.SharedTensor] = {s.tensor: s for s in packet.shared}
        headers = layout.headers
        if len(places) != len(packet.shared) or max(places, default=-1) >= len(headers):
            raise malformed("a tensor that is not in the message, or one with two places")
        body_bytes = layout.size - sum(headers[index].payload_bytes for index in places)
        body = self._body(packet, borrowed, reader, body_bytes)
        tensors: list[Array] = []
        begin = 0
        for run in layout.runs:
            numbers = range(run.begin, run.end)
            if run.dtype is not None and body is not None and places.keys().isdisjoint(numbers):
                end = begin + run.size * len(numbers)
                tensors += run.arrays(body[begin:end], are_own=self._maps_privately)
                begin = end
                continue
            for index in numbers:
                tensor, place = Incoming(headers[index]), places.get(index)
                if place is not None:
                    tensors.append(self._borrow(_of(borrowed, place), tensor, place.offset))
                    continue
                if body is None:
                    missing = tensor.size
                    while missing:
                        missing -= tensor.fill(reader.body(missing))
                else:
                    tensor.fill(body[begin : begin + tensor.size].data)
                    begin += tensor.size
                tensors.append(tensor.array())
        return tensors

    def _body(
        self,
        packet: local_transport_pb2.LocalPacket,
        borrowed: Sequence[_Borrowed],
        reader: PacketReader,
        size: int,
    ) -> Array | None:
        """The bytes of the tensors without a place; None: they are best read one by one.

        They do not change any more, unless all of them are going to be copied.
        """
        if packet.HasField("body"):
            body = packet.body
            place = _of(borrowed, body)
            if body.bytes != size or reader.body_bytes or body.offset + size > place.bytes:
                raise malformed(
                    f"{body.bytes} bytes at {body.offset} in a segment of {place.bytes}, its "
                    f"tensors have {size}"
                )
            found: Array = np.frombuffer(self._map_shared(place), np.uint8, size, body.offset)
            if self._maps_privately:
                return found
            memory = payload.set_aside((size,), np.uint8)
            np.copyto(memory, found)
            return memory
        if size != reader.body_bytes:
            raise malformed(f"{reader.body_bytes} bytes behind it, its tensors have {size}")
        if size > _WHOLE_BYTES:
            return None
        memory = payload.set_aside((size,), np.uint8)
        end = 0
        while end < size:
            piece = reader.body(size - end)
            memory[end : end + len(piece)] = np.frombuffer(piece, np.uint8)
            end += len(piece)
        return memory

    def _borrow(self, place: _Borrowed, tensor: Incoming, offset: int) -> Array:
        dtype = np.dtype(tensor.dtype.as_numpy_dtype)
        if dtype.hasobject or not tensor.size:
            raise malformed(f"{tensor.dtype.name} of {tensor.size} bytes in shared memory")
        if offset + tensor.size > place.bytes or offset % dtype.alignment:
            raise malformed(
                f"a tensor of {tensor.size} bytes at {offset} in a segment of {place.bytes}"
            )
        is_copied = tensor.dtype is dtypes.bool or (
            tensor.size < HUGE_BYTES if self._maps_privately else tensor.dtype.is_integer
        )
        if self._maps_privately and not is_copied:
            own = self._map_privately(place, tensor, offset)
            if own is not None:
                return own
            is_copied = True
        array = array_on(hold(self._map_shared(place), place.lease), tensor.shape, dtype, offset)
        if is_copied:
            tensor.fill(array.reshape(-1).view(np.uint8).data)
            return tensor.array()
        return array

    def _map_shared(self, place: _Borrowed) -> mmap.mmap:
        mapping = self._known.get(place.id)
        if mapping is None:
            if not segments.has_room_to_map():
                self._known.clear()
            mapping = segments.map_shared(place.descriptor, place.bytes)
            self._known[place.id] = mapping
        elif len(mapping) != place.bytes:
            raise malformed(f"segment {place.id} of {len(mapping)} bytes with {place.bytes}")
        return mapping

    def _map_privately(self, place: _Borrowed, tensor: Incoming, offset: int) -> Array | None:
        """An array of this process's own; None if there are too many to map another."""
        end = offset + tensor.size
        with self._lock:
            if self._is_ended or not segments.has_room_to_map():
                return None
            mapping, begin = segments.map_privately(place.descriptor, place.bytes, offset, end)
            private = _PrivateMapping(place.lease, mapping)
            self._private.add(private)
        memory: HeldMemory = hold(mapping, private)
        return array_on(memory, tensor.shape, tensor.dtype.as_numpy_dtype, begin)


def _tell_nobody() -> None:
    """The lender has taken everything back."""


def _of(
    borrowed: Sequence[_Borrowed],
    place: local_transport_pb2.SharedTensor | local_transport_pb2.SharedBytes,
) -> _Borrowed:
    if place.segment >= len(borrowed):
        raise malformed(f"segment {place.segment} of {len(borrowed)}")
    return borrowed[place.segment]

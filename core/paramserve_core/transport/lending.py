"""Tensors through shared memory: what this process lends its peer, and what it borrows.

A large tensor is *lent*: the lender copies it into a block, unless it lies in one already and is
read-only, and keeps the memory until the borrower says that it needs it no longer. Read-only are
the values of variables, which nobody changes while they are leased, and what a client feeds from a
buffer of its session, which it leaves alone until the step has ended. One that does not spoils its
own update: what must not change is copied first, see below.
Large tensors that are not huge share one block, so a message with very many of them maps little.

There are two ways to borrow. A server maps each segment once, read-only, and reads a tensor where
it lies: a pushed gradient is neither copied nor costs page faults after the first time. A client
maps each huge tensor anew and privately: what it fetched is its own to write to, and the server's
memory stays as it is. Until a client writes to a page, however, the page still is the server's. So
a client that ends a connection makes the pages its own first (`Borrower.make_own`).

Copied by the borrower all the same: integers in a server, since they may be indices, which must not
change between being checked and being used; bools, since not every byte is one; and what a client
gets that is not huge, since copying is cheaper than mapping.

Thread rule: a lender may be used from any thread; a borrower's `message` is called by the thread
that reads, everything else by any. Leases end on any thread, in the middle of anything, so what
they do then never waits for a lock.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype
from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.transport import payload, segments
from paramserve_core.transport.interface import Message
from paramserve_core.transport.local_packets import MAX_DESCRIPTORS, PacketReader, malformed
from paramserve_core.transport.ownership import HeldMemory, array_on, hold
from paramserve_core.transport.payload import Incoming
from paramserve_core.transport.room import Admit, admitted
from paramserve_core.transport.segments import Block
from paramserve_protos.v1 import local_transport_pb2, service_pb2

Array = NDArray[Any]

SHARED_BYTES: Final = 64 << 10
"""A tensor of at least that many bytes is lent, unless it is of strings."""

HUGE_BYTES: Final = 1 << 20
"""A tensor of at least that many bytes has a block of its own."""

_ALIGNMENT: Final = 64


@dataclass(slots=True)
class Outgoing:
    """A packet with a message, ready to be written.

    Attributes:
        packet: without what was released and dropped.
        bodies: the tensors that are not lent, by their number in the message.
        blocks: what is lent, in the order of the packet's segments.
        size: bytes of the envelope and all tensors.
    """

    packet: local_transport_pb2.LocalPacket
    bodies: dict[int, memoryview] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    size: int = 0

    @property
    def body(self) -> list[memoryview]:
        """The bytes behind the packet."""
        return [self.bodies[index] for index in sorted(self.bodies)]

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that go with the packet."""
        return [block.segment.fd for block in self.blocks]


class Lender:
    """What this end of a connection lent.

    Args:
        max_message_bytes: envelope and tensors of one message together.
        pool: where memory comes from.
    """

    def __init__(self, max_message_bytes: int, pool: segments.SegmentPool = segments.POOL) -> None:
        self._max_message_bytes = max_message_bytes
        self._pool = pool
        self._numbers = itertools.count(1)
        self._lent: dict[int, tuple[Block, Array]] = {}
        self._named: dict[int, weakref.ref[segments.Segment]] = {}
        self.dropped: deque[int] = deque()

    @property
    def lease_count(self) -> int:
        """Leases that have not ended."""
        return len(self._lent)

    def pack(self, message: Message) -> Outgoing:
        """Makes a packet of a message and lends its large tensors.

        Raises:
            ResourceExhaustedError: the message is larger than the peer takes.
        """
        outgoing = Outgoing(local_transport_pb2.LocalPacket())
        encoded = message.envelope.SerializeToString()
        large: list[tuple[int, Array]] = []
        size = 0
        if message.tensors:
            headers: list[service_pb2.TensorHeader] = []
            for index, tensor in enumerate(message.tensors):
                if tensor.nbytes >= SHARED_BYTES and not tensor.dtype.hasobject:
                    headers.append(_header(tensor))
                    large.append((index, tensor))
                else:
                    header, outgoing.bodies[index] = payload.pack(tensor)
                    headers.append(header)
            # Messages that are joined are merged, see `frames`.
            encoded += service_pb2.Envelope(tensors=headers).SerializeToString()
            size = sum(header.payload_bytes for header in headers)
        outgoing.size = len(encoded) + size
        payload.check_size(outgoing.size, self._max_message_bytes)
        outgoing.packet.envelope = encoded
        if large:
            try:
                self._lend_all(outgoing, large)
            except BaseException:
                self.take_back_unsent(outgoing)
                raise
        return outgoing

    def take_back(self, number: int) -> None:
        """The borrower ended a lease."""
        self._lent.pop(number, None)

    def take_back_unsent(self, outgoing: Outgoing) -> None:
        """Ends the leases of a packet that may or may not have been written."""
        for segment in outgoing.packet.segments:
            self._retire(segment.lease)

    def take_back_all(self) -> None:
        """The connection ended. A peer that lives may still be reading: nothing is used again."""
        for number in list(self._lent):
            self._retire(number)

    def _retire(self, number: int) -> None:
        found = self._lent.pop(number, None)
        if found is not None:
            found[0].retire()

    def _lend_all(self, outgoing: Outgoing, large: Sequence[tuple[int, Array]]) -> None:
        together: list[tuple[int, Array]] = []
        # One descriptor stays for those that share a block.
        for index, tensor in large:
            if len(outgoing.blocks) < MAX_DESCRIPTORS - 1 and (
                self._lend_in_place(outgoing, index, tensor)
                or (tensor.nbytes >= HUGE_BYTES and self._lend_copies(outgoing, [(index, tensor)]))
            ):
                continue
            together.append((index, tensor))
        if together and not self._lend_copies(outgoing, together):
            # No segment is to be had; then the bytes go through the socket.
            for index, tensor in together:
                outgoing.bodies[index] = payload.pack(tensor)[1]

    def _lend_in_place(self, outgoing: Outgoing, index: int, tensor: Array) -> bool:
        """Lends a tensor that lies in a block, if it is read-only."""
        if tensor.flags.writeable or not tensor.dtype.isnative:
            return False
        found = segments.locate(tensor)
        if found is None or found[1] % tensor.dtype.alignment:
            return False
        block, offset = found
        self._add(outgoing, block, tensor, [(index, offset)])
        return True

    def _lend_copies(self, outgoing: Outgoing, tensors: Sequence[tuple[int, Array]]) -> bool:
        """Lends copies of tensors in one new block, if there is one."""
        places: list[tuple[int, int]] = []
        end = 0
        for index, tensor in tensors:
            places.append((index, end))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        try:
            memory = self._pool.take(end)
        except ResourceExhaustedError:
            return False
        for (_, tensor), (_, offset) in zip(tensors, places, strict=True):
            target = array_on(memory, tensor.shape, tensor.dtype.newbyteorder("="), offset)
            np.copyto(target, tensor)
        block = memory.holder
        assert isinstance(block, Block)
        self._add(outgoing, block, memory, places)
        return True

    def _add(
        self, outgoing: Outgoing, block: Block, kept: Array, places: Sequence[tuple[int, int]]
    ) -> None:
        number = next(self._numbers)
        self._lent[number] = block, kept
        segment = block.segment
        if segment.id not in self._named:
            self._named[segment.id] = weakref.ref(segment, self._dropping(segment.id))
        position = len(outgoing.blocks)
        outgoing.blocks.append(block)
        outgoing.packet.segments.add(id=segment.id, bytes=segment.size, lease=number)
        for index, offset in places:
            outgoing.packet.shared.add(tensor=index, segment=position, offset=offset)

    def _dropping(self, number: int) -> Callable[[object], None]:
        named, dropped = self._named, self.dropped

        def drop(_: object) -> None:
            named.pop(number, None)
            dropped.append(number)

        return drop


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
            if not (envelope.tensors or packet.segments or packet.shared or reader.body_bytes):
                return Message(envelope)
            incoming = payload.incoming(
                envelope.tensors, len(packet.envelope), self._max_message_bytes
            )
            del envelope.tensors[:]
            admission = admit(sum(tensor.size for tensor in incoming))
            tensors = self._tensors(packet, incoming, descriptors, reader)
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
        self.make_own()
        self._known.clear()

    def _tensors(
        self,
        packet: local_transport_pb2.LocalPacket,
        incoming: Sequence[Incoming],
        descriptors: Sequence[int],
        reader: PacketReader,
    ) -> list[Array]:
        borrowed = [
            _Borrowed(segment.id, segment.bytes, descriptor, _Lease(self, segment.lease))
            for segment, descriptor in zip(packet.segments, descriptors, strict=True)
        ]
        places: dict[int, local_transport_pb2.SharedTensor] = {s.tensor: s for s in packet.shared}
        if len(places) != len(packet.shared) or max(places, default=-1) >= len(incoming):
            raise malformed("a tensor that is not in the message, or one with two places")
        inline_bytes = sum(t.size for index, t in enumerate(incoming) if index not in places)
        if inline_bytes != reader.body_bytes:
            raise malformed(f"{reader.body_bytes} bytes behind it, its tensors have {inline_bytes}")
        tensors: list[Array] = []
        for index, tensor in enumerate(incoming):
            place = places.get(index)
            if place is not None:
                if place.segment >= len(borrowed):
                    raise malformed(f"segment {place.segment} of {len(borrowed)}")
                tensors.append(self._borrow(borrowed[place.segment], tensor, place.offset))
                continue
            missing = tensor.size
            while missing:
                missing -= tensor.fill(reader.body(missing))
            tensors.append(tensor.array())
        return tensors

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


def _header(tensor: Array) -> service_pb2.TensorHeader:
    return service_pb2.TensorHeader(
        dtype=as_dtype(tensor.dtype).as_datatype_enum,
        dims=tensor.shape,
        payload_bytes=tensor.nbytes,
    )

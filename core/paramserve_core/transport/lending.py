"""Tensors through shared memory: what this process lends its peer; see `borrowing` for the peer.

A large tensor is *lent*: the lender copies it into a block, unless it lies in one already and is
read-only, and keeps the memory until the borrower says that it needs it no longer. Read-only are
the values of variables, which nobody changes while they are leased, and what a client feeds from a
buffer of its session, which it leaves alone until the step has ended. One that does not spoils its
own update: the borrower copies first what must not change.
Large tensors that are not huge share one block, so a message with very many of them maps little.
Small ones travel back to back behind the packet; where they are many, that is a block, too.

Thread rule: everything may be called from any thread. Leases end on any thread, in the middle of
anything, so what they do then never waits for a lock.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.transport import payload, segments
from paramserve_core.transport.interface import Message
from paramserve_core.transport.layout import Announcement, Announcer, Piece, joined
from paramserve_core.transport.local_packets import MAX_DESCRIPTORS
from paramserve_core.transport.ownership import array_on
from paramserve_core.transport.segments import Block
from paramserve_protos.v1 import local_transport_pb2

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
        body: the bytes behind the packet.
        blocks: what is lent, in the order of the packet's segments.
        size: bytes of the envelope and all tensors.
    """

    packet: local_transport_pb2.LocalPacket
    body: Sequence[Piece] = ()
    blocks: list[Block] = field(default_factory=list)
    size: int = 0

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
        self._announcer = Announcer(SHARED_BYTES)
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
        packet = local_transport_pb2.LocalPacket(envelope=message.envelope.SerializeToString())
        outgoing = Outgoing(packet, size=len(packet.envelope))
        if not message.tensors:
            payload.check_size(outgoing.size, self._max_message_bytes)
            return outgoing
        announced = self._announcer.announce(message.tensors)
        packet.tensors = announced.encoded
        outgoing.size += len(announced.encoded) + announced.size
        payload.check_size(outgoing.size, self._max_message_bytes)
        try:
            self._add_tensors(outgoing, message.tensors, announced)
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

    def _add_tensors(
        self, outgoing: Outgoing, tensors: Sequence[Array], announced: Announcement
    ) -> None:
        large = [(index, tensors[index]) for index in announced.large]
        left = self._lend_all(outgoing, large) if large else []
        pieces: list[Piece] = (
            [tensors[index] for index in announced.small]
            if announced.bodies is None
            else list(announced.bodies)
        )
        body_bytes = announced.small_bytes
        if left:
            # No segment is to be had; then the bytes go through the socket.
            of_index = dict(zip(announced.small, pieces, strict=True))
            of_index.update((index, payload.pack(tensor)[1]) for index, tensor in left)
            pieces = [of_index[index] for index in sorted(of_index)]
        elif body_bytes >= SHARED_BYTES and self._lend_body(outgoing, pieces, body_bytes):
            return
        outgoing.body = pieces

    def _lend_all(
        self, outgoing: Outgoing, large: Sequence[tuple[int, Array]]
    ) -> Sequence[tuple[int, Array]]:
        """Lends large tensors; answers those that could not be."""
        together: list[tuple[int, Array]] = []
        # One descriptor stays for those that share a block, and one for the small ones.
        for index, tensor in large:
            if len(outgoing.blocks) < MAX_DESCRIPTORS - 2 and (
                self._lend_in_place(outgoing, index, tensor)
                or (tensor.nbytes >= HUGE_BYTES and self._lend_copies(outgoing, [(index, tensor)]))
            ):
                continue
            together.append((index, tensor))
        return [] if not together or self._lend_copies(outgoing, together) else together

    def _lend_body(self, outgoing: Outgoing, pieces: Sequence[Piece], size: int) -> bool:
        """Lends a block with what would be behind the packet, if there is one."""
        try:
            memory = self._pool.take(size)
        except ResourceExhaustedError:
            return False
        target, end = memory.data, 0
        for some in joined(pieces):
            target[end : end + len(some)] = some
            end += len(some)
        block = memory.holder
        assert isinstance(block, Block)
        segment = len(outgoing.blocks)
        self._add(outgoing, block, memory, ())
        outgoing.packet.body.segment = segment
        outgoing.packet.body.bytes = size
        return True

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

"""The tensors of a message over gRPC: how they are announced, and how they arrive.

They are announced at the end of the message's envelope, where the same types and shapes give the
same bytes again, so that both ends remember what they worked out about them (see `layout`).

Neighbours that are small are handled together: what has to be done for a tensor of a kilobyte by
itself takes ten times as long as copying it.

Thread rule: `announced` may be called from any thread; an `Arrival` belongs to the thread that
reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.transport import payload
from paramserve_core.transport.interface import Message
from paramserve_core.transport.layout import Announcer, Layout, Layouts, Run, joined
from paramserve_core.transport.payload import Incoming
from paramserve_protos.v1 import service_pb2

Array = NDArray[Any]

SMALL_BYTES: Final = 4096
"""A tensor with fewer is handled together with its neighbours."""

_TAG: Final = service_pb2.Envelope.TENSORS_FIELD_NUMBER << 3 | 2


def new_announcer() -> Announcer:
    """What remembers the announcements of one connection."""
    return Announcer(SMALL_BYTES, service_pb2.Envelope)


def new_layouts(max_message_bytes: int) -> Layouts:
    """What remembers the announcements of the other end."""
    return Layouts(max_message_bytes, service_pb2.Envelope)


def announced(message: Message, announcer: Announcer) -> tuple[bytes, list[memoryview]]:
    """The end of a message's envelope, and the bytes of its tensors.

    Raises:
        InvalidArgumentError: a string of 4 GiB or more.
    """
    tensors = message.tensors
    known = announcer.announce(tensors) if message.wire_dtype is None else None
    if known is None or known.bodies is not None:
        packed = [payload.pack(tensor, message.wire_dtype) for tensor in tensors]
        headers = [header for header, _ in packed]
        encoded = service_pb2.Envelope(tensors=headers).SerializeToString()
        return encoded, [body for _, body in packed]
    bodies: list[memoryview] = []
    begin = 0
    for index in known.large:
        bodies += map(memoryview, joined(tensors[begin:index]))
        bodies.append(payload.pack(tensors[index])[1])
        begin = index + 1
    bodies += map(memoryview, joined(tensors[begin:]))
    return known.encoded, bodies


def split(header: bytes) -> tuple[bytes, bytes]:
    """An encoded envelope without its tensors, and their announcement, which comes last.

    Of bytes that are no envelope, any two parts.
    """
    position = 0
    while position < len(header) and header[position] != _TAG:
        position += 1
        size = shift = 0
        while position < len(header):
            byte = header[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += size
    return header[:position], header[position:]


class Arrival:
    """The tensors of one message, as their bytes come in.

    Args:
        layout: what was announced.
        are_own: each tensor gets memory of its own; else small ones may share some.

    Attributes:
        tensors: those that are complete.
    """

    def __init__(self, layout: Layout, *, are_own: bool) -> None:
        self.tensors: list[Array] = []
        self._headers = layout.headers
        self._are_own = are_own
        self._runs: Iterator[Run] = iter(layout.runs)
        self._run = next(self._runs, None)
        self._incomplete: Incoming | None = None

    def take(self, piece: memoryview) -> memoryview | None:
        """Takes the next bytes; answers what follows the last tensor, None: more has to come.

        Raises:
            InvalidArgumentError: the lengths of strings do not add up.
            ResourceExhaustedError: there is no memory for a tensor.
        """
        tensors = self.tensors
        while (run := self._run) is not None:
            count = self._whole_count(run, len(piece))
            if count:
                size = count * run.size
                body: Array = np.frombuffer(piece, np.uint8, size)
                tensors += run.arrays(body, are_own=self._are_own)
                piece = piece[size:]
            else:
                tensor = self._incomplete or Incoming(self._headers[len(tensors)])
                piece = piece[tensor.fill(piece) :]
                if not tensor.is_complete:
                    self._incomplete = tensor
                    return None
                self._incomplete = None
                tensors.append(tensor.array())
            if len(tensors) == run.end:
                self._run = next(self._runs, None)
        return piece

    def _whole_count(self, run: Run, size: int) -> int:
        """How many tensors of a run can be made together of that many bytes."""
        if run.dtype is None or run.size >= SMALL_BYTES or self._incomplete is not None:
            return 0
        return min(run.end - len(self.tensors), size // run.size)

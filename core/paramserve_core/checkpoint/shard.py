"""Writing one task's tensors to a file, straight from the variables' buffers.

The places of all tensors are known before anything is written, so the header goes first, the
space is reserved at once, and chunks are checksummed and written by several threads at their
offsets. Nothing is copied except strings, which are packed first, and small tensors, of which
many are joined and written at once. A value is let go when its own bytes are written, not with the
last of the file: a training that goes on need not copy what was saved already.

The file is complete and durable, under its temporary name, when the writer returns. It stays open,
and so locked, until its save ends.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.checkpoint.contents import Contents
from paramserve_core.checkpoint.crew import for_each
from paramserve_core.checkpoint.disk import Disk, DiskFile
from paramserve_core.checkpoint.index import CHUNK_BYTES, stored_name
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.safetensors import HeaderEntry, encode_header
from paramserve_core.checkpoint.slices import Box
from paramserve_core.checkpoint.stored import bytes_of, pack_strings, safetensors_form
from paramserve_core.checkpoint.unread import Unread, content_of
from paramserve_core.dtypes import DType
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

_NOTHING: Final = memoryview(b"")

_JOINED_BYTES: Final = 1 << 20
"""Tensors that are smaller are written together, so many at a time as have that size."""


class Pace(NamedTuple):
    """How much of the machine it may take to write a shard.

    Attributes:
        threads: how many write. While one waits for the disk the other writes; more would wait for
            each other, for the file.
        write_back_bytes: after so many bytes one of the threads sees to it that the disk begins
            with them. Left to itself the kernel keeps what is written in memory, and the disk is
            idle until the end, and then so busy that others feel it.
        rests: how many times as long as it works a thread rests after each piece.
        disk_rests: the same, after it has waited for the disk.
    """

    threads: int
    write_back_bytes: int
    rests: float = 0.0
    disk_rests: float = 0.0


AT_ONCE: Final = Pace(threads=2, write_back_bytes=64 << 20)
"""For who waits for it."""

BESIDE_OTHERS: Final = Pace(threads=1, write_back_bytes=8 << 20, rests=12.0, disk_rests=8.0)
"""For a save that nobody waits for, beside steps that somebody does.

They share the memory's bandwidth and the way to the disk with it, so it takes little of both, and
its time. Priorities would do that without rests, but not for threads that share an interpreter: one
that is kept from running while it holds the lock of the interpreter keeps all others from running.
"""


class TakenTensor(NamedTuple):
    """A variable's value at the moment of a save.

    Attributes:
        key: the tensor's name in the checkpoint.
        dtype: its type.
        shape: the shape of the whole tensor.
        box: which part of it the variable is.
        array: the variable's value, leased; or a value that is read when it is written.
    """

    key: str
    dtype: DType
    shape: tuple[int, ...]
    box: Box
    array: NDArray[Any] | Unread


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written, and what the index says about it."""

    file: DiskFile
    contents: messages.WriteShardResponse


def write_safetensors(
    disk: Disk,
    runtime: Runtime,
    path: PurePath,
    name: str,
    tensors: list[TakenTensor],
    check: Callable[[], None],
    pace: Pace = AT_ONCE,
) -> WrittenFile:
    """Writes a file of the own format, and lets each value go once its bytes are written.

    Args:
        disk: the file system.
        runtime: where threads come from.
        path: the temporary file, which does not exist.
        name: the name that the file will get.
        tensors: what to write; emptied when the file is there, and so its space.
        check: called now and then; may raise to give up.
        pace: how fast.

    Raises:
        InvalidArgumentError: two tensors would have the same name in the file.
        OSError: the disk refused; no file is left.
    """
    with collector_paused():
        header, data, described = _plan(tensors)
    contents = messages.WriteShardResponse(
        file=name,
        bytes=len(header) + sum(described.sizes),
        header_bytes=len(header),
        header_checksum=crc32(header),
        chunk_bytes=CHUNK_BYTES,
    )
    file = disk.create(path, contents.bytes)
    try:
        tensors.clear()
        file.write_at(header, 0)
        _write_chunks(runtime, file, data, described, check, pace)
        file.sync()
    except BaseException:
        file.close()
        disk.remove(path)
        raise
    described.write_to(contents.tensors)
    return WrittenFile(file, contents)


def _plan(tensors: Sequence[TakenTensor]) -> tuple[bytes, list[memoryview | Unread], Contents]:
    """The file's header, the bytes of each tensor, and where they go; without checksums."""
    # Like the format's own writer: aligned without padding, because wide elements come first.
    widths = {dtype: -dtype.size for dtype in {tensor.dtype for tensor in tensors}}
    ordered = sorted(tensors, key=lambda t: (widths[t.dtype], t.key, t.box.begin))
    data = [stored_bytes(tensor) for tensor in ordered]
    contents = Contents()
    known: dict[Hashable, tuple[str, tuple[int, ...], str, int]] = {}
    entries: list[HeaderEntry] = []
    forms = []
    offset = 0
    new = tuple.__new__  # A third of the time, of a class that adds nothing to it.
    for (key, dtype, shape, box, _), content in zip(ordered, data, strict=True):
        nbytes = len(content)
        kind = (dtype.as_datatype_enum, shape, box.begin, box.shape, nbytes)
        found = known.get(kind)
        if found is None:
            stored = safetensors_form(dtype, box.shape, nbytes)
            suffix = stored_name("", box, shape)
            found = known[kind] = (*stored, suffix, contents.form(dtype, shape, box))
        type_name, stored_shape, suffix, form = found
        entries.append(new(HeaderEntry, (key + suffix, type_name, stored_shape, offset, nbytes)))
        forms.append(form)
        offset += nbytes
    names = {entry.name for entry in entries}
    if len(names) < len(entries):
        raise _two_of(Counter(entry.name for entry in entries).most_common(1)[0][0])
    header = encode_header(entries, {"format": "paramserve"})
    begin = len(header)
    contents.add_as(
        forms,
        keys=[tensor.key for tensor in ordered],
        offsets=[begin + entry.offset for entry in entries],
        sizes=[entry.nbytes for entry in entries],
        records=[0] * len(entries),
    )
    return header, data, contents


def stored_bytes(tensor: TakenTensor) -> memoryview | Unread:
    """A tensor's bytes in the own format, or what will read them.

    Raises:
        InvalidArgumentError: a string that is too long for it.
    """
    if isinstance(tensor.array, Unread):
        return tensor.array
    if tensor.dtype is not dtypes.string:
        return bytes_of(tensor.array)
    try:
        return pack_strings(tensor.array)
    except MalformedError as error:
        raise InvalidArgumentError(None, None, f"{tensor.key}: {error}") from None


def _two_of(name: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        None, None, f"two variables would be saved under the name {name!r}; rename one"
    )


def _write_chunks(
    runtime: Runtime,
    file: DiskFile,
    data: list[memoryview | Unread],
    described: Contents,
    check: Callable[[], None],
    pace: Pace,
) -> None:
    """Writes the bytes of all tensors, and puts their checksums into `described`."""
    checksums = described.checksums
    offsets = described.offsets
    found: dict[int, list[int]] = {}
    unwritten = [0] * len(data)
    lock = threading.Lock()

    def write_joined(first: int, last: int) -> None:
        contents = list(map(content_of, data[first:last]))
        checksums[first:last] = map(_checksums, contents)
        file.write_at(b"".join(contents), offsets[first])
        data[first:last] = [_NOTHING] * (last - first)

    def write_chunk(number: int, begin: int) -> None:
        content = content_of(data[number])[begin : begin + CHUNK_BYTES]
        found[number][begin // CHUNK_BYTES] = crc32(content)
        file.write_at(content, offsets[number] + begin)
        with lock:
            unwritten[number] -= 1
            if not unwritten[number]:
                data[number] = _NOTHING

    work: list[Callable[[], None]] = []
    unsent = 0
    for together in _together(data):
        if len(together) > 1:
            work.append(partial(write_joined, together.start, together.stop))
            continue
        number, nbytes = together.start, len(data[together.start])
        unwritten[number] = -(-nbytes // CHUNK_BYTES)
        checksums[number] = found[number] = [0] * unwritten[number]
        for begin in range(0, nbytes, CHUNK_BYTES):
            work.append(partial(write_chunk, number, begin))
            unsent += min(nbytes - begin, CHUNK_BYTES)
            if unsent >= pace.write_back_bytes:
                work.append(file.write_back)
                unsent = 0

    def carry_out(piece: Callable[[], None]) -> None:
        check()
        began = runtime.now()
        piece()
        rests = pace.disk_rests if piece == file.write_back else pace.rests
        if rests:
            runtime.sleep(rests * (runtime.now() - began))

    for_each(runtime, work, carry_out, width=pace.threads)


def _together(data: Sequence[memoryview | Unread]) -> Iterator[range]:
    """Which tensors to write at once: small ones together, a large one by itself."""
    first = joined = 0
    for number, content in enumerate(data):
        if number > first and joined + len(content) > _JOINED_BYTES:
            yield range(first, number)
            first, joined = number, 0
        joined += len(content)
    if data:
        yield range(first, len(data))


def _checksums(content: memoryview) -> list[int]:
    if len(content) <= CHUNK_BYTES:
        return [crc32(content)] if content else []
    begins = range(0, len(content), CHUNK_BYTES)
    return [crc32(content[begin : begin + CHUNK_BYTES]) for begin in begins]

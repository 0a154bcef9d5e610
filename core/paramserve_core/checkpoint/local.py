"""Reading tensors of a checkpoint whose files are all on one disk.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from paramserve_core.checkpoint.assembly import Piece, Value
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.crew import for_each
from paramserve_core.checkpoint.disk import Disk, DiskFile
from paramserve_core.checkpoint.index import Index, StoredFile
from paramserve_core.checkpoint.places import CheckpointPlace
from paramserve_core.checkpoint.slices import Box
from paramserve_core.errors import DataLossError, NotFoundError, ResourceExhaustedError
from paramserve_core.runtime import Runtime


def read_values(
    disk: Disk,
    runtime: Runtime,
    place: CheckpointPlace,
    index: Index,
    wanted: Sequence[tuple[str, Box]],
) -> list[NDArray[Any]]:
    """Reads parts of tensors, and checks them.

    Args:
        disk: the file system.
        runtime: where threads come from.
        place: the checkpoint.
        index: its contents.
        wanted: names of tensors in it, and which part of each.

    Returns:
        Arrays that own their memory.

    Raises:
        NotFoundError: a file is not on this disk.
        DataLossError: a file is damaged.
        ResourceExhaustedError: there is no memory for the values.
    """
    try:
        values = [Value(index, key, box) for key, box in wanted]
    except MemoryError as error:
        raise ResourceExhaustedError(
            None, None, f"no memory for tensors of checkpoint {str(place)!r}: {error}"
        ) from None
    pieces = [piece for value in values for piece in value.pieces]
    files: dict[str, DiskFile] = {}
    try:
        for name in dict.fromkeys(piece.file for piece in pieces):
            files[name] = _open(disk, place, name, index)
        read_pieces(runtime, files, pieces)
    finally:
        for file in files.values():
            file.close()
    return [value.finish() for value in values]


def read_pieces(runtime: Runtime, files: dict[str, DiskFile], pieces: Sequence[Piece]) -> None:
    """Fills pieces from open files, on several threads."""

    def read(piece: Piece) -> None:
        files[piece.file].read_into(piece.memory, piece.offset)
        piece.arrived()

    for_each(runtime, pieces, read)


def check_file(file: DiskFile, stored: StoredFile) -> None:
    """Refuses a file whose size or header is not what the index says.

    Raises:
        DataLossError: it is damaged.
    """
    if stored.nbytes is not None and file.size != stored.nbytes:
        raise DataLossError(
            None,
            None,
            f"{file.path}: {file.size} bytes, the index says {stored.nbytes}: it was cut off or "
            "replaced; restore another checkpoint",
        )
    header = bytearray(stored.header_bytes)
    file.read_into(memoryview(header), 0)
    if header and crc32(header) != stored.header_checksum:
        raise DataLossError(
            None,
            None,
            f"{file.path}: damaged in bytes 0 to {len(header) - 1}, its header: the checksum does "
            "not match; restore another checkpoint",
        )


def _open(disk: Disk, place: CheckpointPlace, name: str, index: Index) -> DiskFile:
    try:
        file = disk.open(place.directory / name)
    except FileNotFoundError:
        raise NotFoundError(
            None,
            None,
            f"{place.directory / name}: a file of the checkpoint is not on this disk"
            f"{index.origin(name)}; restore it in a session with the tasks that saved it, or bring "
            "the file here",
        ) from None
    try:
        check_file(file, index.files[name])
    except BaseException:
        file.close()
        raise
    return file

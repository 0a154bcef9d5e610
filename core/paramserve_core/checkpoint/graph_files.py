"""Checkpoints as ops of a graph write and read them, on the disk of the task that runs the op.

These ops name tensors by strings, in TensorFlow's V2 format. Reading takes every format.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from numpy.typing import NDArray

from paramserve_core.checkpoint.disk import Disk, op_error, read_whole, write_new
from paramserve_core.checkpoint.finding import choose, decode, not_found, read_index
from paramserve_core.checkpoint.index import (
    MAX_INDEX_BYTES,
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
)
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.local import read_values
from paramserve_core.checkpoint.merging import merge_shards
from paramserve_core.checkpoint.places import CheckpointPlace, Places
from paramserve_core.checkpoint.shard import TakenTensor
from paramserve_core.checkpoint.slices import Box
from paramserve_core.checkpoint.tf_bundle import (
    decode_bundle_index,
    encode_bundle_index,
    write_bundle_data,
)
from paramserve_core.checkpoint.variables import missing_key
from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    DataLossError,
    InvalidArgumentError,
)
from paramserve_core.runtime import Runtime

Array = NDArray[Any]


class GraphFiles:
    """The checkpoint files that a task's ops may touch.

    Args:
        disk: the file system.
        places: the paths that clients may name.
        runtime: where threads come from.
    """

    def __init__(self, disk: Disk, places: Places, runtime: Runtime) -> None:
        self._disk = disk
        self._places = places
        self._runtime = runtime

    def save(self, prefix: str, tensors: Sequence[TakenTensor]) -> None:
        """Writes a checkpoint; blocks until it is durable.

        Its directory is made if there is none: TensorFlow's sharded savers write the parts into
        one of their own, and merge them.

        Raises:
            OpError: it was not written.
        """
        place = self._places.checkpoint(prefix)
        final = place.bundle_data(0, 1)
        temporary = place.of_save(_new_id(), 0, 1, "data.tmp")
        try:
            self._disk.make_directory(place.directory)
            written = write_bundle_data(
                self._disk, self._runtime, temporary, final.name, list(tensors), _never
            )
            try:
                index = merge_shards(Layout.TENSORFLOW_V2, [written.contents], is_complete=False)
                self._disk.rename(temporary, final)
            except BaseException:
                self._disk.remove(temporary)
                raise
            finally:
                written.file.close()
            self._replace(place, index)
        except OSError as error:
            raise op_error(error) from error

    def restore(self, path: str, wanted: Sequence[tuple[str, DType, Box | None]]) -> list[Array]:
        """Reads tensors, or parts of them.

        Args:
            path: the checkpoint.
            wanted: of each tensor the name, the type, and the part (None: all of it).

        Raises:
            NotFoundError: there is no such checkpoint, or a tensor is not in it.
            InvalidArgumentError: it is of another type, or the part is not within it.
            DataLossError: a file is damaged.
        """
        place = self._places.checkpoint(path)
        try:
            found = choose({"": read_index(self._disk, place)}, path)
            if found is None:
                raise not_found(path)
            parts = [_part(found.index, path, *request) for request in wanted]
            return read_values(self._disk, self._runtime, place, found.index, parts)
        except OSError as error:
            raise op_error(error) from error

    def merge(self, prefixes: Sequence[str], destination: str, *, delete_directories: bool) -> None:
        """Makes one checkpoint of several that have a part of it each, and moves their data.

        With `delete_directories` the directories that are empty then are deleted.

        Raises:
            NotFoundError: one is not on this task's disk.
            InvalidArgumentError: together they are no whole.
        """
        place = self._places.checkpoint(destination)
        sources = [self._places.checkpoint(prefix) for prefix in prefixes]
        try:
            indexes = [self._read_part(source) for source in sources]
            moves: dict[PurePath, PurePath] = {}
            count = sum(len(index.files) for index in indexes)
            tensors: dict[str, StoredTensor] = {}
            for source, index in zip(sources, indexes, strict=True):
                names = {}
                for name in sorted(index.files):
                    names[name] = place.bundle_data(len(moves), count)
                    moves[source.directory / name] = names[name]
                _add(tensors, index, names)
            files = {path.name: StoredFile(nbytes=None) for path in moves.values()}
            merged = Index(
                layout=Layout.TENSORFLOW_V2, tensors=dict(sorted(tensors.items())), files=files
            )
            content = encode_bundle_index(merged)
            decode(Layout.TENSORFLOW_V2, content, destination)  # Whether it is a whole.
            for old, new in moves.items():
                self._disk.rename(old, new)
            self._replace(place, merged)
            for source in sources:
                if source != place:
                    self._disk.remove(source.bundle_index)
                if delete_directories and source.directory != place.directory:
                    self._disk.remove_directory(source.directory)
        except OSError as error:
            raise op_error(error) from error
        except DataLossError as error:
            raise InvalidArgumentError(None, None, error.message) from None

    def _read_part(self, place: CheckpointPlace) -> Index:
        content = read_whole(self._disk, place.bundle_index, MAX_INDEX_BYTES)
        try:
            return decode_bundle_index(content, place.name, is_complete=False)
        except MalformedError as error:
            raise DataLossError(None, None, f"{place.bundle_index}: damaged: {error}") from None

    def _replace(self, place: CheckpointPlace, index: Index) -> None:
        temporary = place.of_save(_new_id(), 0, 1, "index.tmp")
        write_new(self._disk, temporary, encode_bundle_index(index)).close()
        self._disk.rename(temporary, place.bundle_index)
        self._disk.sync_directory(place.directory)


def _add(tensors: dict[str, StoredTensor], index: Index, names: Mapping[str, PurePath]) -> None:
    for key, tensor in index.tensors.items():
        parts = tuple(_moved(part, names[part.file].name) for part in tensor.parts)
        earlier = tensors.get(key)
        if earlier is not None:
            if (earlier.dtype, earlier.shape) != (tensor.dtype, tensor.shape):
                raise InvalidArgumentError(
                    None, None, f"{key}: the checkpoints to be merged disagree about its type"
                )
            parts = (*earlier.parts, *parts)
        tensors[key] = StoredTensor(tensor.dtype, tensor.shape, parts)


def _moved(part: Part, file: str) -> Part:
    return Part(
        box=part.box,
        file=file,
        offset=part.offset,
        nbytes=part.nbytes,
        checksums=part.checksums,
        chunk_bytes=part.chunk_bytes,
    )


def _part(index: Index, path: str, key: str, dtype: DType, box: Box | None) -> tuple[str, Box]:
    tensor = index.tensors.get(key)
    if tensor is None:
        raise missing_key(key, index.tensors, path)
    if tensor.dtype is not dtype:
        raise InvalidArgumentError(
            None,
            None,
            f"{key}: {tensor.dtype.name} in the checkpoint {path!r}, {dtype.name} in the graph",
        )
    if box is None:
        return key, Box.whole(tensor.shape)
    if not box.fits(tensor.shape):
        raise InvalidArgumentError(
            None,
            None,
            f"{key}: the part {box} is not within its shape {list(tensor.shape)} in {path!r}",
        )
    return key, box


def _new_id() -> str:
    return uuid.uuid4().hex[:16]


def _never() -> None:
    """A save by an op is not given up halfway."""

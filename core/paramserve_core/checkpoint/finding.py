"""Which checkpoint is at a path: one task's answer, and what follows from all of them.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final
from weakref import WeakValueDictionary

from google.protobuf.message import DecodeError

from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.checkpoint.disk import Disk, read_whole
from paramserve_core.checkpoint.index import MAX_INDEX_BYTES, Index, Layout, layout_of
from paramserve_core.checkpoint.index_file import decode_index
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.merging import merge_shards
from paramserve_core.checkpoint.places import CheckpointPlace
from paramserve_core.checkpoint.tf_bundle import decode_bundle_index, has_bundle
from paramserve_core.checkpoint.tf_v1 import read_table_files
from paramserve_core.errors import DataLossError, InvalidArgumentError, NotFoundError, OpError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

NO_CHECKPOINT: Final = "there is no checkpoint at"
"""How the message begins that says so, by which a client can tell it from a missing key."""


_decoded: Final[WeakValueDictionary[bytes, Index]] = WeakValueDictionary()
"""Indexes that somebody works with: a master and its own task need not both decode one."""


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoint that counts at a path.

    Attributes:
        index: its contents.
        content: the index as tasks read it.
        holders: for each of its files, the tasks that have it.
    """

    index: Index
    content: bytes
    holders: Mapping[str, Sequence[str]]

    @property
    def missing_files(self) -> list[str]:
        """Files that no task has."""
        return [name for name in self.index.files if name not in self.holders]


def read_index(disk: Disk, place: CheckpointPlace) -> messages.ReadIndexResponse:
    """What this disk has of the checkpoint at a path; empty where that is nothing.

    Raises:
        DataLossError: a file that is not what its name says.
    """
    response = messages.ReadIndexResponse()
    try:
        names = disk.names(place.directory)
    except (FileNotFoundError, NotADirectoryError):
        return response
    response.files.extend(name for name in names if place.is_shard(name))
    if place.index.name in names:
        response.format = messages.CHECKPOINT_FORMAT_SAFETENSORS
        response.index = _read_index(disk, place.index)
    elif has_bundle(disk, place, names):
        response.format = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2
        response.index = _read_index(disk, place.bundle_index)
    else:
        contents = read_table_files(disk, place, response.files)
        if contents.files:
            response.format = messages.CHECKPOINT_FORMAT_TENSORFLOW_V1
            response.index = contents.SerializeToString()
    return response


def _read_index(disk: Disk, path: PurePath) -> bytes:
    content = read_whole(disk, path, MAX_INDEX_BYTES)
    if not content:  # Or it would read as "none".
        raise DataLossError(None, None, f"{path}: the index is empty; restore another checkpoint")
    return content


def decode(layout: Layout, content: bytes, where: str) -> Index:
    """The index in a message or a file.

    Args:
        layout: the format.
        content: the index.
        where: names the checkpoint in errors.

    Raises:
        DataLossError: it is damaged.
    """
    try:
        if layout is Layout.SAFETENSORS:
            index = _decoded.get(content)
            if index is None:
                with collector_paused():
                    index = _decoded[content] = decode_index(content)
            return index
        if layout is Layout.TENSORFLOW_V2:
            return decode_bundle_index(content, where.rpartition("/")[2])
        files = messages.TableIndex.FromString(content).files
        return merge_shards(layout, files)
    except MalformedError as error:
        raise DataLossError(
            None, None, f"{where}: the index is damaged: {error}; restore another checkpoint"
        ) from None
    except (InvalidArgumentError, DecodeError) as error:
        raise DataLossError(
            None, None, f"{where}: the tables are no whole checkpoint: {error}"
        ) from None


def choose(answers: Mapping[str, messages.ReadIndexResponse], path: str) -> Found | None:
    """The checkpoint that counts, by what each task answered; None if there is none.

    Of the own format it is the one of the highest generation of which every file is there, or if
    none is complete, the one of the highest generation.

    Raises:
        DataLossError: the only index is damaged.
    """
    holders: dict[str, list[str]] = {}
    for task, answer in answers.items():
        for name in answer.files:
            holders.setdefault(name, []).append(task)
    error: OpError | None = None
    for layout in (Layout.SAFETENSORS, Layout.TENSORFLOW_V2, Layout.TENSORFLOW_V1):
        contents = dict.fromkeys(
            answer.index
            for answer in answers.values()
            if answer.index and layout_of(answer.format) is layout
        )
        if layout is Layout.TENSORFLOW_V1:  # Each task has told of its own files.
            contents = dict.fromkeys([b"".join(contents)] if contents else [])
        found = []
        for content in contents:
            try:
                index = decode(layout, content, path)
            except DataLossError as damage:
                error = damage
                continue
            found.append(Found(index, content, _held(index, holders)))
        if found:
            return max(found, key=lambda f: (not f.missing_files, f.index.generation))
    if error is not None:
        raise error
    return None


def _held(index: Index, holders: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {name: holders[name] for name in index.files if name in holders}


def not_found(path: str) -> OpError:
    """The error of a path at which there is no checkpoint."""
    return NotFoundError(
        None,
        None,
        f"{NO_CHECKPOINT} {path!r} on any task's disk; the path is what Saver.save "
        "returned, without the suffix of any file",
    )

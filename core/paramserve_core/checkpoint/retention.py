"""Which checkpoints a directory keeps: the state file, and deleting the others.

The state file is a `CheckpointState` in text form, as TensorFlow writes it. Paths below its own
directory are written relative to it, so that the directory can be moved. It is replaced as a
whole. A file of its name that is something else is left alone.

Deleting a checkpoint begins with its index: from then on the rest is a leftover, whatever happens.

Thread rule: may be called from any thread; two updates of one directory at a time leave the state
of one of them.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from pathlib import PurePath
from typing import Final

from google.protobuf import text_format

from paramserve_core.checkpoint.disk import Disk, read_whole, write_new
from paramserve_core.checkpoint.index import MAX_INDEX_BYTES
from paramserve_core.checkpoint.index_file import IndexHead, decode_head
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.places import (
    TEMPORARY,
    CheckpointPlace,
    Places,
    SavedFile,
    file_name,
)
from paramserve_core.checkpoint.tf_bundle import has_bundle
from paramserve_core.checkpoint.tf_v1 import is_table
from paramserve_core.checkpoint.urls import is_url
from paramserve_core.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState

DEFAULT_STATE_FILE: Final = "checkpoint"
_MAX_STATE_BYTES: Final = 64 << 20


def read_state(
    disk: Disk, directory: PurePath, latest_filename: str = ""
) -> CheckpointState | None:
    """What a directory's state file says; None if there is none.

    Raises:
        FailedPreconditionError: the file is something else.
        DataLossError: a relative path in it leads out of the directory.
    """
    path = _state_file(directory, latest_filename)
    state = _read(disk, path)
    if state is not None:
        for named in (state.model_checkpoint_path, *state.all_model_checkpoint_paths):
            if _leads_out(named):
                raise DataLossError(
                    None,
                    None,
                    f"{path} names the checkpoint {named[:200]!r}, which is not below the file's "
                    "own directory, as what a relative path names has to be: the file is damaged; "
                    "remove it, and restore a checkpoint by its own path",
                )
    return state


def _state_file(directory: PurePath, latest_filename: str) -> PurePath:
    return directory / file_name(latest_filename or DEFAULT_STATE_FILE, "name of a state file")


def _leads_out(path: str) -> bool:
    if os.path.isabs(path) or is_url(path):
        return False
    return PurePath(os.path.normpath(path)).parts[:1] == ("..",)


def _read(disk: Disk, path: PurePath) -> CheckpointState | None:
    try:
        content = read_whole(disk, path, _MAX_STATE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except FailedPreconditionError as error:
        raise FailedPreconditionError(
            None,
            None,
            f"{error.message}, and the state file of the directory's checkpoints should be there; "
            "move it away, or give latest_filename another name",
        ) from None
    state = CheckpointState()
    try:
        text_format.Parse(content.decode(), state)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise FailedPreconditionError(
            None,
            None,
            f"{path} is no state file of checkpoints ({error}); move it away, or give "
            "latest_filename another name",
        ) from None
    return state


def write_state(
    disk: Disk,
    places: Places,
    place: CheckpointPlace,
    update: messages.StateUpdate,
    temporary: PurePath,
) -> None:
    """Makes the state file of a checkpoint's directory name it as the newest.

    Args:
        disk: the file system.
        places: where the update's paths may be.
        place: the newest checkpoint.
        update: the kept checkpoints.
        temporary: where to write first, in the same directory.

    Raises:
        InvalidArgumentError: a malformed path or name.
        FailedPreconditionError: the file is there and is something else.
        OSError: the disk refused; the old file is whole.
    """
    path = _state_file(place.directory, update.latest_filename)
    old = _read(disk, path)
    paths, times = update.all_paths, list(update.all_timestamps)
    if times and len(times) != len(paths):
        raise InvalidArgumentError(
            None, None, f"{len(paths)} kept checkpoints cannot have {len(times)} times"
        )
    # By their names in the directory: one checkpoint may be named in two ways.
    kept: dict[str, float] = {}
    for path_of_kept, time_of_kept in zip(paths, times or [0.0] * len(paths), strict=True):
        kept_name = _relative(places, path_of_kept, place.directory)
        kept.pop(kept_name, None)
        kept[kept_name] = time_of_kept
    if place.name not in kept:
        kept[place.name] = 0.0
        times = []
    state = CheckpointState(
        model_checkpoint_path=place.name,
        all_model_checkpoint_paths=kept,
        all_model_checkpoint_timestamps=kept.values() if times else (),
        last_preserved_timestamp=update.last_preserved_timestamp
        or (old.last_preserved_timestamp if old is not None else 0.0),
    )
    _write(disk, path, state, temporary)


def replace_state(
    disk: Disk, directory: PurePath, latest_filename: str, state: CheckpointState
) -> None:
    """Replaces the state file of a directory with what the caller made.

    Raises:
        FailedPreconditionError: the file is there and is something else.
        OSError: the disk refused; the old file is whole.
    """
    path = _state_file(directory, latest_filename)
    _read(disk, path)
    _write(disk, path, state, directory / f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}")


def _write(disk: Disk, path: PurePath, state: CheckpointState, temporary: PurePath) -> None:
    content = text_format.MessageToString(state, as_utf8=True).encode()
    replace_file(disk, path, content, temporary)


def replace_file(disk: Disk, path: PurePath, content: bytes, temporary: PurePath) -> None:
    """Replaces a file as a whole, durably."""
    disk.remove(temporary)
    write_new(disk, temporary, content).close()
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)


def delete_checkpoint(disk: Disk, place: CheckpointPlace) -> None:
    """Deletes every file of a checkpoint, of whatever format, that is on this disk.

    Files that another save to the same path is writing now are left to it.
    """
    committed = _committed_quietly(disk, place)
    meta_graph = _meta_graph(place, committed)
    names = _names(disk, place.directory)
    is_bundle = has_bundle(disk, place, names)
    if disk.remove(place.index) | (is_bundle and disk.remove(place.bundle_index)):
        disk.sync_directory(place.directory)
    # Before the files by which the next save finds what an interrupted deletion left.
    disk.remove(place.directory / meta_graph)
    for name in names:
        path = place.directory / name
        saved = SavedFile.parse(name)
        if saved is not None:
            is_whole = committed is not None and saved.save_id == committed.save_id
            is_of_it = saved.name == place.name and (is_whole or not disk.is_in_use(path))
        else:
            is_of_it = place.is_shard(name) and (place.is_bundle_data(name) or is_table(disk, path))
        if is_of_it:
            disk.remove(path)


def delete_other_saves(
    disk: Disk, place: CheckpointPlace, save_id: str, keep: frozenset[str]
) -> None:
    """Deletes what earlier saves to a path left, once a later one is committed.

    Args:
        disk: the file system.
        place: the checkpoint.
        save_id: the save that counts.
        keep: files of it that do not carry its id.
    """
    if place.index.name not in keep:
        disk.remove(place.index)
    names = _names(disk, place.directory)
    if place.bundle_index.name not in keep and has_bundle(disk, place, names):
        disk.remove(place.bundle_index)
    for name in names:
        saved = SavedFile.parse(name)
        if saved is None:
            is_old = place.is_bundle_data(name) and name not in keep
        else:
            is_old = saved.name == place.name and saved.save_id != save_id
        path = place.directory / name
        if is_old and not disk.is_in_use(path):
            disk.remove(path)


def delete_save(disk: Disk, place: CheckpointPlace, save_id: str) -> None:
    """Deletes what a save left that was committed nowhere."""
    saved = SavedFile(place.name, save_id)
    if not _is_leftover(disk, place.directory, saved):
        return
    names = _names(disk, place.directory)
    if not {place.index.name, place.bundle_index.name, place.table.name} & set(names):
        disk.remove(place.directory / _meta_graph(place, None))
    for name in names:
        path = place.directory / name
        if SavedFile.parse(name) == saved and not disk.is_in_use(path):
            disk.remove(path)


def unfinished_saves(disk: Disk, directory: PurePath) -> list[SavedFile]:
    """The saves with files in a directory that no index there names and nobody writes now.

    A checkpoint whose files are all of one save is not looked into, so that this takes no time in
    a directory with many.
    """
    names = _names(disk, directory)
    files: dict[SavedFile, list[str]] = {}
    for name in names:
        saved = SavedFile.parse(name)
        if saved is not None:
            files.setdefault(saved, []).append(name)
    saves_at = Counter(saved.name for saved in files)
    known = set(names)
    found = []
    for saved, own in files.items():
        has_index = CheckpointPlace(directory, saved.name).index.name in known
        if has_index and saves_at[saved.name] == 1 and not any(_is_temporary(n) for n in own):
            continue
        is_idle = not any(disk.is_in_use(directory / name) for name in own)
        if is_idle and _is_leftover(disk, directory, saved):
            found.append(saved)
    return found


def settle_committed(disk: Disk, directory: PurePath) -> None:
    """Ends what committed saves were interrupted in: a graph gets its name, the rest is deleted."""
    for name in _names(disk, directory):
        saved = SavedFile.parse(name)
        path = directory / name
        if saved is None or not _is_temporary(name) or disk.is_in_use(path):
            continue
        place = CheckpointPlace(directory, saved.name)
        try:
            head = committed_save(disk, place)
        except DataLossError:
            continue
        if head is None or head.save_id != saved.save_id:
            continue
        if head.meta_graph and name.endswith(".meta" + TEMPORARY):
            disk.rename(path, directory / head.meta_graph)
        else:
            disk.remove(path)


def committed_save(disk: Disk, place: CheckpointPlace) -> IndexHead | None:
    """Which save of the own format is at a path; None if there is none.

    Raises:
        DataLossError: it is damaged.
    """
    try:
        return decode_head(read_whole(disk, place.index, MAX_INDEX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except MalformedError as error:
        raise DataLossError(None, None, f"{place.index}: {error}") from None


def _is_leftover(disk: Disk, directory: PurePath, saved: SavedFile) -> bool:
    try:
        head = committed_save(disk, CheckpointPlace(directory, saved.name))
    except DataLossError:
        return False  # What a damaged index names may still be saved by a copy of it elsewhere.
    return head is None or head.save_id != saved.save_id


def _committed_quietly(disk: Disk, place: CheckpointPlace) -> IndexHead | None:
    try:
        return committed_save(disk, place)
    except DataLossError:
        return None


def _meta_graph(place: CheckpointPlace, head: IndexHead | None) -> str:
    """The name of the file with a checkpoint's graph."""
    if head is not None and head.meta_graph:
        with contextlib.suppress(InvalidArgumentError):
            return place.meta_graph(head.meta_graph).name
    return place.name + ".meta"


def _names(disk: Disk, directory: PurePath) -> list[str]:
    try:
        return disk.names(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_temporary(name: str) -> bool:
    return name.endswith(TEMPORARY)


def _relative(places: Places, path: str, directory: PurePath) -> str:
    """A path as the state file in `directory` names it."""
    place = places.checkpoint(path)
    if place.directory.is_relative_to(directory):
        return str((place.directory / place.name).relative_to(directory))
    return str(place)

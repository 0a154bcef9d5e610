"""A task's part in saves: snapshot, shard, prepare, commit, finish.

A save goes through these states, each call moving it on by one:

    taken -> written -> prepared -> committed

Until it is prepared, a session that ends takes its save with it. A prepared save may be committed
on another task already, so from there on only the coordinator may abort it; what nobody commits or
aborts stays on the disk, and the next save in the directory settles it (see `recovery`).

A call that was answered before is answered again without doing anything.

Thread rule: calls of one save come one after the other; different saves run side by side.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Final

from google.protobuf.message import DecodeError

from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.checkpoint.disk import Disk, DiskFile, op_error, write_new
from paramserve_core.checkpoint.entries import EntryList, EntryLists
from paramserve_core.checkpoint.index import Layout, layout_of
from paramserve_core.checkpoint.index_file import IndexHead, decode_head
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.places import (
    CheckpointPlace,
    Places,
    SavedFile,
    check_save_id,
    checkpoint_name,
)
from paramserve_core.checkpoint.retention import (
    committed_save,
    delete_checkpoint,
    delete_other_saves,
    delete_save,
    replace_file,
    settle_committed,
    unfinished_saves,
    write_state,
)
from paramserve_core.checkpoint.shard import (
    AT_ONCE,
    BESIDE_OTHERS,
    Pace,
    TakenTensor,
    WrittenFile,
    write_safetensors,
)
from paramserve_core.checkpoint.tf_bundle import write_bundle_data
from paramserve_core.errors import (
    AbortedError,
    CancelledError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnimplementedError,
)
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1 import meta_graph_pb2

_MAX_OPEN: Final = 16
_MAX_SHARDS: Final = 99_999

Take = Callable[[EntryList], list[TakenTensor]]
"""Answers the values that entries name, all of one moment."""


class _State(enum.IntEnum):
    TAKEN = 1
    WRITTEN = 2
    PREPARED = 3
    COMMITTED = 4


class _Save:
    """One save, as far as it got on this task."""

    def __init__(self, owner: str, save_id: str, place: CheckpointPlace) -> None:
        self.owner = owner
        self.save_id = save_id
        self.place = place
        self.state = _State.TAKEN
        self.tensors: list[TakenTensor] = []
        self.written = messages.WriteShardResponse()
        self.layout = Layout.SAFETENSORS
        self.shard = 0
        self.shard_count = 1
        self.is_given_up = False
        self.is_busy = False
        self._open: list[DiskFile] = []
        self.renames: list[tuple[PurePath, PurePath]] = []

    def check(self) -> None:
        """Raises CancelledError once the save was given up."""
        if self.is_given_up:
            raise CancelledError(None, None, f"the save to {self.place} was given up")

    def path(self, kind: str) -> PurePath:
        """A file of this save on this task."""
        return self.place.of_save(self.save_id, self.shard, self.shard_count, kind)

    def final_names(self) -> frozenset[str]:
        """The checkpoint's files that do not carry the save's id, those of other tasks too."""
        names = {final.name for _, final in self.renames}
        if self.layout is Layout.TENSORFLOW_V2:
            count = self.shard_count
            names |= {self.place.bundle_data(shard, count).name for shard in range(count)}
        return frozenset(names)

    def hold(self, file: DiskFile) -> None:
        """Keeps a file open, and so locked, until the save ends."""
        self._open.append(file)

    def release(self) -> None:
        """Closes the files and drops the leases."""
        self.tensors = []
        for file in self._open:
            file.close()
        self._open = []


class Saves:
    """The saves that a task takes part in.

    Args:
        disk: the file system.
        places: the paths that clients may name.
        take: answers the values of entries, all of one moment.
        entries: what was read of requests.
        runtime: where threads come from.
    """

    def __init__(
        self,
        disk: Disk,
        places: Places,
        take: Take,
        entries: EntryLists,
        runtime: Runtime,
    ) -> None:
        self._disk = disk
        self._places = places
        self._take = take
        self._entries = entries
        self._runtime = runtime
        self._lock = threading.Lock()
        self._saves: dict[str, _Save] = {}

    def take_snapshot(self, request: messages.TakeSnapshotRequest, owner: str) -> None:
        """Leases the variables' values. Brief, because steps may be held up meanwhile.

        Raises:
            NotFoundError: the checkpoint's directory does not exist.
            FailedPreconditionError: a variable has no value.
            PermissionDeniedError: the path is outside the root.
            AbortedError: another save to the path is in progress on this task.
            ResourceExhaustedError: the session has too many saves open.
        """
        save_id = check_save_id(request.save_id)
        place = self._places.checkpoint(request.path)
        disk, directory = self._disk, place.directory
        if not disk.is_object_store(directory) and not disk.is_directory(directory):
            raise NotFoundError(
                None,
                None,
                f"Parent directory of {request.path} doesn't exist, can't save.",
            )
        with self._lock:
            if save_id in self._saves:
                return
            is_open = [s for s in self._saves.values() if s.state < _State.COMMITTED]
            if any(s.place == place for s in is_open):
                raise AbortedError(
                    None,
                    None,
                    f"another save to {place} is in progress; save to another path, or wait",
                )
            if sum(s.owner == owner for s in is_open) >= _MAX_OPEN:
                raise ResourceExhaustedError(
                    None, None, f"the session has {_MAX_OPEN} saves open, which is the limit"
                )
            save = self._saves[save_id] = _Save(owner, save_id, place)
        try:
            with collector_paused():
                save.tensors = self._take(self._entries.read(request.entries))
        except BaseException:
            self._forget(save)
            raise

    def write_shard(self, request: messages.WriteShardRequest) -> messages.WriteShardResponse:
        """Writes the snapshot to a file; blocks until it is durable.

        Raises:
            ResourceExhaustedError: the disk is full; nothing is left of the file.
        """
        save = self._find(request.save_id)
        if save.state >= _State.WRITTEN:
            return save.written
        if not request.shard < request.shard_count <= _MAX_SHARDS:
            raise InvalidArgumentError(
                None, None, f"there is no shard {request.shard} of {request.shard_count}"
            )
        contents = _contents(save.tensors)  # Which are gone when there is an error to tell.
        try:
            self._exclusively(save, lambda: self._write(save, request))
        except OSError as error:
            raise op_error(error, f"; it was to hold {contents}") from error
        return save.written

    def _write(self, save: _Save, request: messages.WriteShardRequest) -> None:
        try:
            self._write_layout(save, request)
        except BaseException:
            save.is_given_up = True  # What was written before the error was let go.
            raise

    def _write_layout(self, save: _Save, request: messages.WriteShardRequest) -> None:
        save.shard, save.shard_count = request.shard, request.shard_count
        save.layout = layout_of(request.format)
        if save.layout is Layout.SAFETENSORS:
            written = self._write_safetensors(
                save, BESIDE_OTHERS if request.in_background else AT_ONCE
            )
        elif save.layout is Layout.TENSORFLOW_V2:
            final = save.place.bundle_data(save.shard, save.shard_count)
            temporary = save.path("data.tmp")
            written = write_bundle_data(
                self._disk, self._runtime, temporary, final.name, save.tensors, save.check
            )
            save.hold(written.file)
            save.renames.append((temporary, final))
        else:
            raise UnimplementedError(
                None, None, "checkpoints of TensorFlow's V1 format are read, not written"
            )
        save.tensors = []
        save.written.CopyFrom(written.contents)
        head = committed_save(self._disk, save.place)
        save.written.generation = 0 if head is None else head.generation
        for left in unfinished_saves(self._disk, save.place.directory):
            save.written.unfinished.add(name=left.name, save_id=left.save_id)
        save.state = _State.WRITTEN

    def _write_safetensors(self, save: _Save, pace: Pace) -> WrittenFile:
        final = save.path("safetensors")
        is_object = self._disk.is_object_store(final)
        temporary = final if is_object else save.path("safetensors.tmp")
        written = write_safetensors(
            self._disk, self._runtime, temporary, final.name, save.tensors, save.check, pace
        )
        save.hold(written.file)
        self._disk.rename(temporary, final)  # Durable when the index is, see `_prepare`.
        return written

    def prepare_commit(self, request: messages.PrepareCommitRequest) -> None:
        """Makes the index and the graph durable under temporary names."""
        save = self._find(request.save_id)
        if save.state < _State.WRITTEN:
            raise FailedPreconditionError(None, None, f"the save to {save.place} has no shard yet")
        if save.state < _State.PREPARED:
            self._exclusively(save, lambda: self._prepare(save, request))

    def _prepare(self, save: _Save, request: messages.PrepareCommitRequest) -> None:
        place = save.place
        if save.layout is Layout.SAFETENSORS:
            _check_index(request.index, save.save_id)
            index = place.index
        else:
            index = place.bundle_index
        new = [(save.path("index.tmp"), index, request.index)]
        if request.meta_graph_path:
            meta_graph = place.meta_graph(request.meta_graph_path)
            _check_meta_graph(request.meta_graph)
            new.append((save.path("meta.tmp"), meta_graph, request.meta_graph))
        for temporary, final, content in new:
            self._disk.remove(temporary)
            save.hold(write_new(self._disk, temporary, content))
            save.renames.append((temporary, final))
        self._disk.sync_directory(place.directory)
        save.check()
        save.state = _State.PREPARED

    def commit(self, request: messages.CommitRequest) -> None:
        """Renames what was prepared; blocks until that is durable."""
        save = self._find(request.save_id)
        if save.state < _State.PREPARED:
            raise FailedPreconditionError(None, None, f"the save to {save.place} isn't prepared")
        if save.state < _State.COMMITTED:
            for temporary, final in save.renames:
                self._disk.rename(temporary, final)
            self._disk.sync_directory(save.place.directory)
            save.state = _State.COMMITTED
            save.release()

    def finish(self, request: messages.FinishSaveRequest) -> None:
        """Updates the state file and deletes what is no longer wanted.

        Raises:
            FailedPreconditionError: the save is not committed here.
        """
        place = self._places.checkpoint(request.path)
        save = self._saves.get(check_save_id(request.save_id))
        if save is None:
            self._delete_replaced(place, request.save_id)
        else:
            if save.state is not _State.COMMITTED or save.place != place:
                raise FailedPreconditionError(None, None, f"the save to {place} isn't committed")
            if request.HasField("state"):
                temporary = save.path("state.tmp")
                write_state(self._disk, self._places, place, request.state, temporary)
            delete_other_saves(self._disk, place, save.save_id, save.final_names())
        for left in request.abandoned:
            name = checkpoint_name(left.name)
            left_place = CheckpointPlace(place.directory, name)
            delete_save(self._disk, left_place, check_save_id(left.save_id))
        kept = {place, *map(self._places.checkpoint, request.state.all_paths)}
        for path in request.state.delete_paths:
            other = self._places.checkpoint(path)
            if other not in kept:
                delete_checkpoint(self._disk, other)
        if save is not None:
            settle_committed(self._disk, place.directory)
            self._forget(save)

    def _delete_replaced(self, place: CheckpointPlace, save_id: str) -> None:
        """Deletes what this task has of a checkpoint that others have replaced."""
        try:
            head = committed_save(self._disk, place)
        except DataLossError:
            return
        if head is not None and head.save_id != save_id:
            delete_checkpoint(self._disk, place)

    def abort(self, request: messages.AbortSaveRequest) -> None:
        """Drops a save, and its files unless it may be committed on another task."""
        with self._lock:
            save = self._saves.pop(check_save_id(request.save_id), None)
        if save is None or save.state is _State.COMMITTED:
            return
        if request.keep_files:
            save.release()
        else:
            self._drop(save)

    def adopt_index(self, request: messages.AdoptIndexRequest) -> None:
        """Commits here a save that was committed on another task.

        Raises:
            InvalidArgumentError: the index is none.
        """
        place = self._places.checkpoint(request.path)
        head = _check_index(request.index, None)
        mine = committed_save(self._disk, place)
        if mine is not None and mine.generation >= head.generation:
            return
        temporary = place.of_save(head.save_id, _MAX_SHARDS, _MAX_SHARDS, "index.tmp")
        replace_file(self._disk, place.index, request.index, temporary)
        delete_other_saves(self._disk, place, head.save_id, frozenset({place.index.name}))

    def forget(self, owner: str) -> None:
        """Drops the saves of a session that ended, but for those that may be committed."""
        with self._lock:
            mine = [save for save in self._saves.values() if save.owner == owner]
            for save in mine:
                del self._saves[save.save_id]
        for save in mine:
            if save.state < _State.PREPARED:
                self._drop(save)
            else:
                save.release()

    def _drop(self, save: _Save) -> None:
        save.is_given_up = True
        if not save.is_busy:  # Else whoever works on it cleans up.
            self._delete_files(save)

    def _delete_files(self, save: _Save) -> None:
        save.release()
        for name in self._disk.names(save.place.directory):
            if SavedFile.parse(name) == SavedFile(save.place.name, save.save_id):
                path = save.place.directory / name
                if not self._disk.is_in_use(path):  # Another task may share the directory.
                    self._disk.remove(path)

    def _forget(self, save: _Save) -> None:
        with self._lock:
            self._saves.pop(save.save_id, None)

    def _find(self, save_id: str) -> _Save:
        save = self._saves.get(check_save_id(save_id))
        if save is None:
            raise FailedPreconditionError(
                None,
                None,
                f"there is no save {save_id} on this task: it was given up when its session ended",
            )
        return save

    def _exclusively(self, save: _Save, work: Callable[[], None]) -> None:
        with self._lock:
            if save.is_busy:
                raise FailedPreconditionError(
                    None, None, f"the save to {save.place} is being written already"
                )
            save.is_busy = True
        try:
            save.check()
            work()
        finally:
            save.is_busy = False
            if save.is_given_up:
                self._delete_files(save)


def _contents(tensors: Sequence[TakenTensor]) -> str:
    """What a shard holds, in a few words."""
    largest = max(tensors, key=lambda t: t.array.nbytes, default=None)
    if largest is None:
        return "no tensors"
    return (
        f"{len(tensors)} tensors, the largest {largest.key!r:.200} of {largest.array.nbytes} bytes"
    )


def _check_index(content: bytes, save_id: str | None) -> IndexHead:
    try:
        head = decode_head(content)
    except MalformedError as error:
        raise InvalidArgumentError(None, None, f"the index of the checkpoint: {error}") from None
    if save_id is not None and head.save_id != save_id:
        raise InvalidArgumentError(None, None, f"the index is of the save {head.save_id!r}")
    return head


def _check_meta_graph(content: bytes) -> None:
    try:
        meta_graph_pb2.MetaGraphDef.FromString(content)
    except DecodeError:
        raise InvalidArgumentError(None, None, "the graph is no MetaGraphDef message") from None

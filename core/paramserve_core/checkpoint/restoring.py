"""A task's part in restores: read and check everything aside, then put it all in place.

Staging reads what this task's disk has and names the byte ranges that it lacks; those are supplied
one by one. When nothing is missing and everything is checked, the commit replaces the variables'
values at one moment, without copying. Until then no variable is touched.

Thread rule: calls of one restore come one after the other, except that bytes may be supplied by
several threads at a time; different restores run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.assembly import Piece, Value
from paramserve_core.checkpoint.disk import Disk, DiskFile
from paramserve_core.checkpoint.finding import decode
from paramserve_core.checkpoint.index import Index, layout_of
from paramserve_core.checkpoint.local import check_file, read_pieces
from paramserve_core.checkpoint.places import CheckpointPlace, Places, check_save_id
from paramserve_core.checkpoint.variables import shape_for, target, wanted_part
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from paramserve_core.executor.store import VariableStore, assign_all
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

_MAX_OPEN: Final = 8
_MAX_READ_BYTES: Final = 64 << 20

_Range = tuple[str, int, int]


class _Restore:
    """One restore, as far as it got on this task."""

    def __init__(self, owner: str, entries: Sequence[messages.CheckpointEntry]) -> None:
        self.owner = owner
        self.entries = entries
        self.values: list[Value] = []
        self.arrays: list[NDArray[Any]] | None = None
        self.staged = messages.StageRestoreResponse()
        self.is_staged = False
        self.is_committed = False
        self._lock = threading.Lock()
        self._missing: dict[_Range, list[Piece]] = {}
        self._outstanding = 0

    def lacks(self, piece: Piece) -> None:
        """A piece is not on this disk."""
        key = (piece.file, piece.offset, piece.nbytes)
        if key not in self._missing:
            self.staged.missing.add(file=piece.file, offset=piece.offset, bytes=piece.nbytes)
        self._missing.setdefault(key, []).append(piece)
        self._outstanding += 1

    def begin_fill(self, key: _Range) -> list[Piece]:
        """The pieces that want that range; none if they have it."""
        with self._lock:
            return self._missing.pop(key, [])

    def filled(self, count: int) -> None:
        """So many pieces have arrived and are right.

        Raises:
            DataLossError: with them a value is complete, and it is damaged.
        """
        with self._lock:
            self._outstanding -= count
            is_complete = not self._outstanding and self.arrays is None
        if is_complete:
            self.arrays = [value.finish() for value in self.values]
            self.values = []


class Restores:
    """The restores that a task takes part in.

    Args:
        disk: the file system.
        places: the paths that clients may name.
        store: the variables.
        runtime: where threads come from.
    """

    def __init__(self, disk: Disk, places: Places, store: VariableStore, runtime: Runtime) -> None:
        self._disk = disk
        self._places = places
        self._store = store
        self._runtime = runtime
        self._lock = threading.Lock()
        self._restores: dict[str, _Restore] = {}

    def stage(
        self, request: messages.StageRestoreRequest, owner: str
    ) -> messages.StageRestoreResponse:
        """Reads and checks the new values that are on this disk; answers what is not.

        Raises:
            NotFoundError: a key is not in the checkpoint.
            InvalidArgumentError: a type or shape is not the variable's.
            DataLossError: a file is damaged.
            ResourceExhaustedError: there is no memory for the values.
        """
        restore_id = check_save_id(request.restore_id)
        place = self._places.checkpoint(request.path)
        with self._lock:
            restore = self._restores.get(restore_id)
            if restore is not None:
                if not restore.is_staged:
                    raise FailedPreconditionError(None, None, "the restore is being staged already")
                return restore.staged
            is_open = [
                r for r in self._restores.values() if r.owner == owner and not r.is_committed
            ]
            if len(is_open) >= _MAX_OPEN:
                raise ResourceExhaustedError(
                    None, None, f"the session has {_MAX_OPEN} restores open, which is the limit"
                )
            restore = self._restores[restore_id] = _Restore(owner, list(request.entries))
        try:
            index = decode(layout_of(request.format), request.index, str(place))
            self._plan(restore, index, request.path)
            self._read(restore, index, place)
        except BaseException as error:
            with self._lock:
                self._restores.pop(restore_id, None)
            if isinstance(error, MemoryError):
                raise ResourceExhaustedError(
                    None, None, f"no memory for the values of checkpoint {request.path!r}: {error}"
                ) from None
            raise
        restore.is_staged = True
        return restore.staged

    def supply(self, request: messages.SupplyBytesRequest, tensors: Sequence[NDArray[Any]]) -> None:
        """Takes bytes that were missing.

        Raises:
            InvalidArgumentError: the tensor is not as long as the range.
            DataLossError: they are damaged.
        """
        restore = self._find(request.restore_id)
        wanted = request.range
        if len(tensors) != 1 or tensors[0].dtype != np.uint8:
            raise InvalidArgumentError(None, None, "bytes come as one tensor, a vector of uint8")
        content = np.ascontiguousarray(tensors[0]).reshape(-1).data
        if len(content) != wanted.bytes:
            raise InvalidArgumentError(
                None, None, f"{len(content)} bytes for a range of {wanted.bytes}"
            )
        pieces = restore.begin_fill((wanted.file, wanted.offset, wanted.bytes))
        for piece in pieces:
            piece.memory[:] = content
            piece.arrived()
        if pieces:
            restore.filled(len(pieces))

    def commit(self, request: messages.CommitRestoreRequest) -> None:
        """Puts the new values in place, at one moment.

        Raises:
            FailedPreconditionError: bytes are missing still.
            ResourceExhaustedError: the memory limit of variables; no variable was changed.
        """
        restore = self._find(request.restore_id)
        if restore.is_committed:
            return
        if restore.arrays is None:
            raise FailedPreconditionError(None, None, "the restore isn't staged completely")
        # Looked up again, because a container may have been cleared since.
        variables = [target(self._store, entry) for entry in restore.entries]
        assign_all(list(zip(variables, restore.arrays, strict=True)))
        restore.is_committed = True
        restore.arrays = []

    def abort(self, request: messages.AbortRestoreRequest) -> None:
        """Drops what was staged."""
        with self._lock:
            self._restores.pop(check_save_id(request.restore_id), None)

    def forget(self, owner: str) -> None:
        """Drops the restores of a session that ended."""
        with self._lock:
            for restore_id in [i for i, r in self._restores.items() if r.owner == owner]:
                del self._restores[restore_id]

    def read_bytes(self, request: messages.ReadBytesRequest) -> NDArray[np.uint8]:
        """A byte range of a checkpoint's file on this disk.

        Raises:
            InvalidArgumentError: the file is not one of the checkpoint's, or the range is too long.
            DataLossError: the file ends before.
        """
        place = self._places.checkpoint(request.path)
        name, nbytes = request.range.file, request.range.bytes
        if not place.is_shard(name):
            raise InvalidArgumentError(
                None, None, f"{name[:200]!r} is no file of the checkpoint {request.path!r}"
            )
        if nbytes > _MAX_READ_BYTES:
            raise InvalidArgumentError(
                None, None, f"{nbytes} bytes at once, the limit is {_MAX_READ_BYTES}"
            )
        file = self._disk.open(place.directory / name)
        try:
            content = np.empty(nbytes, np.uint8)
            file.read_into(content.data, request.range.offset)
            return content
        finally:
            file.close()

    def _plan(self, restore: _Restore, index: Index, path: str) -> None:
        boxes = [wanted_part(index, entry, path) for entry in restore.entries]
        growth = 0
        seen = set()
        for entry, box in zip(restore.entries, boxes, strict=True):
            variable = target(self._store, entry)
            shape = shape_for(entry, box.shape)
            if not variable.shape.is_compatible_with(shape):
                raise InvalidArgumentError(
                    None,
                    None,
                    f"{entry.key}: shape {list(shape)} in the checkpoint {path!r}, the variable "
                    f"{variable.name} on the server has {variable.shape}",
                )
            if variable in seen:
                raise InvalidArgumentError(
                    None, None, f"{entry.node}: the restore names this variable twice"
                )
            seen.add(variable)
            growth += box.size * variable.dtype.size - variable.nbytes
        if growth > 0:  # Whether the commit will find room.
            self._store.budget.change(growth, path)
            self._store.budget.change(-growth, path)
        restore.values = [
            Value(index, entry.key, box, self._store.memory.allocate, shape_for(entry, box.shape))
            for entry, box in zip(restore.entries, boxes, strict=True)
        ]

    def _read(self, restore: _Restore, index: Index, place: CheckpointPlace) -> None:
        pieces = [piece for value in restore.values for piece in value.pieces]
        files = self._open(dict.fromkeys(piece.file for piece in pieces), place)
        try:
            for name, file in files.items():
                check_file(file, index.files[name])
            local = []
            for piece in pieces:
                if piece.file in files:
                    local.append(piece)
                else:
                    restore.lacks(piece)
            read_pieces(self._runtime, files, local)
            restore.filled(0)
        finally:
            for file in files.values():
                file.close()

    def _open(self, names: Mapping[str, None], place: CheckpointPlace) -> dict[str, DiskFile]:
        files: dict[str, DiskFile] = {}
        for name in names:
            if not place.is_shard(name):
                raise InvalidArgumentError(
                    None, None, f"the index names {name[:200]!r}, no file of {str(place)!r}"
                )
            try:
                files[name] = self._disk.open(place.directory / name)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return files

    def _find(self, restore_id: str) -> _Restore:
        restore = self._restores.get(check_save_id(restore_id))
        if restore is None:
            raise FailedPreconditionError(
                None, None, f"there is no restore {restore_id} on this task: it was given up"
            )
        return restore

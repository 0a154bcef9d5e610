"""A task's part in restores: read and check everything aside, then put it all in place.

Staging reads what this task's disk has and names the byte ranges that it lacks; those are supplied
one by one. When nothing is missing and everything is checked, the commit replaces the variables'
values at one moment, without copying. Until then no variable is touched.

Thread rule: calls of one restore come one after the other, except that bytes may be supplied by
several threads at a time; different restores run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.assembly import Piece, Value
from paramserve_core.checkpoint.casting import cast
from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.checkpoint.columns import NO_ROWS, Integers, Tensors
from paramserve_core.checkpoint.disk import Disk, DiskFile
from paramserve_core.checkpoint.entries import EntryList, EntryLists
from paramserve_core.checkpoint.finding import decode
from paramserve_core.checkpoint.index import Index, layout_of
from paramserve_core.checkpoint.local import check_file, read_pieces
from paramserve_core.checkpoint.places import CheckpointPlace, Places, check_save_id
from paramserve_core.checkpoint.runs import SmallTensors, read_small
from paramserve_core.checkpoint.variables import Fit, Fits, fits
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.updating import assign_all
from paramserve_core.executor.variable import Variable
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

_MAX_OPEN: Final = 8
_MAX_READ_BYTES: Final = 64 << 20

_Range = tuple[str, int, int]


class _Restore:
    """One restore, as far as it got on this task."""

    def __init__(self, owner: str, wanted: EntryList) -> None:
        self.owner = owner
        self.wanted = wanted
        self.fits: Fits | None = None
        self.values: dict[int, Value] = {}
        self.arrays: list[NDArray[Any] | None] = [None] * len(wanted)
        self.staged = messages.StageRestoreResponse()
        self.is_staged = False
        self.is_complete = False
        self.is_committed = False
        self._lock = threading.Lock()
        self._missing: dict[_Range, list[Piece]] = {}
        self._outstanding = 0

    def variables(self, store: VariableStore) -> Sequence[Variable]:
        """What the entries name; makes the variables that there are not."""

        def make(number: int, name: str, container: str) -> Variable:
            fit = self.fit(number)
            return store.get_or_create(name, container, fit.dtype, fit.declared)

        return self.wanted.variables_made(store, make)

    def fit(self, number: int) -> Fit:
        """What an entry takes of its tensor."""
        assert self.fits is not None, "staging begins with them"
        return self.fits[number]

    def plan_values(self, index: Index, numbers: Iterable[int]) -> None:
        """Has the values of these entries put together from pieces."""
        # In ordinary memory: a first touch of memory that clients can map costs several times as
        # much, which can wait until the variable is used.
        for number in numbers:
            fit = self.fit(number)
            self.values[number] = Value(index, self.wanted.keys[number], fit.box, shape=fit.shape)

    def files(self) -> dict[str, None]:
        """The files of which there are pieces to read."""
        return dict.fromkeys(p.file for value in self.values.values() for p in value.pieces)

    def pieces_on(self, files: Collection[str]) -> list[Piece]:
        """The pieces that are in these files; the others are missing from now on."""
        found = []
        for value in self.values.values():
            for piece in value.pieces:
                if piece.file in files:
                    found.append(piece)
                else:
                    self._lacks(piece)
        return found

    def _lacks(self, piece: Piece) -> None:
        """A piece is not on this disk."""
        key = (piece.file, piece.offset, piece.nbytes)
        if key not in self._missing:
            self.staged.missing.add(file=piece.file, offset=piece.offset, bytes=piece.nbytes)
        self._missing.setdefault(key, []).append(piece)
        self._outstanding += 1

    def committed(self) -> None:
        """Lets go of everything: that it was carried out is known until the session ends."""
        self.is_committed = True
        self.arrays = []
        self.fits = None
        self.wanted = EntryList(b"")

    def begin_fill(self, key: _Range) -> list[Piece]:
        """The pieces that want that range; none if they have it."""
        with self._lock:
            return self._missing.pop(key, [])

    def filled(self, count: int) -> None:
        """So many pieces have arrived and are right.

        Raises:
            DataLossError: with them a value is complete, and it is damaged.
            InvalidArgumentError: it does not fit the variable's type.
        """
        with self._lock:
            self._outstanding -= count
            is_last = not self._outstanding and not self.is_complete
        if is_last:
            for number, value in self.values.items():
                fit, key = self.fit(number), self.wanted.keys[number]
                self.arrays[number] = cast(value.finish(), fit.stored, fit.dtype, key)
            self.values = {}
            self.is_complete = True


class Restores:
    """The restores that a task takes part in.

    Args:
        disk: the file system.
        places: the paths that clients may name.
        store: the variables.
        entries: what was read of requests.
        runtime: where threads come from.
    """

    def __init__(
        self,
        disk: Disk,
        places: Places,
        store: VariableStore,
        entries: EntryLists,
        runtime: Runtime,
    ) -> None:
        self._disk = disk
        self._places = places
        self._store = store
        self._entries = entries
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
        wanted = self._entries.read(request.entries)
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
            restore = self._restores[restore_id] = _Restore(owner, wanted)
        try:
            self._stage(restore, request, place)
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
        if not restore.is_complete:
            raise FailedPreconditionError(None, None, "the restore isn't staged completely")
        with collector_paused():
            # Looked up again, if a container has been cleared since.
            variables = restore.variables(self._store)
            arrays = [array for array in restore.arrays if array is not None]  # None is missing.
            before = assign_all(variables, arrays)
        self._runtime.submit(before.clear)
        restore.committed()

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

    def _plan(self, restore: _Restore, index: Index, path: str) -> Fits:
        """Finds what each entry takes, and whether its variable can have it."""
        wanted = restore.wanted
        found = restore.fits = fits(index, wanted, path)
        variables = restore.variables(self._store)
        again = wanted.again
        if again is not None:
            raise InvalidArgumentError(
                None, None, f"{again.node}: the restore names this variable twice"
            )
        for number in found.undeclared:
            fit, variable = found[number], variables[number]
            if not variable.shape.is_compatible_with(fit.shape):
                raise InvalidArgumentError(
                    None,
                    None,
                    f"{wanted.keys[number]}: shape {list(fit.shape)} in the checkpoint {path!r}, "
                    f"the variable {variable.name} on the server has {variable.shape}",
                )
        if self._store.budget.is_limited:
            growth = found.nbytes - sum([v.nbytes for v in variables])
            if growth > 0:  # Whether the commit will find room.
                self._store.budget.change(growth, path)
                self._store.budget.change(-growth, path)
        return found

    def _stage(
        self, restore: _Restore, request: messages.StageRestoreRequest, place: CheckpointPlace
    ) -> None:
        files: dict[str, DiskFile] = {}
        try:
            with collector_paused():
                index = decode(layout_of(request.format), request.index, str(place))
                found = self._plan(restore, index, request.path)
                numbers, small = _small(index, found)
                others = np.delete(np.arange(len(restore.wanted)), numbers)
                restore.plan_values(index, others.tolist())
                files = self._open(restore.files() | dict.fromkeys(small.files), place)
                for name, file in files.items():
                    check_file(file, index.files[name])
                is_here = small.are_in(files)
                restore.plan_values(index, numbers[~is_here].tolist())
                pieces = restore.pieces_on(files)
                arrays = read_small(self._runtime, files, small.taken(is_here))
                for number, array in zip(numbers[is_here].tolist(), arrays, strict=True):
                    restore.arrays[number] = array
            read_pieces(self._runtime, files, pieces)
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


def _small(index: Index, found: Fits) -> tuple[Integers, SmallTensors]:
    """The entries that take small tensors, and these."""
    tensors = index.tensors
    rows = tensors.rows if isinstance(tensors, Tensors) else NO_ROWS
    numbers = np.flatnonzero(found.small(rows))
    return numbers, SmallTensors(
        rows=rows,
        row=found.row[numbers],
        kind=found.kind[numbers],
        kinds=[(fit.numpy_dtype, fit.shape) for fit in found.kinds],
    )

"""Writing a checkpoint of this machine again, in another format.

What is read is checked, and what is written is written as a save writes it; so a conversion that
ends well is as good as the original, and one that fails leaves nothing.

Thread rule: `convert` may be called from any thread.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from google.protobuf.message import Message
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint import coordinator
from paramserve_core.checkpoint.any_disk import AnyDisk
from paramserve_core.checkpoint.background import NOBODY
from paramserve_core.checkpoint.disk import Disk, op_error, read_whole
from paramserve_core.checkpoint.entries import EntryList, Placement, pack_entries
from paramserve_core.checkpoint.index import Layout, StoredTensor
from paramserve_core.checkpoint.listing import step_in_name
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.checkpoint.shard import TakenTensor
from paramserve_core.checkpoint.slices import Box
from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.checkpoint.unread import Unread
from paramserve_core.checkpoint.urls import absolute
from paramserve_core.errors import (
    AlreadyExistsError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
)
from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

_MAX_GRAPH_BYTES: Final = (1 << 31) - 1
_TASK: Final = ""


class _Values:
    """What is saved: the tensors of another checkpoint, each read when it is written.

    Args:
        reader: of that checkpoint.
        progressed: told how much was read, from 0 to 1.
    """

    def __init__(self, reader: CheckpointReader, progressed: Callable[[float], None]) -> None:
        self._reader = reader
        self._progressed = progressed
        self._lock = threading.Lock()
        self._read_bytes = 0

    def take(self, wanted: EntryList) -> list[TakenTensor]:
        """See `saving.Take`."""
        return [self._tensor(key, self._reader.index.tensors[key]) for key in wanted.keys]

    def _tensor(self, key: str, tensor: StoredTensor) -> TakenTensor:
        box = Box.whole(tensor.shape)
        read = partial(self._read, key, tensor.nbytes)
        if tensor.dtype is dtypes.string:  # How many bytes it takes elsewhere is seen of it only.
            return TakenTensor(key, tensor.dtype, tensor.shape, box, read())
        size = math.prod(tensor.shape) * tensor.dtype.size
        return TakenTensor(key, tensor.dtype, tensor.shape, box, Unread(size, read))

    def _read(self, key: str, nbytes: int) -> NDArray[Any]:
        value = self._reader.get_tensor(key)
        with self._lock:
            self._read_bytes += nbytes
            self._progressed(self._read_bytes / max(self._reader.index.total_bytes, 1))
        return value


class _Here:
    """This process as the one task of a save."""

    def __init__(self, checkpoints: TaskCheckpoints) -> None:
        self._checkpoints = checkpoints

    def call(
        self, request: Message, tensors: Sequence[NDArray[Any]] = ()
    ) -> tuple[Any, list[NDArray[Any]]]:
        """Answers a request; see `coordinator.CheckpointTask`."""
        response, answered = self._checkpoints.handle(request, tensors, "conversion")
        return response, list(answered)


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    layout: Layout,
    *,
    overwrite: bool = False,
    disk: Disk | None = None,
    progressed: Callable[[float], None] = NOBODY.progressed,
) -> int:
    """Writes the checkpoint at `source` to `destination`; both may be of any directory.

    Of tensors of numbers, as many are in memory at a time as threads write, which is two to four,
    or a megabyte of small ones for each; besides those, all that are of strings.

    Args:
        source: the checkpoint to read.
        destination: the path to write to.
        layout: the format to write.
        overwrite: replace a checkpoint that is at `destination`.
        disk: the file system.
        progressed: told how much was read, from 0 to 1, by several threads in turns; what it
            raises ends the conversion, of which nothing is left then.

    Returns:
        Bytes of all tensors.

    Raises:
        NotFoundError: there is no checkpoint at `source`, or no directory for `destination`.
        AlreadyExistsError: there is a checkpoint at `destination`.
        InvalidArgumentError: both are the same path.
        DataLossError: a file is damaged.
    """
    disk = disk or AnyDisk()
    source, destination = absolute(source), absolute(destination)
    if source == destination:
        raise InvalidArgumentError(None, None, f"{source}: a checkpoint cannot replace itself")
    reader = CheckpointReader(source, disk)
    if not overwrite and _exists(destination, disk):
        raise AlreadyExistsError(None, None, f"{destination}: there is a checkpoint already")
    progressed(0.0)
    request = messages.SaveRequest(path=str(destination), format=layout.value)
    entries = [
        messages.CheckpointEntry(
            key=name,
            node=name,
            dtype=tensor.dtype.as_datatype_enum,
            shape=TensorShape(tensor.shape).as_proto(),
        )
        for name, tensor in reader.index.tensors.items()
    ]
    request.entries = pack_entries(entries)
    step = reader.index.step if reader.index.step is not None else step_in_name(source.name)
    if step is not None:
        request.has_step, request.step = True, step
    request.graph_hash = bytes.fromhex(reader.index.graph_hash)
    graph = _graph(reader, source, disk)
    if graph:
        request.meta_graph, request.meta_graph_path = graph, f"{destination}.meta"
    runtime = ThreadRuntime("paramserve-conversion", max_workers=4)
    try:
        take = _Values(reader, progressed).take
        here = _Here(TaskCheckpoints(VariableStore(), "", None, runtime, disk, take))
        saved = coordinator.save({_TASK: here}, request, Placement(lambda _: _TASK), _in_turn)
    finally:
        runtime.close()
    return saved.bytes


def _exists(path: PurePath, disk: Disk) -> bool:
    try:
        CheckpointReader(path, disk)
    except NotFoundError:
        return False
    except DataLossError:
        return True
    return True


def _graph(reader: CheckpointReader, source: PurePath, disk: Disk) -> bytes:
    """The graph beside a checkpoint; empty if there is none."""
    name = reader.index.meta_graph or f"{source.name}.meta"
    try:
        return read_whole(disk, source.parent / name, _MAX_GRAPH_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise op_error(error) from error


def _in_turn(thunks: Sequence[Callable[[], Any]]) -> list[Any]:
    return [thunk() for thunk in thunks]

"""Tasks with checkpoints and nothing else, for tests of saving and restoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramserve_core import dtypes
from paramserve_core.checkpoint import coordinator
from paramserve_core.checkpoint.disk import Disk
from paramserve_core.checkpoint.entries import Placement, pack_entries
from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages


def array_of(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """A value as a variable holds it; text becomes an object array of bytes."""
    array = np.array(value, None if dtype is None else dtype.as_numpy_dtype)
    if array.dtype.kind in "SU":
        array = np.array(
            np.char.encode(array).tolist() if array.dtype.kind == "U" else value, object
        )
    return array


class Task:
    """One task: variables, a directory, and the checkpoint calls on them."""

    def __init__(
        self,
        root: Path | None,
        *,
        name: str = "/job:ps/replica:0/task:0",
        runtime: ThreadRuntime | None = None,
        disk: Disk | None = None,
        session: str = "session",
    ) -> None:
        self.name = name
        self.root = root
        self.session = session
        self.store = VariableStore()
        self.runtime = runtime or ThreadRuntime(max_workers=4)
        self.checkpoints = TaskCheckpoints(self.store, name, root, self.runtime, disk)
        self.is_reachable = True
        self.calls: list[str] = []

    def call(self, request: Any, tensors: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
        self.calls.append(type(request).__name__)
        response, answered = self.checkpoints.handle(request, tensors, self.session)
        return response, list(answered)

    def set(self, **values: Any) -> None:
        for name, value in values.items():
            array = array_of(value)
            variable = self.store.get_or_create(
                name, "", as_dtype(array.dtype), TensorShape(array.shape)
            )
            variable.assign(array)

    def get(self, name: str) -> Any:
        variable = self.store.find(name)
        return None if variable is None else variable.read_if_initialized()


class Tasks:
    """Several tasks and a session on them. Each entry names its task by what `put` was told."""

    def __init__(self, *tasks: Task) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.place: dict[str, str] = {}

    def save(self, path: str, *entries: messages.CheckpointEntry, **options: Any) -> Any:
        options.setdefault("state", messages.StateUpdate())
        request = messages.SaveRequest(path=path, entries=pack_entries(entries), **options)
        return coordinator.save(self.tasks, request, Placement(self._task_of), in_turn)

    def restore(self, path: str, *entries: messages.CheckpointEntry) -> None:
        request = messages.RestoreRequest(path=path, entries=pack_entries(entries))
        coordinator.restore(self.tasks, request, Placement(self._task_of), in_turn)

    def read_state(self, directory: str = "") -> Any:
        request = messages.ReadStateRequest(directory=directory)
        return coordinator.read_state(self.tasks, request, in_turn)

    def _task_of(self, entry: messages.CheckpointEntry) -> str:
        return self.place.get(entry.node, next(iter(self.tasks)))


def in_turn(thunks: Sequence[Any]) -> list[Any]:
    """Calls functions one after the other; raises the first error once all were called."""
    results: list[Any] = []
    errors: list[BaseException] = []
    for thunk in thunks:
        try:
            results.append(thunk())
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def entry(
    key: str,
    dtype: DType = dtypes.float32,
    shape: Sequence[int | None] | None = None,
    *,
    node: str | None = None,
    slice_of: tuple[Sequence[int], Sequence[int], Sequence[int]] | None = None,
    reshape: bool = False,
) -> messages.CheckpointEntry:
    """An entry for the variable `node` (the key by default).

    Args:
        slice_of: full shape, offset and shape of a part.
    """
    made = messages.CheckpointEntry(
        key=key,
        node=node or key,
        dtype=dtype.as_datatype_enum,
        reshape=reshape,
        shape=TensorShape(shape).as_proto(),
    )
    if slice_of is not None:
        full, offset, part = slice_of
        made.slice.CopyFrom(messages.Slice(full_shape=full, offset=offset, shape=part))
    return made


def entries_of(values: Mapping[str, Any]) -> list[messages.CheckpointEntry]:
    """An entry for each value, as `Task.set` makes variables of them."""
    arrays = {name: array_of(value) for name, value in values.items()}
    return [entry(n, as_dtype(a.dtype), a.shape) for n, a in arrays.items()]


def two_tasks(folder: Path, *, shared: bool = False) -> tuple[Tasks, list[Task]]:
    """Two tasks, each with a disk of its own unless `shared`."""
    tasks = []
    for i in range(2):
        root = folder / ("disk" if shared else f"disk{i}")
        root.mkdir(exist_ok=True)
        tasks.append(Task(root, name=f"/job:ps/replica:0/task:{i}"))
    return Tasks(*tasks), tasks

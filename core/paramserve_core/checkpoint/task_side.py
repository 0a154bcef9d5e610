"""What a task answers to the checkpoint calls of its sessions.

`TaskCheckpoints` passes each request to who answers it and turns what the disk says into errors of
this system. The work is in `saving` and `restoring`.

Every call may be repeated: a save or restore is known by its id, and what was done for it is not
done again. A session that ends takes along what it has open (`forget`), except a save that may be
committed on another task; see `saving`.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from google.protobuf.message import Message
from numpy.typing import NDArray

from paramserve_core.checkpoint.any_disk import AnyDisk
from paramserve_core.checkpoint.disk import Disk, op_error
from paramserve_core.checkpoint.entries import EntryLists
from paramserve_core.checkpoint.finding import read_index
from paramserve_core.checkpoint.graph_files import GraphFiles
from paramserve_core.checkpoint.places import Places
from paramserve_core.checkpoint.restoring import Restores
from paramserve_core.checkpoint.retention import read_state
from paramserve_core.checkpoint.saving import Saves, Take
from paramserve_core.checkpoint.variables import take as take_values
from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

Tensors = Sequence[NDArray[Any]]
Answer = tuple[Message | None, Tensors]


class TaskCheckpoints:
    """The checkpoint calls of one task.

    Args:
        store: the task's variables.
        task: its name, for errors.
        root: the directory that clients' paths are confined to; None: the whole disk.
        runtime: where threads come from.
        disk: the file system; None: whatever the paths name, be they URLs.
        take: answers what a save is to write; None: the values of the store's variables.
    """

    def __init__(
        self,
        store: VariableStore,
        task: str,
        root: PurePath | None,
        runtime: Runtime,
        disk: Disk | None = None,
        take: Take | None = None,
    ) -> None:
        self._task = task
        self._disk = disk or AnyDisk()
        self._places = Places(self._disk, root)
        self._entries = EntryLists()
        take = take or partial(take_values, store)
        self._saves = Saves(self._disk, self._places, take, self._entries, runtime)
        self._files = GraphFiles(self._disk, self._places, runtime)
        self._restores = Restores(self._disk, self._places, store, self._entries, runtime)

    @property
    def files(self) -> GraphFiles:
        """The checkpoint files that ops of a graph may touch."""
        return self._files

    def handle(self, request: Message, tensors: Tensors, session: str) -> Answer:
        """Carries out one request of a session; blocks until it is done.

        Args:
            request: a request message of `checkpoint_service.proto`.
            tensors: what came with it.
            session: who asks; what it has open goes with `forget`.

        Returns:
            The response, or None where the request has none, and tensors.

        Raises:
            OpError: what went wrong, with this task named.
        """
        try:
            return self._answer(request, tensors, session)
        except OSError as error:
            failure = op_error(error)
            failure.task = self._task
            raise failure from error
        except OpError as error:
            error.task = error.task or self._task
            raise

    def _answer(self, request: Message, tensors: Tensors, session: str) -> Answer:
        match request:
            case messages.TakeSnapshotRequest():
                self._saves.take_snapshot(request, session)
            case messages.WriteShardRequest():
                return self._saves.write_shard(request), ()
            case messages.PrepareCommitRequest():
                self._saves.prepare_commit(request)
            case messages.CommitRequest():
                self._saves.commit(request)
            case messages.FinishSaveRequest():
                self._saves.finish(request)
            case messages.AbortSaveRequest():
                self._saves.abort(request)
            case messages.AdoptIndexRequest():
                self._saves.adopt_index(request)
            case messages.ReadIndexRequest():
                return read_index(self._disk, self._places.checkpoint(request.path)), ()
            case messages.StageRestoreRequest():
                return self._restores.stage(request, session), ()
            case messages.SupplyBytesRequest():
                self._restores.supply(request, tensors)
            case messages.CommitRestoreRequest():
                self._restores.commit(request)
            case messages.AbortRestoreRequest():
                self._restores.abort(request)
            case messages.ReadBytesRequest():
                return None, (self._restores.read_bytes(request),)
            case messages.ReadStateRequest():
                return self._read_state(request), ()
            case _:
                raise InvalidArgumentError(
                    None, None, f"{type(request).__name__} is no call about checkpoints"
                )
        return None, ()

    def forget(self, session: str) -> None:
        """Drops the saves and restores that a session left open."""
        self._restores.forget(session)
        try:
            self._saves.forget(session)
        except OSError:
            return  # Files that could not be deleted are leftovers for the next save.

    def _read_state(self, request: messages.ReadStateRequest) -> messages.ReadStateResponse:
        directory = self._places.directory(request.directory)
        state = read_state(self._disk, directory, request.latest_filename)
        content = b"" if state is None else state.SerializeToString()
        return messages.ReadStateResponse(state=content)

"""Saves and restores over several tasks: what a master asks of whom, and when.

A save holds each phase on all tasks before the next on any (`checkpoint_service.proto`), so that
at every moment either the old checkpoint or the new one is whole. A failure before the first
commit call takes everything back; one after it leaves a checkpoint that is committed on some
tasks, which counts as committed, because its files are all durable: `choose` finds it, and the
next save in the directory gives the other tasks its index.

A restore stages on all tasks, moves bytes between tasks where one lacks a file, and commits on all
once all have everything, while steps are held.

Thread rule: every function may be called from any thread and blocks until it is done.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message
from numpy.typing import NDArray

from paramserve_core.checkpoint.background import NOBODY, Watcher
from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.checkpoint.entries import Placement, unpack_entries
from paramserve_core.checkpoint.finding import Found, choose, not_found
from paramserve_core.checkpoint.index import Layout, layout_of
from paramserve_core.checkpoint.index_file import encode_index
from paramserve_core.checkpoint.json_fields import MAX_INT
from paramserve_core.checkpoint.merging import merge_shards
from paramserve_core.checkpoint.tf_bundle import encode_bundle_index
from paramserve_core.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    UnavailableError,
)
from paramserve_core.version import version
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState

T = TypeVar("T")
Array = NDArray[Any]
Parallel = Callable[[Sequence[Callable[[], Any]]], list[Any]]
Hold = Callable[[], AbstractContextManager[None]]
"""Makes a block in which no step changes anything and none is half done."""

_WRITTEN: Final = 0.95
"""How much is done when all shards are written."""

_LANES: Final = 4
"""How many byte ranges are under way to one task at a time."""


class CheckpointTask(Protocol):
    """A task that can be asked."""

    def call(self, request: Message, tensors: Sequence[Array] = ()) -> tuple[Any, list[Array]]:
        """Sends a request and blocks until it is answered."""


def save(
    tasks: Mapping[str, CheckpointTask],
    request: messages.SaveRequest,
    placement: Placement,
    parallel: Parallel,
    hold: Hold = nullcontext,
    watcher: Watcher = NOBODY,
) -> messages.SaveResponse:
    """Saves variables; returns when the checkpoint is durable and old ones are deleted.

    Args:
        tasks: every task of the session, by name.
        request: what to save, and where.
        placement: the tasks that variables are on.
        parallel: calls functions side by side and answers their results in order; raises the
            first error once all have ended.
        hold: the values are leased within it.
        watcher: is told how it gets on.

    Raises:
        OpError: the checkpoint was not written; earlier ones are untouched.
    """
    if not request.entries:
        raise InvalidArgumentError(None, None, "there are no variables to save")
    return _Save(tasks, request, placement, parallel, hold, watcher).run()


def restore(
    tasks: Mapping[str, CheckpointTask],
    request: messages.RestoreRequest,
    placement: Placement,
    parallel: Parallel,
    hold: Hold = nullcontext,
) -> None:
    """Restores variables from whatever tasks' disks have the checkpoint; see `save`.

    All variables get their values within `hold`: no step sees some of them old and others new.

    Raises:
        NotFoundError: there is no such checkpoint, or a key is not in it.
        OpError: no variable was changed.
    """
    _Restore(tasks, request, placement, parallel, hold).run()


def read_state(
    tasks: Mapping[str, CheckpointTask], request: messages.ReadStateRequest, parallel: Parallel
) -> messages.ReadStateResponse:
    """The state file of a directory, from the task where it names the newest checkpoint."""
    answers = _ask_all(tasks, request, (), parallel)

    def newest(answer: messages.ReadStateResponse) -> tuple[bool, float]:
        state = CheckpointState.FromString(answer.state)
        return bool(answer.state), max(state.all_model_checkpoint_timestamps, default=0.0)

    return max(answers.values(), key=newest, default=messages.ReadStateResponse())


class _Conversation:
    """What saves and restores have in common: entries by task, and calls to tasks."""

    def __init__(
        self,
        tasks: Mapping[str, CheckpointTask],
        entries: bytes,
        placement: Placement,
        parallel: Parallel,
    ) -> None:
        self.tasks = tasks
        with collector_paused():
            self.entries = placement.by_task(entries)
        for name in self.entries:
            if name not in tasks:
                node = unpack_entries(self.entries[name])[0].node
                raise InvalidArgumentError(
                    None, None, f"{node} is on {name}, which is no task of this session"
                )
        self.parallel = parallel

    def ask(self, requests: Mapping[str, Message]) -> dict[str, Any]:
        """Asks tasks side by side; the responses by task."""
        answers = self.parallel([_asking(self.tasks[n], r) for n, r in requests.items()])
        return dict(zip(requests, answers, strict=True))

    def ask_quietly(self, names: Sequence[str], request: Message) -> None:
        """Asks tasks whose answer does not matter any more."""
        self.parallel([_trying(self.tasks[name], request) for name in names])


class _Save(_Conversation):
    """One save."""

    def __init__(
        self,
        tasks: Mapping[str, CheckpointTask],
        request: messages.SaveRequest,
        placement: Placement,
        parallel: Parallel,
        hold: Hold,
        watcher: Watcher,
    ) -> None:
        super().__init__(tasks, request.entries, placement, parallel)
        self.request = request
        self.hold = hold
        self.watcher = watcher
        self._written = 0
        self.save_id = uuid.uuid4().hex[:16]
        self.layout = layout_of(request.format)

    def run(self) -> messages.SaveResponse:
        try:
            with self.hold():
                self._take()
            self.watcher.taken()
            written = self._write()
            total_bytes = self._prepare(written)
        except BaseException:
            abort = messages.AbortSaveRequest(save_id=self.save_id)
            self.ask_quietly(list(self.entries), abort)
            raise
        try:
            self.ask(dict.fromkeys(self.entries, messages.CommitRequest(save_id=self.save_id)))
        except BaseException:
            abort = messages.AbortSaveRequest(save_id=self.save_id, keep_files=True)
            self.ask_quietly(list(self.entries), abort)
            raise
        self._finish(written)
        return messages.SaveResponse(path=self.request.path, bytes=total_bytes)

    def _take(self) -> None:
        self.ask(
            {
                name: messages.TakeSnapshotRequest(
                    save_id=self.save_id, entries=entries, path=self.request.path
                )
                for name, entries in self.entries.items()
            }
        )

    def _generation_elsewhere(self) -> int:
        """The path's generation on the tasks that take no part, as far as they can be asked."""
        others = {name: task for name, task in self.tasks.items() if name not in self.entries}
        if not others:
            return 0
        read = messages.ReadIndexRequest(path=self.request.path)
        try:
            found = choose(_ask_all(others, read, (), self.parallel), self.request.path)
        except OpError:
            return 0
        return 0 if found is None else found.index.generation

    def _write(self) -> dict[str, messages.WriteShardResponse]:
        thunks = [
            self._writing(
                name,
                messages.WriteShardRequest(
                    save_id=self.save_id,
                    shard=shard,
                    shard_count=len(self.entries),
                    format=self.request.format,
                    in_background=self.watcher.is_in_background,
                ),
            )
            for shard, name in enumerate(self.entries)
        ]
        return dict(zip(self.entries, self.parallel(thunks), strict=True))

    def _writing(self, name: str, request: messages.WriteShardRequest) -> Callable[[], Any]:
        def write() -> Any:
            response, _ = self.tasks[name].call(request)
            self._written += 1
            self.watcher.progressed(_WRITTEN * self._written / len(self.entries))
            return response

        return write

    def _prepare(self, written: Mapping[str, messages.WriteShardResponse]) -> int:
        shards = list(written.values())
        generation = max(shard.generation for shard in shards)
        request = self.request
        generation = max(generation, self._generation_elsewhere()) + 1
        if generation > MAX_INT:
            raise FailedPreconditionError(
                None,
                None,
                f"{request.path}: the index there counts {MAX_INT} saves to this path, and not one "
                "more can be counted; save to another path, or delete what is there",
            )
        with collector_paused():
            index = merge_shards(
                self.layout,
                shards,
                save_id=self.save_id,
                generation=generation,
                step=request.step if request.has_step else None,
                graph_hash=request.graph_hash.hex(),
                meta_graph=request.meta_graph_path.rpartition("/")[2],
                writer=f"paramserve {version()}",
                tasks=list(written),
            )
            is_bundle = self.layout is Layout.TENSORFLOW_V2
            content = encode_bundle_index(index) if is_bundle else encode_index(index)
        prepare = messages.PrepareCommitRequest(
            save_id=self.save_id,
            index=content,
            meta_graph_path=request.meta_graph_path,
            meta_graph=request.meta_graph,
        )
        self.ask(dict.fromkeys(self.entries, prepare))
        return index.total_bytes

    def _finish(self, written: Mapping[str, messages.WriteShardResponse]) -> None:
        finish = messages.FinishSaveRequest(save_id=self.save_id, path=self.request.path)
        if self.request.HasField("state"):
            finish.state.CopyFrom(self.request.state)
        unfinished = {
            (left.name, left.save_id) for shard in written.values() for left in shard.unfinished
        }
        for name, save_id in sorted(unfinished):
            if self._settle(name, save_id):
                finish.abandoned.add(name=name, save_id=save_id)
        self.ask(dict.fromkeys(self.entries, finish))
        self.ask_quietly([name for name in self.tasks if name not in self.entries], finish)

    def _settle(self, name: str, save_id: str) -> bool:
        """Finds out what became of a save that did not end; answers whether it can be deleted.

        Where it is the checkpoint that counts at its path, those who lack its index get it.
        """
        path = self.request.path.rpartition("/")[0]
        path = f"{path}/{name}" if path or self.request.path.startswith("/") else name
        if path == self.request.path:
            return True  # The save that just ended replaced it.
        try:
            answers = self.ask(dict.fromkeys(self.tasks, messages.ReadIndexRequest(path=path)))
            found = choose(answers, path)
        except OpError:
            return False  # Not everybody could be asked: it stays until the next save.
        if found is None or found.index.layout is not Layout.SAFETENSORS:
            return True
        if found.missing_files:
            return False
        holds = {task for held in found.holders.values() for task in held}
        adopt = messages.AdoptIndexRequest(path=path, index=found.content)
        lacking = [task for task in holds if answers[task].index != found.content]
        try:
            self.ask(dict.fromkeys(lacking, adopt))
        except OpError:
            return False
        return found.index.save_id != save_id


class _Restore(_Conversation):
    """One restore."""

    def __init__(
        self,
        tasks: Mapping[str, CheckpointTask],
        request: messages.RestoreRequest,
        placement: Placement,
        parallel: Parallel,
        hold: Hold,
    ) -> None:
        super().__init__(tasks, request.entries, placement, parallel)
        self.hold = hold
        self.path = request.path
        self.restore_id = uuid.uuid4().hex[:16]

    def run(self) -> None:
        found = self._find()
        try:
            missing = self._stage(found)
            self.parallel(
                [
                    self._supplying(name, found, ranges[lane::_LANES])
                    for name, ranges in missing.items()
                    for lane in range(min(_LANES, len(ranges)))
                ]
            )
            commit = messages.CommitRestoreRequest(restore_id=self.restore_id)
            with self.hold():
                self.ask(dict.fromkeys(self.entries, commit))
        except BaseException:
            abort = messages.AbortRestoreRequest(restore_id=self.restore_id)
            self.ask_quietly(list(self.entries), abort)
            raise

    def _find(self) -> Found:
        request = messages.ReadIndexRequest(path=self.path)
        answers = _ask_all(self.tasks, request, tuple(self.entries), self.parallel)
        found = choose(answers, self.path)
        if found is None:
            raise not_found(self.path)
        return found

    def _stage(self, found: Found) -> dict[str, Sequence[messages.ByteRange]]:
        answers = self.ask(
            {
                name: messages.StageRestoreRequest(
                    restore_id=self.restore_id,
                    path=self.path,
                    entries=entries,
                    index=found.content,
                    format=found.index.layout.value,
                )
                for name, entries in self.entries.items()
            }
        )
        return {name: answer.missing for name, answer in answers.items() if answer.missing}

    def _supplying(
        self, name: str, found: Found, missing: Sequence[messages.ByteRange]
    ) -> Callable[[], None]:
        def supply() -> None:
            for wanted in missing:
                holders = found.holders.get(wanted.file)
                if not holders:
                    raise NotFoundError(
                        None,
                        None,
                        f"{wanted.file}, a file of the checkpoint {self.path!r}, is on no disk of "
                        f"this session's tasks{found.index.origin(wanted.file)}; use a session "
                        "with the task that has it, bring the file to one of these, or restore "
                        "another checkpoint",
                    )
                read = messages.ReadBytesRequest(path=self.path, range=wanted)
                _, tensors = self.tasks[holders[0]].call(read)
                given = messages.SupplyBytesRequest(restore_id=self.restore_id, range=wanted)
                self.tasks[name].call(given, tensors)

        return supply


def _ask_all(
    tasks: Mapping[str, CheckpointTask],
    request: Message,
    needed: Sequence[str],
    parallel: Parallel,
) -> dict[str, Any]:
    """Asks every task; those that are not needed may be out of reach."""
    unreachable: dict[str, OpError] = {}

    def asking(name: str) -> Callable[[], Any]:
        def ask() -> Any:
            try:
                return tasks[name].call(request)[0]
            except (UnavailableError, AbortedError) as error:
                if name in needed:
                    raise
                unreachable[name] = error
                return None

        return ask

    answers = parallel([asking(name) for name in tasks])
    if unreachable and len(unreachable) == len(tasks):
        raise min(unreachable.items())[1]
    return {n: a for n, a in zip(tasks, answers, strict=True) if n not in unreachable}


def _asking(task: CheckpointTask, request: Message) -> Callable[[], Any]:
    return lambda: task.call(request)[0]


def _trying(task: CheckpointTask, request: Message) -> Callable[[], None]:
    def ask() -> None:
        try:
            task.call(request)
        except OpError:
            return

    return ask

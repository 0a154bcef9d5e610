"""A moment at which no step is half done on any task: what a checkpoint is taken and restored at.

All tasks are held (`task.gate`). A step that changed variables on some of its tasks and not yet on
the others is let through on all of them, until none is left; then nothing changes until the
release.

Thread rule: runs on the thread that saves.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from google.protobuf.message import Message as ProtoMessage

from paramserve_core.errors import OpError
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import service_pb2

Parallel = Callable[[Sequence[Callable[[], Any]]], list[Any]]

_SETTLE_S: Final = 3.0
"""How long a step that is half done may take to end. One whose client has died never does."""

_POLL_S: Final = 0.002

_log = logging.getLogger(__name__)


class HoldableTask(Protocol):
    """What is needed of a task."""

    def call(self, request: ProtoMessage) -> tuple[Any, Any]:
        """Sends a request and blocks until it is answered."""


@contextmanager
def consistent_cut(
    tasks: Mapping[str, HoldableTask], parallel: Parallel, runtime: Runtime
) -> Iterator[None]:
    """Holds all tasks for the length of the block, with no step half done.

    Raises:
        OpError: a task could not be held; none is.
    """
    hold_id = secrets.token_hex(8)
    try:
        answers = _ask(tasks, parallel, service_pb2.HoldStepsRequest(hold_id=hold_id))
        deadline = runtime.now() + _SETTLE_S
        while half_done := _half_done(answers):
            if runtime.now() > deadline:
                _log.warning("steps stay half done", extra={"steps": len(half_done)})
                break
            let = service_pb2.LetStepsRequest(hold_id=hold_id, steps=half_done)
            answers = _ask(tasks, parallel, let)
            runtime.sleep(_POLL_S)
        yield
    finally:
        release = service_pb2.ReleaseStepsRequest(hold_id=hold_id)
        parallel([_quietly(task, release) for task in tasks.values()])


def _ask(
    tasks: Mapping[str, HoldableTask], parallel: Parallel, request: ProtoMessage
) -> list[service_pb2.HoldStepsResponse]:
    def asking(task: HoldableTask) -> Callable[[], Any]:
        return lambda: task.call(request)[0]

    return parallel([asking(task) for task in tasks.values()])


def _quietly(task: HoldableTask, request: ProtoMessage) -> Callable[[], None]:
    def ask() -> None:
        try:
            task.call(request)
        except OpError as error:
            # The hold ends by itself.
            _log.debug("releasing a hold: %s", error.message)

    return ask


def _half_done(
    answers: Sequence[service_pb2.HoldStepsResponse],
) -> list[service_pb2.StepProgress]:
    """The steps that some tasks have a part of and others lack.

    A task forgets old steps; what it may have forgotten was done there.
    """
    merged: dict[tuple[str, int], service_pb2.StepProgress] = {}
    forgotten: dict[str, int] = {}
    for answer in answers:
        for session, step in answer.forgotten.items():
            forgotten[session] = max(step, forgotten.get(session, step))
        for progress in answer.steps:
            key = (progress.session, progress.step)
            known = merged.get(key)
            if known is None:
                merged[key] = progress
            else:
                known.done += progress.done
                known.ended |= progress.ended
    return [
        p
        for p in merged.values()
        if 0 < p.done < p.total and not p.ended and p.step > forgotten.get(p.session, -1)
    ]

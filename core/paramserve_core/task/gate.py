"""The gate that stages pass which change variables; a checkpoint closes it for a moment.

A checkpoint is of one moment: no step is half in it. On one task that means that no stage runs
while the values are leased. Over several tasks a step has several stages, so the tasks are held all
at once, and a step of which one task has a part and another has not is let through everywhere
before the values are leased (`master.cut` does that). For it every task remembers how far recent
steps have come that change variables on more than one.

A hold that is not released, because whoever asked is gone, ends by itself.

The idea is that of a consistent cut (Chandy and Lamport, "Distributed Snapshots", ACM TOCS 1985),
taken the easy way: stopping is affordable, because leasing values takes microseconds.

Thread rule: every method may be called from any thread. `enter` and `hold` wait; a stage that has
entered never waits for the gate again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from paramserve_core.errors import DeadlineExceededError
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import service_pb2

Key = tuple[str, int]
"""A session's name and the number of a step."""

HoldRequest = (
    service_pb2.HoldStepsRequest | service_pb2.LetStepsRequest | service_pb2.ReleaseStepsRequest
)

HOLD_S: Final = 10.0
"""A hold ends by itself after that."""

_REMEMBERED: Final = 4096
_LOOK_S: Final = 0.05


class _Progress:
    __slots__ = ("done", "has_ended", "total")

    def __init__(self, total: int) -> None:
        self.done = 0
        self.total = total
        self.has_ended = False


class StepGate:
    """The gate of one task."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._running = 0
        self._holds: dict[str, set[Key]] = {}
        self._idle = runtime.event()
        self._opened = runtime.event()
        self._recent: OrderedDict[Key, _Progress] = OrderedDict()
        self._forgotten: dict[str, int] = {}
        """By session, the highest number of a step that is remembered no more."""

    def enter(self, key: Key, total: int, check: Callable[[], None]) -> None:
        """A stage is about to change variables; waits while the gate is closed to its step.

        Args:
            key: the step.
            total: how many stages of it change variables, on all tasks.
            check: raises when the step was cancelled; called now and then while waiting.
        """
        while True:
            opened = self._opened  # before looking: what opens the gate afterwards sets this one
            if self.try_enter(key, total):
                return
            opened.wait(_LOOK_S)
            check()

    def try_enter(self, key: Key, total: int) -> bool:
        """As `enter`, but answers False where that would wait."""
        with self._lock:
            if not all(key in let for let in self._holds.values()):
                return False
            self._running += 1
            if total > 1:
                self._remember(key, total)
            return True

    @property
    def is_held(self) -> bool:
        """Whether the gate is closed to some step."""
        return bool(self._holds)

    def leave(self, key: Key, total: int, *, is_done: bool) -> None:
        """The stage has ended, well or not."""
        with self._lock:
            self._running -= 1
            if total > 1:
                progress = self._remember(key, total)
                progress.done += is_done
                progress.has_ended |= not is_done
            if not self._running and self._holds:
                self._idle.set()

    def end_steps(self, keys: Iterable[Key]) -> None:
        """No more of these steps will come."""
        with self._lock:
            for key in keys:
                if key in self._recent:
                    self._recent[key].has_ended = True

    def end_session(self, session: str) -> None:
        """No more of that session's steps will come, not even of those that are done here."""
        with self._lock:
            for (name, _), progress in self._recent.items():
                progress.has_ended |= name == session
            self._forgotten.pop(session, None)

    def hold(self, hold_id: str) -> service_pb2.HoldStepsResponse:
        """Closes the gate; returns once no stage is inside.

        Raises:
            DeadlineExceededError: a stage ran on for longer than a hold lasts; the gate is open.
        """
        with self._lock:
            self._holds[hold_id] = set()
            self._idle = self._runtime.event()
            if not self._running:
                self._idle.set()
            idle = self._idle
        self._runtime.call_later(HOLD_S, lambda: self.release(hold_id))
        if not idle.wait(HOLD_S):
            self.release(hold_id)
            raise DeadlineExceededError(
                None, None, f"a step changes variables for more than {HOLD_S:g} s; try again later"
            )
        return self._progress()

    def let(self, hold_id: str, keys: Iterable[Key]) -> service_pb2.HoldStepsResponse:
        """Lets some steps through a gate that is held; answers how far steps have come."""
        with self._lock:
            if hold_id in self._holds:
                self._holds[hold_id].update(keys)
                self._wake()
        return self._progress()

    def release(self, hold_id: str) -> None:
        """Ends a hold; unknown ones are passed over."""
        with self._lock:
            if self._holds.pop(hold_id, None) is not None:
                self._wake()

    def handle(self, request: HoldRequest) -> service_pb2.HoldStepsResponse | None:
        """Carries out a call about holds."""
        match request:
            case service_pb2.HoldStepsRequest():
                return self.hold(request.hold_id)
            case service_pb2.LetStepsRequest():
                return self.let(request.hold_id, [(s.session, s.step) for s in request.steps])
            case service_pb2.ReleaseStepsRequest():
                self.release(request.hold_id)
                return None

    def _wake(self) -> None:
        opened, self._opened = self._opened, self._runtime.event()
        opened.set()

    def _remember(self, key: Key, total: int) -> _Progress:
        progress = self._recent.get(key)
        if progress is None:
            progress = self._recent[key] = _Progress(total)
            if len(self._recent) > _REMEMBERED:
                (session, number), _ = self._recent.popitem(last=False)
                self._forgotten[session] = max(number, self._forgotten.get(session, number))
        return progress

    def _progress(self) -> service_pb2.HoldStepsResponse:
        with self._lock:
            return service_pb2.HoldStepsResponse(
                steps=[
                    service_pb2.StepProgress(
                        session=session,
                        step=step,
                        done=progress.done,
                        total=progress.total,
                        ended=progress.has_ended,
                    )
                    for (session, step), progress in self._recent.items()
                ],
                forgotten=self._forgotten,
            )

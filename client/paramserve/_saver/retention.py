"""Which checkpoints a saver keeps: the newest ones, and one now and then for good.

The rule is TensorFlow's. A saver remembers the checkpoints that it saved, oldest first. When there
are more than `max_to_keep`, the oldest leaves the list; it is deleted, unless it is newer than the
time at which the next one is to be kept for good.

Thread rule: owned by a saver, which guards it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paramserve_protos.v1.checkpoint_service_pb2 import StateUpdate


@dataclass(frozen=True, slots=True)
class Plan:
    """What a save changes in the list, once it has succeeded."""

    kept: tuple[tuple[str, float], ...]
    deleted: tuple[str, ...]
    next_preserved_at: float
    last_preserved_at: float

    def state(self, latest_filename: str) -> StateUpdate:
        """What the tasks write into the state file and delete."""
        return StateUpdate(
            latest_filename=latest_filename,
            all_paths=[path for path, _ in self.kept],
            all_timestamps=[saved_at for _, saved_at in self.kept],
            delete_paths=self.deleted,
            last_preserved_timestamp=self.last_preserved_at,
        )


class Retention:
    """The checkpoints that a saver remembers.

    Args:
        max_to_keep: how many; None or 0 remembers none and deletes none.
        every_n_hours: how often one is kept for good.
        clock: answers the time in seconds since 1970.
    """

    def __init__(
        self,
        max_to_keep: int | None,
        every_n_hours: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_to_keep = max_to_keep or 0
        self._period_s = every_n_hours * 3600
        self._clock = clock
        self._next_preserved_at = clock() + self._period_s
        self._last_preserved_at = 0.0
        self._kept: list[tuple[str, float]] = []

    @property
    def paths(self) -> list[str]:
        """The remembered checkpoints, oldest first."""
        return [path for path, _ in self._kept]

    def set(self, paths_with_times: Iterable[tuple[str, float]]) -> None:
        """Remembers these, oldest first, and no others."""
        self._kept = list(paths_with_times)

    def plan(self, path: str) -> Plan:
        """What saving a checkpoint now would change."""
        if not self._max_to_keep:
            kept: tuple[tuple[str, float], ...] = ((path, self._clock()),)
            return Plan(kept, (), self._next_preserved_at, self._last_preserved_at)
        # A path that is saved again is one checkpoint, which becomes the newest.
        name = os.path.normpath(path)
        remembered = [item for item in self._kept if os.path.normpath(item[0]) != name]
        remembered.append((path, self._clock()))
        deleted = []
        next_at, last_at = self._next_preserved_at, self._last_preserved_at
        while len(remembered) > self._max_to_keep:
            oldest, saved_at = remembered.pop(0)
            if saved_at > next_at:
                next_at += self._period_s
                last_at = saved_at
            else:
                deleted.append(oldest)
        return Plan(tuple(remembered), tuple(deleted), next_at, last_at)

    def carried_out(self, plan: Plan) -> None:
        """The save that `plan` was made for has succeeded."""
        if self._max_to_keep:
            self._kept = list(plan.kept)
        self._next_preserved_at = plan.next_preserved_at
        self._last_preserved_at = plan.last_preserved_at

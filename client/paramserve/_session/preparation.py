"""What a session has worked out: the meaning of fetches and feeds, and the master's plans for them.

Training calls `run` with the same fetches and keys of feeds over and over, so what these mean is
worked out once and kept: the names, the master's plan, and how to put values into the structure
that was asked for. The graph may grow at any time; it is looked at only when something new is run,
and only what is new in it is sent.

Thread rule: every method may be called from any thread. `_lock` guards what the master was told of
the graph; `steps` is only ever added to, or emptied.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from paramserve._framework.graph import Graph
from paramserve._session.failures import located
from paramserve._session.feeds import Feeds
from paramserve._session.fetches import Fetches
from paramserve_core.errors import DeadlineExceededError, OpError
from paramserve_core.master.interface import Master

_MAX_STEPS: Final = 4096
"""How many combinations of fetches and feeds are remembered; a program that makes new fetches for
each run would fill the memory otherwise. (The master keeps its plans by name.)"""


class Step:
    """Fetches and feeds, worked out, and the master's plan for them once there is one."""

    __slots__ = ("convert", "feeds", "fetches", "pack", "plan")

    def __init__(self, fetches: Fetches, feeds: Feeds) -> None:
        self.plan: int | None = None
        self.fetches = fetches
        self.feeds = feeds
        self.pack = fetches.pack
        self.convert = feeds.convert


class _Rest:
    """What is left of the time that something may take; None: there is no limit."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s

    def seconds(self) -> float | None:
        """Seconds, 0 at least."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - time.monotonic())


class Preparation:
    """The steps that a session has prepared.

    Attributes:
        steps: by `fetches.structure_key` of the fetches, or that and those of the feeds' keys.
    """

    def __init__(self, graph: Graph, master: Master) -> None:
        self._graph = graph
        self._master = master
        self._lock = threading.Lock()
        self._nodes_sent = 0
        self._plans: dict[tuple[tuple[str, ...], ...], int] = {}
        self.steps: dict[Any, Step] = {}

    def new_step(self, fetches: Any, feed_keys: Iterable[Any]) -> Step:
        """Works out what fetches and feeds mean; nothing is sent.

        Raises:
            RuntimeError: the graph is empty.
            TypeError, ValueError: see `Fetches` and `Feeds`.
        """
        if not self._graph.version:
            raise RuntimeError(
                "The Session graph is empty. Add operations to the graph before calling run()."
            )
        return Step(Fetches(self._graph, fetches), Feeds(self._graph, feed_keys))

    def remember(self, key: Any, step: Step) -> Step:
        """Keeps a step for the next run; answers it."""
        if len(self.steps) >= _MAX_STEPS:
            self.steps.clear()
        self.steps[key] = step
        return step

    def plan_of(self, step: Step, timeout_s: float | None = None) -> int:
        """The master's plan for a step; see `plan`."""
        if step.plan is None:
            fetches, feeds = step.fetches, step.feeds
            step.plan = self.plan(
                fetches.tensor_names, feeds.tensor_names, fetches.operation_names, timeout_s
            )
        return step.plan

    def plan(
        self,
        fetches: Sequence[str],
        feeds: Sequence[str],
        targets: Sequence[str],
        timeout_s: float | None = None,
    ) -> int:
        """The master's plan for these names; made, and the graph sent, if there is none.

        Raises:
            OpError: what is wrong with the graph, or that the master cannot be reached.
            DeadlineExceededError: it could not be made within `timeout_s` seconds.
        """
        names = (tuple(fetches), tuple(feeds), tuple(targets))
        rest = _Rest(timeout_s)
        with self._locked(rest):
            plan = self._plans.get(names)
            if plan is None:
                try:
                    self._extend(rest)
                    plan = self._master.prepare(*names, rest.seconds())
                except OpError as error:
                    found = located(error, self._graph)
                    raise found from found.__cause__
                self._plans[names] = plan
        return plan

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Sends the master what is new in the graph.

        Raises:
            OpError: as for `plan`.
        """
        rest = _Rest(timeout_s)
        with self._locked(rest):
            self._extend(rest)

    @contextlib.contextmanager
    def _locked(self, rest: _Rest) -> Iterator[None]:
        """Holds `_lock`, if it can be had in time: another thread may be waiting for the master."""
        rest_s = rest.seconds()
        timeout_s = -1.0 if rest_s is None else min(rest_s, threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=timeout_s):
            raise DeadlineExceededError(
                None,
                None,
                f"the step was not prepared within {rest.timeout_s:g} s: another one is, and the "
                "server has not answered; see whether it runs, or raise the time-out",
            )
        try:
            yield
        finally:
            self._lock.release()

    def _extend(self, rest: _Rest) -> None:
        """See `synchronize`; called with `_lock` held."""
        if self._graph.version > self._nodes_sent:
            new = self._graph.as_graph_def(from_version=self._nodes_sent)
            self._master.extend(new, rest.seconds())
            self._nodes_sent += len(new.node)

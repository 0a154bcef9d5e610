"""What a session needs of whatever runs its steps.

A master takes a graph piece by piece, prepares a plan for each combination of fetches, feeds and
targets, and runs plans. There are two: `LocalMaster`, which plans here and talks to tasks, and
`RemoteMaster`, which hands everything to the master inside a server. A session sees no difference.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from paramserve_core.checkpoint.background import RunningSave
from paramserve_core.master.tracing import StepReport
from paramserve_protos.v1 import checkpoint_service_pb2, graph_pb2, service_pb2


class RunningStep(Protocol):
    """A step that was begun by `Master.start`."""

    def result(self) -> list[NDArray[Any]]:
        """Blocks until the step ended; see `Master.run` for what it answers and raises."""

    def cancel(self) -> None:
        """Ends the step on every task; `result` raises a CancelledError unless it was done."""

    @property
    def may_last(self) -> bool:
        """Whether it has loops, which may go on for any time."""

    def try_brief(self) -> bool:
        """Whether `result` may be called by a thread that must not be kept for long.

        If so, it has to be called.
        """

    def took(self, seconds: float) -> None:
        """The step ended after that many seconds, and its results were sent on."""


class Master(Protocol):
    """Plans and runs the steps of one session."""

    def extend(self, nodes: graph_pb2.GraphDef, timeout_s: float | None = None) -> None:
        """Adds nodes to the session's graph; each may refer to earlier ones and to each other.

        Args:
            nodes: the nodes.
            timeout_s: how long to wait for other processes.

        Raises:
            DeadlineExceededError: `timeout_s` passed.
            InvalidArgumentError: a malformed node, or one whose input is unknown.
            NotFoundError: an op that is not in the registry; the message names op and node.
        """

    def prepare(
        self,
        fetches: Sequence[str],
        feeds: Sequence[str],
        targets: Sequence[str],
        timeout_s: float | None = None,
    ) -> int:
        """Plans a step: prune, place, cut into stages. Answers the handle that `run` takes.

        Args:
            fetches: names of tensors ("weights/read:0") whose values the step returns.
            feeds: names of tensors that the caller gives; what only they need is pruned.
            targets: names of ops to run without returning anything.
            timeout_s: how long to wait for other processes.

        Raises:
            DeadlineExceededError: `timeout_s` passed.
            InvalidArgumentError: a placeholder would be needed and is not fed, the graph has a
                cycle, or a device names a task that is not in the cluster.
            NotFoundError: a name that is not in the graph.
        """

    def run(
        self,
        plan: int,
        feeds: Sequence[NDArray[Any]],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> list[NDArray[Any]]:
        """Runs a prepared plan once; blocks until the step ended.

        Args:
            plan: what `prepare` answered.
            feeds: one array per feed, in the order given to `prepare`; they are not kept.
            timeout_s: end the step after that time.
            report: what to find out about the step; filled when it ended well.

        Returns:
            One array per fetch, writable and the caller's own.

        Raises:
            OpError: the error of the first op that failed, with its node and task named.
            DeadlineExceededError: `timeout_s` passed; the step was cancelled on every task.
            UnavailableError: a task could not be reached in time.
            AbortedError: a task restarted, so the variables on it are gone.
        """

    def start(
        self,
        plan: int,
        feeds: Sequence[NDArray[Any]],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> RunningStep:
        """Begins a prepared plan, for a caller that may want to cancel it; see `run`."""

    def devices(self) -> list[service_pb2.Task]:
        """The tasks that this session may use."""

    def variables(self) -> list[service_pb2.VariableInfo]:
        """Every variable on every task of this session."""

    def save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.SaveResponse:
        """Writes a checkpoint; returns when it is durable on every task's disk.

        Args:
            request: what to save, and where.
            timeout_s: how long to wait for other processes.

        Raises:
            DeadlineExceededError: `timeout_s` passed.
            UnavailableError: a task could not be reached.
            OpError: the checkpoint was not written.
        """

    def begin_save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> RunningSave:
        """Begins a checkpoint; returns when the values that go into it are leased.

        Closing the session gives up a save that has not ended. See `save`; `timeout_s` is for what
        this call waits for.
        """

    def restore(
        self, request: checkpoint_service_pb2.RestoreRequest, timeout_s: float | None = None
    ) -> None:
        """Gives variables the values of a checkpoint, all of them or, on any error, none.

        See `save`. Where the master is in another process, a restore that was not waited for may
        still be carried out.
        """

    def read_checkpoint_state(
        self, request: checkpoint_service_pb2.ReadStateRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.ReadStateResponse:
        """What the state file in a directory on the tasks' disks names as newest and kept."""

    def reset(self, containers: Sequence[str]) -> None:
        """Drops every variable of the given containers on every task; none given means all."""

    def close(self) -> None:
        """Ends the session: running steps are cancelled, what it holds on the tasks is freed."""

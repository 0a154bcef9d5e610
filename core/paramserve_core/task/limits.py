"""What a task grants its clients before it says no.

Every limit has an error that names it (`ResourceExhaustedError`), so that a user who meets one
knows what to raise. The defaults suit a server that trusted people use.

Thread rule: immutable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from paramserve_core.machine import memory_bytes


def quarter_of_memory() -> int:
    """A quarter of the memory that the machine has, or that the container may use, in bytes."""
    return memory_bytes() // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """Limits of one task.

    Attributes:
        max_sessions: sessions at a time.
        max_message_bytes: envelope and tensors of one message together.
        max_graph_nodes: nodes in the graph of one session.
        max_plans: plans of one session.
        max_calls: calls of one session that are running or whose answers were not acknowledged.
        max_loops: steps or stages of one session that run at a time and have loops; others wait.
        max_variable_bytes: memory of all variables; None: as much as there is.
        max_inflight_bytes: tensors of calls that arrive, wait or run; what is beyond is not read
            from its connection yet. By default a quarter of the memory. One message of the sessions
            that send their graph, and one of those that send stages, is read whatever its size.
        session_grace_s: how long a session without a connection is kept for its client to return.
    """

    max_sessions: int = 1000
    max_message_bytes: int = 16 << 30
    max_graph_nodes: int = 1_000_000
    max_plans: int = 100_000
    max_calls: int = 4096
    max_loops: int = 32
    max_variable_bytes: int | None = None
    max_inflight_bytes: int = field(default_factory=quarter_of_memory)
    session_grace_s: float = 60.0

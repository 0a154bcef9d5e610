"""What a task grants its clients before it says no.

Every limit has an error that names it (`ResourceExhaustedError`), so that a user who meets one
knows what to raise. The defaults suit a server that trusted people use.

Thread rule: immutable.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """Limits of one task.

    Attributes:
        max_sessions: sessions at a time.
        max_message_bytes: envelope and tensors of one message together.
        max_graph_nodes: nodes in the graph of one session.
        max_plans: plans of one session.
        max_calls: calls of one session that are running or whose answers were not acknowledged.
        max_variable_bytes: memory of all variables; None: as much as there is.
        session_grace_s: how long a session without a connection is kept for its client to return.
    """

    max_sessions: int = 1000
    max_message_bytes: int = 16 << 30
    max_graph_nodes: int = 1_000_000
    max_plans: int = 100_000
    max_calls: int = 4096
    max_variable_bytes: int | None = None
    session_grace_s: float = 60.0

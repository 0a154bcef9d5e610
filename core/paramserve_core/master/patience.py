"""How long a client tries to reach a task.

Thread rule: immutable.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to try, in seconds.

    Attributes:
        connect_s: to reach a task for the first time; it may still be starting.
        reconnect_s: to reach a task again after its connection broke.
        first_delay_s: between the first two tries; doubled after each, up to `max_delay_s`.
        max_delay_s: between two tries at most.
        close_s: for a task to answer that the session is closed.
    """

    connect_s: float = 30.0
    reconnect_s: float = 15.0
    first_delay_s: float = 0.02
    max_delay_s: float = 1.0
    close_s: float = 2.0

"""What savers need of a session: its graph, and the master behind it.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from paramserve._framework.graph import Graph
from paramserve_core.master.interface import Master


class SavesAndRestores(Protocol):
    """A session, as far as a saver knows it."""

    @property
    def graph(self) -> Graph:
        """The graph that it runs."""

    @property
    def _timeout_s(self) -> float | None:
        """How long an operation may take; None: as long as it does."""

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        """Runs a step."""

    def _synchronized_master(self) -> Master:
        """The master, which knows all of the graph when this returns."""


def session_of(session: Any) -> SavesAndRestores:
    """`session` itself, or the one that a session with hooks wraps.

    Raises:
        TypeError: it is no session.
    """
    if not hasattr(session, "_synchronized_master") and hasattr(session, "raw_session"):
        session = session.raw_session()
    if not hasattr(session, "_synchronized_master"):
        raise TypeError(f"'sess' must be a Session; {session!r}")
    return cast(SavesAndRestores, session)


def timeout_of(session: Any) -> float | None:
    """How many seconds an operation of a session may take; None: as long as it does.

    Raises:
        TypeError: it is no session.
    """
    return session_of(session)._timeout_s


def master_of(session: Any) -> Master:
    """The master of a session, which knows all of the session's graph when this returns.

    Raises:
        TypeError: it is no session.
        RuntimeError: it was closed.
    """
    return session_of(session)._synchronized_master()


def step_number_of(session: SavesAndRestores, global_step: Any) -> int:
    """The number of a global step, which may be a tensor or variable of the session's graph."""
    if hasattr(global_step, "_as_graph_element") or hasattr(global_step, "op"):
        return int(session.run(global_step))
    return int(global_step)

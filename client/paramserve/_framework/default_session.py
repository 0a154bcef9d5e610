"""Which session `Tensor.eval()` and `Operation.run()` use when none is given.

The session class stands above this package, so here it is known by the one method that is called.

Thread rule: each thread has its own stack of default sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from paramserve._framework.default_stack import DefaultStack

if TYPE_CHECKING:
    from paramserve._framework.graph import Graph


class RunsFetches(Protocol):
    """What the framework needs of a session."""

    @property
    def graph(self) -> Graph:
        """The graph that the session runs."""

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        """Runs `fetches` and returns their values."""


default_sessions: DefaultStack[RunsFetches] = DefaultStack(enforce_nesting=False)


def evaluate(
    fetch: Any, graph: Graph, feed_dict: Any, session: RunsFetches | None, how: str
) -> Any:
    """Runs `fetch` in `session`, or in the default session of this thread.

    Args:
        fetch: What to run.
        graph: The graph that `fetch` belongs to.
        feed_dict: As in `Session.run`.
        session: The session, or None for the default one.
        how: What the user's program does, for messages.

    Raises:
        ValueError: There is no session, or it runs another graph.
    """
    if session is None:
        session = default_sessions.get()
        if session is None:
            raise ValueError(
                f"Cannot {how}: No default session is registered. Use `with sess.as_default()` "
                "or pass an explicit session, `session=sess`"
            )
        if session.graph is not graph:
            raise ValueError(
                f"Cannot use the default session to {how}: the tensor's or operation's graph is "
                "different from the session's graph. Pass an explicit session, `session=sess`"
            )
    elif session.graph is not graph:
        raise ValueError(
            f"Cannot use the given session to {how}: the tensor's or operation's graph is "
            "different from the session's graph"
        )
    return session.run(fetch, feed_dict)

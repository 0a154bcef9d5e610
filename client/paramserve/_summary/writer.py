"""The writer of a program's summaries: adds events to a file in a directory for TensorBoard.

Thread rule: every method may be called from any thread; `_lock` guards the file.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import DecodeError

from paramserve._framework.graph import Graph
from paramserve._framework.meta_graph import create_meta_graph_def
from paramserve._summary.event_file import EventFile
from paramserve_protos.v1.config_pb2 import RunMetadata
from paramserve_protos.v1.event_pb2 import Event, SessionLog
from paramserve_protos.v1.graph_pb2 import GraphDef
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_protos.v1.summary_pb2 import Summary

_DEFAULT_MAX_QUEUE: Final = 10
_DEFAULT_FLUSH_S: Final = 120


class FileWriter:
    """Writes summaries, graphs and other events to an event file.

    Events are written when `max_queue` of them wait, when one is added `flush_secs` after the last
    writing, by `flush`, by `close`, and when the program ends.

    Args:
        logdir: the directory; made if it does not exist. TensorBoard is given this or one above.
        graph: added at once, for TensorBoard's graph page, and once more with its collections.
        max_queue: how many events may wait.
        flush_secs: how long they may wait, in seconds.
        graph_def: a graph as a message instead, as older programs have it.
        filename_suffix: the end of the file's name.

    Raises:
        OSError: the file cannot be made.
        TypeError: `graph` is no Graph.
    """

    def __init__(
        self,
        logdir: str,
        graph: Graph | GraphDef | None = None,
        max_queue: int = _DEFAULT_MAX_QUEUE,
        flush_secs: float = _DEFAULT_FLUSH_S,
        graph_def: GraphDef | None = None,
        filename_suffix: str | None = None,
    ) -> None:
        self._logdir = str(logdir)
        self._max_queue = max_queue
        self._flush_s = flush_secs
        self._suffix = filename_suffix or ""
        self._lock = threading.RLock()
        self._run_tags: set[str] = set()
        self._described: set[str] = set()
        self._open()
        if graph is not None or graph_def is not None:
            self.add_graph(graph=graph, graph_def=graph_def)
            self.add_meta_graph(_meta_graph_of(graph if graph_def is None else graph_def))

    def _open(self) -> None:
        self._file: EventFile | None = EventFile(self._logdir, self._suffix)
        self._flushed_at = time.monotonic()
        self._finalizer = weakref.finalize(self, _close_quietly, self._file)

    def get_logdir(self) -> str:
        """The directory of the event file."""
        return self._logdir

    def add_summary(self, summary: Summary | bytes, global_step: Any = None) -> None:
        """Adds values.

        Args:
            summary: what a session answered for a summary op, or a message.
            global_step: the number of the training step, for the horizontal axis.

        Raises:
            ValueError: `summary` is no encoded `Summary`.
            RuntimeError: the writer is closed.
        """
        message = Summary()
        if isinstance(summary, Summary):
            message.CopyFrom(summary)
        else:
            try:
                message.ParseFromString(summary)
            except DecodeError:
                raise ValueError(f"{summary[:100]!r} is no encoded Summary") from None
        for value in message.value:
            # How a series is shown is said once; TensorBoard keeps the first.
            if value.HasField("metadata"):
                if value.tag in self._described:
                    value.ClearField("metadata")
                self._described.add(value.tag)
        self._add(Event(summary=message), global_step)

    def add_event(self, event: Event) -> None:
        """Adds an event as it is.

        Raises:
            RuntimeError: the writer is closed.
        """
        with self._lock:
            if self._file is None:
                raise RuntimeError("the FileWriter is closed; reopen() it to go on")
            self._file.add(event)
            is_late = time.monotonic() - self._flushed_at >= self._flush_s
            if is_late or self._file.pending >= self._max_queue:
                self.flush()

    def add_graph(
        self,
        graph: Graph | GraphDef | None = None,
        global_step: Any = None,
        graph_def: GraphDef | None = None,
    ) -> None:
        """Adds a graph, for TensorBoard's graph page.

        Args:
            graph: the graph.
            global_step: the number of the training step.
            graph_def: a graph as a message instead.

        Raises:
            TypeError: `graph` is neither a Graph nor a GraphDef.
            ValueError: both or none of the two were given.
        """
        if (graph is None) == (graph_def is None):
            raise ValueError("give add_graph either a graph or a graph_def")
        source = graph_def if graph is None else graph
        if isinstance(source, Graph):
            source = source.as_graph_def(add_shapes=True)
        if not isinstance(source, GraphDef):
            raise TypeError(f"graph must be a Graph or a GraphDef, got {type(source).__name__!r}")
        self._add(Event(graph_def=source.SerializeToString()), global_step)

    def add_meta_graph(self, meta_graph_def: MetaGraphDef, global_step: Any = None) -> None:
        """Adds a graph with its collections.

        Raises:
            TypeError: `meta_graph_def` is no MetaGraphDef.
        """
        if not isinstance(meta_graph_def, MetaGraphDef):
            raise TypeError(
                f"meta_graph_def must be a MetaGraphDef, got {type(meta_graph_def).__name__!r}"
            )
        self._add(Event(meta_graph_def=meta_graph_def.SerializeToString()), global_step)

    def add_session_log(self, session_log: SessionLog, global_step: Any = None) -> None:
        """Adds that a session started, stopped or wrote a checkpoint."""
        self._add(Event(session_log=session_log), global_step)

    def add_run_metadata(
        self, run_metadata: RunMetadata, tag: str, global_step: Any = None
    ) -> None:
        """Adds what a step reported about itself.

        Args:
            run_metadata: filled by `Session.run`.
            tag: its name, unique in this writer.
            global_step: the number of the training step.

        Raises:
            ValueError: the tag was used before.
        """
        if tag in self._run_tags:
            raise ValueError(f"The provided tag was already used for this event type: {tag!r}")
        self._run_tags.add(tag)
        event = Event()
        event.tagged_run_metadata.tag = tag
        event.tagged_run_metadata.run_metadata = run_metadata.SerializeToString()
        self._add(event, global_step)

    def _add(self, event: Event, global_step: Any) -> None:
        event.wall_time = time.time()
        if global_step is not None:
            event.step = int(global_step)
        self.add_event(event)

    def flush(self) -> None:
        """Writes the events that wait.

        Raises:
            OSError: the disk is full or gone.
        """
        with self._lock:
            self._flushed_at = time.monotonic()
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        """Writes the events that wait, and closes the file. Idempotent.

        Raises:
            OSError: the disk is full or gone.
        """
        with self._lock:
            file, self._file = self._file, None
            self._finalizer.detach()
            if file is not None:
                file.close()

    def reopen(self) -> None:
        """Goes on in a new file of the same directory; does nothing if the writer is open."""
        with self._lock:
            if self._file is None:
                self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


SummaryWriter = FileWriter
"""The older name of `FileWriter`."""


def _meta_graph_of(graph: Graph | GraphDef | None) -> MetaGraphDef:
    """The graph with its collections, of which one that is a message has none."""
    if isinstance(graph, Graph):
        return create_meta_graph_def(graph)
    return create_meta_graph_def(Graph(), graph_def=graph)


def _close_quietly(file: EventFile) -> None:
    """At the end of the program there is nobody to tell."""
    with contextlib.suppress(OSError):
        file.close()

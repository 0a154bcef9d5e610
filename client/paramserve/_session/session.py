"""The session: runs parts of a graph on a master, in this process or in a server.

A run is a look-up of what was worked out before (see `preparation`), the check of each fed value,
the master's own work, and the packing of the results. The look-up takes a microsecond or two, so
that the Python here is not what a small step waits for.

Thread rule: every method may be called from any thread. `_lock` guards the end of the session and
the numbers of partial runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

from paramserve._framework.default_session import default_sessions
from paramserve._framework.graph import Graph, get_default_graph
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._session.buffers import new_buffer, new_buffer_like
from paramserve._session.failures import located
from paramserve._session.fetches import Array, structure_key
from paramserve._session.options import (
    checked_config,
    checked_run_options,
    checked_wire,
    seconds,
)
from paramserve._session.partial import PartialRun
from paramserve._session.preparation import Preparation, Step
from paramserve._session.trace import wanted_report, write_report
from paramserve._variables.variable import Variable
from paramserve_core.cluster import ClusterSpec
from paramserve_core.dtypes import float32
from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.master.connect import connect_master
from paramserve_core.master.interface import Master
from paramserve_core.master.tracing import StepReport
from paramserve_protos.v1.config_pb2 import ConfigProto, RunMetadata, RunOptions
from paramserve_protos.v1.graph_pb2 import GraphDef

_log = logging.getLogger(__name__)


class Session:
    """Runs operations and computes tensors of a graph.

    `Session()` runs them in this process; its variables end with it. `Session("grpc://host:port")`
    runs them on a server, whose variables outlive the session and are shared, by name, by every
    session. `Session(ClusterSpec(...))` makes this process a worker, which runs what no device
    pins and talks to each parameter server itself.

    A session holds connections and, in process, variables: close it, or use it in a `with` block,
    which also makes it and its graph the defaults of the thread.

    Args:
        target: "" for this process, "grpc://host:port" or `Server.target` for a server, or a
            `ClusterSpec`.
        graph: the graph to run; the default graph of the thread by default.
        config: options; those that mean nothing here are refused.
        wire_dtype: `bfloat16` or `float16`: what float32 tensors of steps travel as between
            processes, which halves their bytes. What is fed, fetched, and sent from task to task
            arrives as float32 again, rounded to the nearest value of that type, ties to even;
            infinities and NaNs stay what they are. bfloat16 keeps 8 bits of each number, and all
            of float32's range. float16 keeps 11, but makes numbers of 65520 and more infinite,
            and those below 6e-5 imprecise or zero. Variables stay float32, and so does every
            other type. It is for networks: gRPC narrows, while shared memory with servers on this
            host, and a session in this process, have nothing to save and leave all as it is.
        compression: "gzip": what gRPC carries is compressed, in both directions. It costs far more
            time than a fast network; for slow ones, or tensors that are mostly zeros.

    Raises:
        TypeError: an argument of another type.
        ValueError: an option that means nothing here, or a type or compression that there is not.
        InvalidArgumentError: a malformed target.
        UnavailableError: the server cannot be reached.
    """

    def __init__(
        self,
        target: str | bytes | ClusterSpec = "",
        graph: Graph | None = None,
        config: ConfigProto | None = None,
        *,
        wire_dtype: DTypeLike | None = None,
        compression: str | None = None,
    ) -> None:
        wire = checked_wire(wire_dtype, compression)
        if graph is None:
            graph = get_default_graph()
        elif not isinstance(graph, Graph):
            raise TypeError(f"graph must be a Graph, but got {type(graph).__name__!r}")
        if isinstance(target, bytes):
            target = target.decode()
        if not isinstance(target, str | ClusterSpec):
            raise TypeError(
                f"target must be a string or a ClusterSpec, but got {type(target).__name__!r}"
            )
        self._graph = graph
        self._target = target
        config = checked_config(config, is_shared=bool(target))
        self._timeout_s = seconds(config.operation_timeout_in_ms)
        self._lock = threading.Lock()
        self._partial_runs: dict[str, PartialRun] = {}
        self._defaults: ExitStack | None = None
        self._is_closed = False
        self._master: Master = connect_master(target, config, wire)
        self._prepared = Preparation(graph, self._master)
        self._steps = self._prepared.steps

    @property
    def graph(self) -> Graph:
        """The graph that the session runs."""
        return self._graph

    @property
    def graph_def(self) -> GraphDef:
        """The graph as a message, as it is now."""
        return self._graph.as_graph_def()

    @property
    def sess_str(self) -> str:
        """The target as text: "" for a session in this process."""
        return str(self._target)

    # Running.

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: RunOptions | None = None,
        run_metadata: RunMetadata | None = None,
    ) -> Any:
        """Runs one step: what the fetches need, each op at most once.

        Args:
            fetches: a Tensor, a Variable, an Operation, an IndexedSlices, the name of a tensor or
                operation, or any nesting of lists, tuples, named tuples and dicts of those.
            feed_dict: values to use for tensors, by tensor, variable or name. What only a fed
                tensor would need does not run. A value is a number, a string, a list or an array;
                for an IndexedSlices, a tuple; for a tuple of keys, a tuple of values.
            options: a deadline, tracing. The step may take as long as `timeout_in_ms`, and before
                it what is new in the graph as long to be prepared. Every `trace_level` but NO_TRACE
                asks for the same.
            run_metadata: is overwritten with what the step reports about itself, when `options`
                asked for it: `step_stats` says when each op ran, where, and what it put out (see
                `Timeline`), `stage_stats` what each request moved and waited for, and
                `partition_graphs` has the graph of each task.

        Returns:
            The structure of `fetches`, with an array for each tensor, NumPy's scalar for a tensor
            without dimensions, `bytes` for a string, IndexedSlicesValue for an IndexedSlices, and
            None for an operation. The arrays are writable and the caller's own.

        Raises:
            TypeError: a fetch or key of a type that stands for no element of the graph, or a value
                that cannot have the tensor's type.
            ValueError: a fetch that is not in the graph, or a value that cannot have the tensor's
                shape.
            RuntimeError: the session is closed, or the graph is empty.
            OpError: an op failed; the error has the op and the line that made it.
            DeadlineExceededError: the deadline passed; the step was cancelled everywhere.
        """
        if self._is_closed:
            raise RuntimeError("Attempted to use a closed Session.")
        key = structure_key(fetches)
        if feed_dict:
            if feed_dict.__class__ is not dict and not isinstance(feed_dict, Mapping):
                raise TypeError(f"feed_dict must be a dictionary, found {type(feed_dict).__name__}")
            key = (key, *[structure_key(fed) for fed in feed_dict])
        step = self._steps.get(key)
        if step is None:
            step = self._prepared.remember(key, self._prepared.new_step(fetches, feed_dict or ()))
        # Before anything is sent.
        values = step.convert(feed_dict.values()) if feed_dict else []
        if options is None and run_metadata is None:
            plan = step.plan
            if plan is None:
                plan = self._prepared.plan_of(step, self._timeout_s)
            return step.pack(self._run(plan, values, self._timeout_s))
        return self._run_with_options(step, values, options, run_metadata)

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function that runs one step; for loops in which every microsecond counts.

        Args:
            fetches: as for `run`.
            feed_list: what the function is given values for, in this order.
            accept_options: whether the function takes `options` and `run_metadata` as `run` does.

        Returns:
            A function of one value for each element of `feed_list`, which answers what `run`
            would.

        Raises:
            TypeError, ValueError, RuntimeError: as for `run`.
        """
        if feed_list is not None and not isinstance(feed_list, list | tuple):
            raise TypeError(f"feed_list must be a list or tuple, but got {feed_list!r}")
        self._check_open()
        step = self._prepared.new_step(fetches, feed_list or ())
        plan = self._prepared.plan_of(step, self._timeout_s)
        run, pack, convert = self._run, step.pack, step.convert
        count, timeout_s = len(step.feeds), self._timeout_s

        def check(values: tuple[Any, ...]) -> None:
            self._check_open()
            if len(values) != count:
                raise TypeError(f"the callable takes {count} values to feed, got {len(values)}")

        def call(*values: Any) -> Any:
            check(values)
            return pack(run(plan, convert(values), timeout_s))

        def call_with_options(
            *values: Any,
            options: RunOptions | None = None,
            run_metadata: RunMetadata | None = None,
        ) -> Any:
            check(values)
            return self._run_with_options(step, convert(values), options, run_metadata)

        return call_with_options if accept_options else call

    def _run(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None,
        report: StepReport | None = None,
    ) -> list[Array]:
        try:
            return self._master.run(plan, feeds, timeout_s, report)
        except OpError as error:
            found = located(error, self._graph)
            raise found from found.__cause__

    def _run_with_options(
        self,
        step: Step,
        feeds: Sequence[Array],
        options: RunOptions | None,
        run_metadata: RunMetadata | None,
    ) -> Any:
        options = RunOptions() if options is None else checked_run_options(options)
        if run_metadata is not None and not isinstance(run_metadata, RunMetadata):
            raise TypeError(
                "run_metadata must be a paramserve.RunMetadata, but got "
                f"{type(run_metadata).__name__!r}"
            )
        timeout_s = seconds(options.timeout_in_ms) or self._timeout_s
        plan = self._prepared.plan_of(step, timeout_s)
        report = None if run_metadata is None else wanted_report(options)
        began_ns = time.time_ns()
        values = self._run(plan, feeds, timeout_s, report)
        if run_metadata is not None:
            run_metadata.Clear()
            if report is not None:
                write_report(run_metadata, report, began_ns, self._graph.graph_def_versions)
        return step.pack(values)

    def _synchronized_master(self) -> Master:
        """The master, which knows all of the graph when this returns; for savers.

        Raises:
            RuntimeError: the session is closed.
        """
        self._check_open()
        self._prepared.synchronize(self._timeout_s)
        return self._master

    # Memory to feed from.

    def buffer(self, shape: ShapeLike, dtype: DTypeLike = float32) -> Array:
        """An array to compute what is fed in, which servers on this host read without a copy.

        It is an array like any other, of zeros at first, and may be fed in any number of steps, as
        a whole or as contiguous parts (`buffer[i]`), by any session of the process:

            gradient = session.buffer_like(weights)
            while True:
                np.subtract(prediction, target, out=gradient)
                session.run(train, {fed: gradient})

        While a step runs that it is fed to, the servers read it where it lies, so nothing may be
        written to it; once `run` has returned, it is the caller's again. (A `run` that raises
        DeadlineExceededError, or is interrupted, does not wait for the servers: the update that it
        began may still take in what is written next. Variables are never harmed otherwise: a server
        copies what it keeps, and indices before it checks them.)

        Where no memory can be shared, such as with servers on other hosts, the array is fed as any
        other is. The memory is freed when nobody uses the array any more.

        Args:
            shape: its shape, without unknown sizes.
            dtype: the type of its elements.

        Raises:
            TypeError: the type is `string`.
            ValueError: a size is unknown.
            ResourceExhaustedError: there is not so much memory.
        """
        return new_buffer(shape, dtype, is_shared=bool(self._target))

    def buffer_like(self, value: Tensor | Variable | Array) -> Array:
        """A `buffer` with the shape and type of a placeholder, a variable or an array.

        Raises:
            TypeError: `value` is something else, or of strings.
            ValueError: its shape is not known.
        """
        return new_buffer_like(value, is_shared=bool(self._target))

    # Partial runs.

    def partial_run_setup(self, fetches: Any, feeds: Sequence[Any] | None = None) -> str:
        """Begins a step whose values are fed, and whose results are fetched, bit by bit.

        Args:
            fetches: everything that will be fetched, as for `run`.
            feeds: the tensors that will be fed.

        Returns:
            A handle for `partial_run`.

        Raises:
            TypeError, ValueError, RuntimeError: as for `run`.
        """
        self._check_open()
        whole = self._prepared.new_step(fetches, feeds or ())
        run = PartialRun(whole.fetches, whole.feeds)
        with self._lock:
            handle = f"partial_run_{len(self._partial_runs)}"
            self._partial_runs[handle] = run
        return handle

    def partial_run(
        self, handle: str, fetches: Any, feed_dict: Mapping[Any, Any] | None = None
    ) -> Any:
        """Goes on with a step that `partial_run_setup` began.

        What earlier calls computed is used and not computed again. Unlike in TensorFlow, only what
        these fetches need runs.

        Args:
            handle: what `partial_run_setup` answered.
            fetches: some of the fetches named there.
            feed_dict: values for some of the tensors named there.

        Returns:
            As for `run`.

        Raises:
            InvalidArgumentError: there is no such handle, or a fetch or feed was not named in
                `partial_run_setup`, or was fetched or fed before.
            UnimplementedError: an op that changes something would have to run once more, because
                its output is a reference to a variable, which cannot be kept between calls.
            TypeError, ValueError, RuntimeError: as for `run`.
        """
        self._check_open()
        run = self._partial_runs.get(handle)
        if run is None:
            raise InvalidArgumentError(
                None, None, f"no partial run {handle!r}: call partial_run_setup() first"
            )
        feed_dict = feed_dict or {}
        step = self._prepared.new_step(fetches, feed_dict)
        with run.lock:
            part = run.next(step.fetches, step.feeds, step.convert(feed_dict.values()))
            plan = self._prepared.plan(part.fetches, part.feeds, part.targets, self._timeout_s)
            return step.pack(part.finished(self._run(plan, part.values, self._timeout_s)))

    # Defaults and the end.

    def as_default(self) -> AbstractContextManager[Session]:
        """Makes this the session that `eval()` and `run()` of the block use; it stays open."""
        context: AbstractContextManager[Any] = default_sessions.entered(self)
        return context

    def __enter__(self) -> Self:
        if self._defaults is not None:
            raise RuntimeError(
                "Session context managers are not re-entrant. Use `Session.as_default()` if you "
                "want to enter a session multiple times."
            )
        self._check_open()
        with ExitStack() as defaults:
            defaults.enter_context(self._graph.as_default())
            defaults.enter_context(self.as_default())
            self._defaults = defaults.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        defaults, self._defaults = self._defaults, None
        if defaults is not None:
            defaults.close()
        try:
            self.close()
        except OpError:
            if error is None:
                raise
            # The block's own error is what the user needs to see.
            _log.warning("closing the session failed", exc_info=True)

    def close(self) -> None:
        """Ends the session: running steps are cancelled, connections closed. Idempotent.

        Variables of a session in this process end with it; those on servers stay.

        Raises:
            OpError: the servers could not be told.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._master.close()
        self._steps.clear()
        self._partial_runs.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("Attempted to use a closed Session.")

    @staticmethod
    def reset(
        target: str | bytes | ClusterSpec,
        containers: Sequence[str] | None = None,
        config: ConfigProto | None = None,
    ) -> None:
        """Drops variables on servers, for every session that uses them.

        Args:
            target: as for `Session`.
            containers: the containers to empty; all of them by default.
            config: as for `Session`.

        Raises:
            UnavailableError: the server cannot be reached.
        """
        session = Session(target, Graph(), config)
        try:
            session._master.reset(list(containers or ()))
        finally:
            session.close()


class InteractiveSession(Session):
    """A session that is the default one from the moment it is made, for shells and notebooks.

    Args:
        target: as for `Session`.
        graph: as for `Session`; if given, it also becomes the default graph.
        config: as for `Session`.
        wire_dtype: as for `Session`.
        compression: as for `Session`.
    """

    def __init__(
        self,
        target: str | bytes | ClusterSpec = "",
        graph: Graph | None = None,
        config: ConfigProto | None = None,
        *,
        wire_dtype: DTypeLike | None = None,
        compression: str | None = None,
    ) -> None:
        super().__init__(target, graph, config, wire_dtype=wire_dtype, compression=compression)
        self._installed = ExitStack()
        if graph is not None:
            self._installed.enter_context(graph.as_default())
        self._installed.enter_context(self.as_default())

    def close(self) -> None:
        """Ends the session, see `Session.close`; it is the default no longer."""
        self._installed.close()
        super().close()


def get_default_session() -> Session | None:
    """The session that `eval()` and `run()` use in this thread, or None."""
    session = default_sessions.get()
    return session if isinstance(session, Session) else None

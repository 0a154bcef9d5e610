"""What servers do now, looked at again and again: `paramserve top`.

Each look asks every server, all at once, what it has counted, and shows the difference to the look
before. A terminal has a board that is drawn anew each time; a file or a pipe gets a board after
each interval, or with `--json` a line.

Thread rule: `top` runs on the main thread, until it is done or interrupted; servers are asked on
threads of a pool.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Protocol

from rich.console import Console
from rich.live import Live

from paramserve_protos.v1 import service_pb2
from paramserve_server.cli.board import View, board
from paramserve_server.cli.figures import figures
from paramserve_server.cli.inspection import variable_row
from paramserve_server.cli.targets import NotReachedError, Target

Show = Callable[[Sequence[View]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOptions:
    """What `paramserve top` was told.

    Attributes:
        interval_s: seconds from one look to the next.
        count: intervals to show; None: until interrupted.
        timeout_s: how long a server may take to answer.
        largest: how many variables to show.
        as_json: print a line of JSON for each interval.
    """

    interval_s: float = 1.0
    count: int | None = None
    timeout_s: float = 5.0
    largest: int = 10
    as_json: bool = False


class Server(Protocol):
    """A server that can be asked; see `Target`."""

    @property
    def address(self) -> str:
        """Where it is asked."""

    def describe(self, timeout_s: float) -> service_pb2.DescribeResponse:
        """Who it is and how it does."""

    def variables(self, timeout_s: float, largest: int = 0) -> list[service_pb2.VariableInfo]:
        """Its largest variables."""


class Observer:
    """Looks at one server, and remembers the last look."""

    def __init__(self, server: Server, options: TopOptions) -> None:
        self._server = server
        self._options = options
        self._before: service_pb2.DescribeResponse | None = None

    def look(self) -> View:
        """What the server did since the last look that it answered; since its start at first.

        Raises:
            OpError: it failed.
        """
        timeout_s, largest = self._options.timeout_s, self._options.largest
        address = self._server.address
        try:
            now = self._server.describe(timeout_s)
            listed = self._server.variables(timeout_s, largest) if largest else []
        except NotReachedError as error:
            return View(address=address, trouble=str(error))
        before, self._before = self._before, now
        return View(
            address=address,
            figures=figures(before, now),
            largest=[variable_row(variable) for variable in listed],
        )


def top(
    targets: Sequence[str],
    options: TopOptions,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Shows what servers do, until it has been shown `count` times, or until Ctrl-C.

    Raises:
        ValueError: a target is malformed.
        NotReachedError: a server could not be asked: at first, or later where `count` or `as_json`
            says that a program counts on it.
        OpError: a server failed.
    """
    watch([Target(target) for target in targets], options, console or Console(), sleep)


def watch(
    servers: Sequence[Server],
    options: TopOptions,
    console: Console,
    sleep: Callable[[float], None],
) -> None:
    """As `top`, of servers that are given."""
    observers = [Observer(server, options) for server in servers]
    pool = ThreadPoolExecutor(len(observers), "paramserve-top")
    ends_with_server = options.as_json or options.count is not None

    def look(*, must_answer: bool) -> list[View]:
        views = list(pool.map(Observer.look, observers))
        trouble = "\n".join(view.trouble for view in views if view.trouble)
        if trouble and must_answer:
            raise NotReachedError(trouble)
        return views

    try:
        first = look(must_answer=True)
        with _output(first, console, as_json=options.as_json) as show:
            for _ in repeat(None) if options.count is None else repeat(None, options.count):
                sleep(options.interval_s)
                show(look(must_answer=ends_with_server))
    except KeyboardInterrupt:
        return
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _output(first: Sequence[View], console: Console, *, as_json: bool) -> Iterator[Show]:
    """How looks are shown; only a terminal shows the first, which is of all the time before."""
    if as_json:
        yield lambda views: print(_line(views), file=console.file, flush=True)
    elif console.is_terminal:
        with Live(board(first), console=console, auto_refresh=False) as live:
            yield lambda views: live.update(board(views), refresh=True)
    else:
        yield lambda views: console.print(board(views), "", soft_wrap=True)


def _line(views: Sequence[View]) -> str:
    servers = [
        {
            "target": view.address,
            **asdict(view.figures),
            "largest_variables": view.largest,
        }
        for view in views
        if view.figures is not None
    ]
    return json.dumps({"servers": servers})

"""What is measured: the rows of the table and the points of the curves.

Both are the same kind of thing. A workload is a *group* of equal variables on some servers, and an
*act* that one or more workers do to it over and over. A row is one workload; a curve is a workload
that grows in one respect. So a peer offers a handful of acts, and everything else is a table.

Thread rule: data and pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

SGD_RATE: Final = 0.5
"""A power of two: what a number of pushes of ones comes to is exact in float32."""

ADAM_RATE: Final = 0.25
"""A gradient of ones moves a variable by that much in each step, whatever the step."""

ROWS_PER_STEP: Final = 4096

ROW_SETS: Final = 16
"""Sets of rows that take turns: an embedding table's rows are not in the cache when asked for."""


class Update(StrEnum):
    """How the servers apply what is pushed to a group."""

    COUNT = "count"
    SGD = "sgd"
    ADAM = "adam"
    ROWS = "rows"


class Act(StrEnum):
    """What a worker does once.

    ADD adds one to a shared integer and gets the new value. PULL fetches the group into memory of
    the worker; READ does, and then reads all of it. PUSH sends a gradient for each variable and
    waits until it is applied. STEP is a PULL and a PUSH. GATHER fetches rows, SCATTER subtracts
    from rows.
    """

    ADD = "add"
    PULL = "pull"
    READ = "read"
    PUSH = "push"
    STEP = "step"
    GATHER = "gather"
    SCATTER = "scatter"

    @property
    def is_update(self) -> bool:
        """Whether it changes the group."""
        return self in (Act.ADD, Act.PUSH, Act.STEP, Act.SCATTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Variables that are made, used and dropped together. All begin as zeros.

    Attributes:
        name: unique in a run.
        shape: of each variable; float32, or one int64 for `Update.COUNT`.
        count: how many variables.
        update: how they are updated.
        servers: how many servers they are spread over, in turns.
    """

    name: str
    shape: tuple[int, ...] = ()
    count: int = 1
    update: Update = Update.SGD
    servers: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of all variables."""
        return self.count * math.prod(self.shape) * 4

    @property
    def variable_names(self) -> list[str]:
        """One for each variable."""
        return [f"{self.name}_{i}" for i in range(self.count)]

    def of_server(self, server: int) -> list[int]:
        """The numbers of the variables that a server has."""
        return list(range(server, self.count, self.servers))

    def row_sets(self) -> NDArray[np.int64]:
        """Which rows each step asks for, `[ROW_SETS, rows]`; no row occurs twice."""
        rows = min(ROWS_PER_STEP, self.shape[0] // ROW_SETS)
        order = np.random.default_rng(1).permutation(self.shape[0])
        return order[: ROW_SETS * rows].reshape(ROW_SETS, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table, or one point of a curve.

    Attributes:
        name: for the command line and the JSON file.
        title: for people.
        group: the variables.
        act: what each worker does.
        workers: how many do it at once.
        curve: the curve that this is a point of.
        x: where on it.
    """

    name: str
    title: str
    group: Group
    act: Act
    workers: int = 1
    curve: str = ""
    x: int = 0


def rows(
    *, large: int = 25_000_000, table: int = 1_000_000, many: int = 1000, workers: int = 4
) -> list[Workload]:
    """The rows of the table.

    Args:
        large: elements of the large variable.
        table: rows of the embedding table.
        many: how many small variables.
        workers: of the row with several.
    """
    megabytes = f"{large * 4 / 1e6:g} MB"
    taken = f"{min(ROWS_PER_STEP, table // ROW_SETS)} of {table:,} rows of 64"
    dense = Group(name="dense", shape=(large,))
    embedding = Group(name="table", shape=(table, 64), update=Update.ROWS)
    small = Group(name="small", shape=(256,), count=many)
    shared = Group(name="shared", shape=(large // 10,))
    return [
        Workload(
            name="scalar",
            title="scalar update, round trip",
            group=Group(name="counter", update=Update.COUNT),
            act=Act.ADD,
        ),
        Workload(name="pull", title=f"pull {megabytes}", group=dense, act=Act.PULL),
        Workload(name="read", title=f"pull {megabytes} and read it", group=dense, act=Act.READ),
        Workload(name="push-sgd", title=f"push {megabytes}, SGD", group=dense, act=Act.PUSH),
        Workload(
            name="push-adam",
            title=f"push {megabytes}, Adam",
            group=Group(name="adam", shape=(large,), update=Update.ADAM),
            act=Act.PUSH,
        ),
        Workload(name="gather", title=f"gather {taken}", group=embedding, act=Act.GATHER),
        Workload(name="scatter", title=f"scatter_sub {taken}", group=embedding, act=Act.SCATTER),
        Workload(name="many-pull", title=f"pull {many} variables", group=small, act=Act.PULL),
        Workload(name="many-push", title=f"push {many} variables", group=small, act=Act.PUSH),
        Workload(
            name="workers",
            title=f"{workers} workers, pull + push {large * 0.4 / 1e6:g} MB each",
            group=shared,
            act=Act.STEP,
            workers=workers,
        ),
    ]


def curves(
    *,
    nbytes: Sequence[int],
    variables: Sequence[int],
    workers: Sequence[int],
    servers: Sequence[int],
    shared_elements: int = 2_500_000,
) -> list[Workload]:
    """The points of the growth curves; every point is a pull and a push.

    Args:
        nbytes: bytes of one variable.
        variables: how many variables of 256 elements.
        workers: how many workers share one variable of `shared_elements`.
        servers: how many servers share 16 variables of that size together.
        shared_elements: see there.
    """

    def point(curve: str, x: int, group: Group, workers: int = 1) -> Workload:
        name = f"{curve}-{x}"
        return Workload(
            name=name,
            title=f"{curve}: {x:,}",
            group=group,
            act=Act.STEP,
            workers=workers,
            curve=curve,
            x=x,
        )

    part = shared_elements // 16
    return [
        *(point("bytes", n, Group(name=f"bytes{n}", shape=(n // 4,))) for n in nbytes),
        *(point("variables", n, Group(name=f"vars{n}", shape=(256,), count=n)) for n in variables),
        *(
            point("workers", n, Group(name=f"workers{n}", shape=(shared_elements,)), workers=n)
            for n in workers
        ),
        *(
            point("servers", n, Group(name=f"servers{n}", shape=(part,), count=16, servers=n))
            for n in servers
        ),
    ]

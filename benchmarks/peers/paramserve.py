"""paramserve: a session that talks to each server itself, with prepared steps.

PARAMSERVE_TRANSPORT chooses shared memory or gRPC. Gradients lie in the session's own buffers.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from benchmarks.worker import Array, Place
from benchmarks.workloads import ADAM_RATE, SGD_RATE, Group, Update

import paramserve as ps


def serve(place: Place, answers: TextIO) -> None:
    os.dup2(answers.fileno(), 1)
    command = str(Path(sys.executable).parent / "paramserve")
    options = ["--listen=127.0.0.1:0", "--job=ps", f"--task={place.index}", "--log-level=error"]
    os.execv(command, [command, "serve", *options])


class GroupOfVariables:
    """One graph and one session; the group's servers hold its variables by name."""

    def __init__(self, cluster: ps.train.ClusterSpec, group: Group, create: bool) -> None:
        self._targets = [f"grpc://{address}" for address in cluster.job_tasks("ps")]
        self._group = group
        dtype = ps.int64 if group.update is Update.COUNT else ps.float32
        with ps.Graph().as_default() as graph:
            variables = []
            for i, name in enumerate(group.variable_names):
                with ps.device(f"/job:ps/task:{i % group.servers}"):
                    variables.append(ps.Variable(ps.zeros(group.shape, dtype), name=name))
            self._session = ps.Session(cluster, graph)
            if group.update is Update.COUNT:
                self._add = self._session.make_callable(variables[0].assign_add(1))
            elif group.update is Update.ROWS:
                self._make_row_steps(variables[0])
            else:
                self._make_dense_steps(variables)
            if create:
                self._session.run(ps.initialize_all_variables())

    def _make_row_steps(self, table: Any) -> None:
        rows = ps.placeholder(ps.int64, [None])
        updates = ps.placeholder(ps.float32, [None, *self._group.shape[1:]])
        with ps.colocate_with(table):
            found = ps.gather(table, rows)
        subtract = ps.scatter_sub(table, rows, updates).op
        self._gather = self._session.make_callable(found, [rows])
        self._scatter_sub = self._session.make_callable(subtract, [rows, updates])

    def _make_dense_steps(self, variables: list[Any]) -> None:
        gradients = [ps.placeholder(ps.float32, self._group.shape) for _ in variables]
        if self._group.update is Update.ADAM:
            optimizer = ps.train.AdamOptimizer(ADAM_RATE)
        else:
            optimizer = ps.train.GradientDescentOptimizer(SGD_RATE)
        update = optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
        self._pull = self._session.make_callable(variables)
        self._push = self._session.make_callable(update, gradients)

    def add(self) -> float:
        return float(self._add())

    def gradients(self) -> list[Array]:
        together = self._session.buffer([self._group.count, *self._group.shape])
        together[...] = 1
        return list(together)

    def index(self, rows: Array) -> Array:
        return rows

    def updates(self, values: Array) -> Array:
        buffer = self._session.buffer(values.shape)
        buffer[...] = values
        return buffer

    def pull(self) -> list[Array]:
        found: list[Array] = self._pull()
        return found

    def push(self, gradients: list[Array]) -> None:
        self._push(*gradients)

    def gather(self, rows: Array) -> list[Array]:
        return [self._gather(rows)]

    def scatter_sub(self, rows: Array, updates: Array) -> None:
        self._scatter_sub(rows, updates)

    def arrays(self, pulled: list[Array]) -> list[Array]:
        return [np.asarray(array) for array in pulled]

    def close(self, *, drop: bool) -> None:
        self._session.close()
        if drop:
            for target in self._targets:
                ps.Session.reset(target)


class Client:
    def __init__(self, place: Place) -> None:
        addresses = [address.removeprefix("grpc://") for address in place.addresses]
        self._cluster = ps.train.ClusterSpec({"ps": addresses})

    def open(self, group: Group, *, create: bool) -> GroupOfVariables:
        return GroupOfVariables(self._cluster, group, create)

    def close(self) -> None:
        pass


def connect(place: Place) -> Client:
    return Client(place)

"""TensorFlow: `tf.compat.v1` parameter servers with resource variables, in graph mode.

Each worker has a `train.Server` of its own, whose master runs in the worker's process. Large
tensors enter and leave the graph on the worker's device and travel between devices, which
TensorFlow does without serializing them; small ones enter and leave on the server, which is one
request for all of them instead of one for each.
"""

from __future__ import annotations

import signal
from typing import Any, Final, TextIO

import numpy as np
import tensorflow
from benchmarks.worker import Array, Place
from benchmarks.workloads import ADAM_RATE, SGD_RATE, Group, Update

tf: Final = tensorflow.compat.v1
tf.disable_eager_execution()
tf.enable_resource_variables()

LARGE_BYTES: Final = 64 << 10
ALIGNMENT: Final = 64
"""TensorFlow takes an array that begins at a multiple of this without copying it."""


def cluster(place: Place) -> Any:
    addresses = [f"127.0.0.1:{port}" for port in place.ports]
    workers = addresses[place.servers : place.servers + place.workers]
    return tf.train.ClusterSpec({"ps": addresses[: place.servers], "worker": workers})


def serve(place: Place, answers: TextIO) -> None:
    server = tf.train.Server(cluster(place), job_name="ps", task_index=place.index)
    print(server.target, file=answers, flush=True)
    signal.pause()


def aligned(values: Array) -> Array:
    memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT
    array = memory[offset : offset + values.nbytes].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array


class GroupOfVariables:
    def __init__(self, server: Any, index: int, group: Group, create: bool) -> None:
        self._group = group
        self._worker = f"/job:worker/task:{index}/cpu:0"
        dtype = tf.int64 if group.update is Update.COUNT else tf.float32
        with tf.Graph().as_default() as graph:
            variables = []
            for i, name in enumerate(group.variable_names):
                with tf.device(self._server(i)):
                    zeros = tf.zeros_initializer()
                    variables.append(tf.get_variable(name, group.shape, dtype, zeros))
            filters = ["/job:ps", f"/job:worker/task:{index}"]
            config = tf.ConfigProto(device_filters=filters)
            self._session = tf.Session(server.target, graph=graph, config=config)
            if group.update is Update.COUNT:
                with tf.device(self._server(0)):
                    self._add = self._session.make_callable(variables[0].assign_add(1))
            elif group.update is Update.ROWS:
                self._make_row_steps(variables[0])
            else:
                self._make_dense_steps(variables)
            self._drop = [
                tf.raw_ops.DestroyResourceOp(resource=variable.handle)
                for variable in tf.global_variables()
            ]
            if create:
                self._session.run(tf.global_variables_initializer())

    def _server(self, i: int) -> str:
        return f"/job:ps/task:{i % self._group.servers}/cpu:0"

    def _make_row_steps(self, table: Any) -> None:
        with tf.device(self._worker):
            rows = tf.placeholder(tf.int64, [None])
            updates = tf.placeholder(tf.float32, [None, *self._group.shape[1:]])
        with tf.device(self._server(0)):
            found = tf.gather(table, rows)
            subtract = tf.raw_ops.ResourceScatterSub(
                resource=table.handle, indices=rows, updates=updates
            )
        with tf.device(self._worker):
            found = tf.identity(found)
        self._gather = self._session.make_callable(found, [rows])
        self._scatter_sub = self._session.make_callable(subtract, [rows, updates])

    def _make_dense_steps(self, variables: list[Any]) -> None:
        is_large = self._group.nbytes // self._group.count >= LARGE_BYTES
        gradients, values = [], []
        for i, variable in enumerate(variables):
            with tf.device(self._worker if is_large else self._server(i)):
                gradients.append(tf.placeholder(tf.float32, self._group.shape))
            with tf.device(self._server(i)):
                values.append(variable.read_value())
            if is_large:
                with tf.device(self._worker):
                    values[-1] = tf.identity(values[-1])
        if self._group.update is Update.ADAM:
            optimizer = tf.train.AdamOptimizer(ADAM_RATE)
        else:
            optimizer = tf.train.GradientDescentOptimizer(SGD_RATE)
        update = optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
        self._pull = self._session.make_callable(values)
        self._push = self._session.make_callable(update, gradients)

    def add(self) -> float:
        return float(self._add())

    def gradients(self) -> list[Array]:
        ones = np.ones(self._group.shape, np.float32)
        return [aligned(ones) for _ in range(self._group.count)]

    def index(self, rows: Array) -> Array:
        return aligned(rows)

    def updates(self, values: Array) -> Array:
        return aligned(values)

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
        return pulled

    def close(self, *, drop: bool) -> None:
        if drop:
            self._session.run(self._drop)
        self._session.close()


class Client:
    def __init__(self, place: Place) -> None:
        self._index = place.index
        self._server = tf.train.Server(
            cluster(place), job_name="worker", task_index=place.index, config=tf.ConfigProto()
        )

    def open(self, group: Group, *, create: bool) -> GroupOfVariables:
        return GroupOfVariables(self._server, self._index, group, create)

    def close(self) -> None:
        pass


def connect(place: Place) -> Client:
    return Client(place)

"""Ray: an actor for each server holds the parameters, and its methods are called.

Arrays travel through Ray's object store, which is shared memory: a gradient is put there once and
the actor reads it in place; what is pulled is put there once for each version of the parameters,
and every `ray.get` of it is a view without a copy. The actor has threads, so that workers do not
wait for one another, and updates tensors of torch in place, with every core.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from typing import Any, Final, TextIO

import numpy as np
import ray
from benchmarks.peers.torch_shard import Shard
from benchmarks.worker import Array, Place
from benchmarks.workloads import Group

NAMESPACE: Final = "benchmarks"
STORE_BYTES: Final = 6 << 30
INLINE_BYTES: Final = 100 << 10
"""Ray answers what is smaller without its object store."""


class Server:
    """The actor."""

    def __init__(self) -> None:
        import torch

        # Ray gives an actor one thread unless told otherwise.
        torch.set_num_threads(os.cpu_count() or 1)
        # What lies in the object store is read-only; it is only read.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self._torch = torch
        self._shard = Shard()
        self._lock = threading.Lock()
        self._put: dict[str, tuple[int, Any]] = {}

    def make(self, group: Group, server: int) -> None:
        self._shard.make(group, server)

    def drop(self, name: str) -> None:
        self._shard.drop(name)
        self._put.pop(name, None)

    def add(self, name: str) -> float:
        return float(self._shard.add(name).item())

    def pull(self, name: str) -> list[Any]:
        """The arrays, or a reference to them."""
        part = self._shard.part(name)
        arrays = [tensor.numpy() for tensor in part.tensors]
        if sum(array.nbytes for array in arrays) <= INLINE_BYTES:
            return arrays
        with self._lock:
            version, reference = self._put.get(name, (-1, None))
            if version != part.version:
                version = part.version
                reference = ray.put(arrays)
                self._put[name] = (version, reference)
        return [reference]

    def push(self, name: str, *gradients: Array) -> None:
        self._shard.push(name, [self._torch.from_numpy(array) for array in gradients])

    def push_all(self, name: str, gradients: list[Array]) -> None:
        self.push(name, *gradients)

    def gather(self, name: str, rows: Array) -> Array:
        found: Array = self._shard.gather(name, self._torch.from_numpy(rows)).numpy()
        return found

    def scatter_sub(self, name: str, rows: Array, updates: Array) -> None:
        from_numpy = self._torch.from_numpy
        self._shard.scatter_sub(name, from_numpy(rows), from_numpy(updates))


def serve(place: Place, answers: TextIO) -> None:
    context = ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        namespace=NAMESPACE,
        log_to_driver=False,
    )
    actor = ray.remote(num_cpus=0, max_concurrency=4)(Server)
    servers = [actor.options(name=f"ps{i}").remote() for i in range(place.servers)]
    ray.get([server.__ray_ready__.remote() for server in servers])
    print(context.address_info["gcs_address"], file=answers, flush=True)
    try:
        signal.pause()
    finally:
        ray.shutdown()


class GroupOfArrays:
    def __init__(self, actors: list[Any], group: Group, create: bool) -> None:
        self._group = group
        self._name = group.name
        self._actors = actors[: group.servers]
        if create:
            ray.get([actor.make.remote(group, i) for i, actor in enumerate(self._actors)])

    def add(self) -> float:
        return float(ray.get(self._actors[0].add.remote(self._name)))

    def gradients(self) -> list[list[Array]]:
        servers = range(self._group.servers)
        ones = np.ones(self._group.shape, np.float32)
        return [[ones.copy() for _ in self._group.of_server(i)] for i in servers]

    def index(self, rows: Array) -> Array:
        return rows

    def updates(self, values: Array) -> Array:
        return values

    def pull(self) -> list[list[Array]]:
        parts = ray.get([actor.pull.remote(self._name) for actor in self._actors])
        return [ray.get(part[0]) if isinstance(part[0], ray.ObjectRef) else part for part in parts]

    def push(self, gradients: list[list[Array]]) -> None:
        ray.get(
            [
                actor.push.remote(self._name, part[0])
                if len(part) == 1
                else actor.push_all.remote(self._name, part)
                for actor, part in zip(self._actors, gradients, strict=True)
            ]
        )

    def gather(self, rows: Array) -> list[list[Array]]:
        return [[ray.get(self._actors[0].gather.remote(self._name, rows))]]

    def scatter_sub(self, rows: Array, updates: Array) -> None:
        ray.get(self._actors[0].scatter_sub.remote(self._name, rows, updates))

    def arrays(self, pulled: list[list[Array]]) -> list[Array]:
        return [array for part in pulled for array in part]

    def close(self, *, drop: bool) -> None:
        if drop:
            ray.get([actor.drop.remote(self._name) for actor in self._actors])


class Client:
    def __init__(self, place: Place) -> None:
        ray.init(address=place.addresses[0], namespace=NAMESPACE, log_to_driver=False)
        self._actors = [ray.get_actor(f"ps{i}") for i in range(place.servers)]

    def open(self, group: Group, *, create: bool) -> GroupOfArrays:
        return GroupOfArrays(self._actors, group, create)

    def close(self) -> None:
        ray.shutdown()


def connect(place: Place) -> Client:
    return Client(place)

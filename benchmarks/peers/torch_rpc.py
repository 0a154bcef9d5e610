"""torch.distributed.rpc: the parameters are tensors of one process, others call functions there.

As PyTorch's parameter-server tutorials do it, with the TensorPipe backend's own choice of
transports (shared memory and cross-process copies on one host), and updates in place. What goes to
one server is one call, however many tensors it has. BENCHMARK_TENSORPIPE=tcp leaves TensorPipe
nothing but TCP, which is what it would use between hosts.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TextIO

import torch
import torch.distributed.rpc as rpc
from benchmarks.peers.torch_shard import Shard
from benchmarks.worker import Array, Place
from benchmarks.workloads import Group

SHARD = Shard()


def make(group: Group, server: int) -> None:
    SHARD.make(group, server)


def forget(name: str) -> None:
    SHARD.drop(name)


def add(name: str) -> torch.Tensor:
    return SHARD.add(name)


def pull(name: str) -> list[torch.Tensor]:
    return SHARD.part(name).tensors


def push(name: str, gradients: list[torch.Tensor]) -> None:
    SHARD.push(name, gradients)


def gather(name: str, rows: torch.Tensor) -> torch.Tensor:
    return SHARD.gather(name, rows)


def scatter_sub(name: str, rows: torch.Tensor, updates: torch.Tensor) -> None:
    SHARD.scatter_sub(name, rows, updates)


def serve(place: Place, answers: TextIO) -> None:
    # Workers can be started now; starting returns when all of them are there.
    print("rendezvous", file=answers, flush=True)
    start(f"ps{place.index}", place.index, place)
    signal.pause()


def start(name: str, rank: int, place: Place) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["TP_SOCKET_IFNAME"] = loopback()
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{place.ports[0]}")
    if os.environ.get("BENCHMARK_TENSORPIPE") == "tcp":
        options = rpc.TensorPipeRpcBackendOptions(
            init_method=options.init_method, _transports=["uv"], _channels=["basic"]
        )
    size = place.servers + place.workers
    rpc.init_rpc(name, rank=rank, world_size=size, rpc_backend_options=options)


def loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


class GroupOfTensors:
    def __init__(self, group: Group, create: bool) -> None:
        self._group = group
        self._name = group.name
        self._servers = [f"ps{i}" for i in range(group.servers)]
        if create:
            for i, server in enumerate(self._servers):
                rpc.rpc_sync(server, make, args=(group, i))

    def add(self) -> float:
        return float(rpc.rpc_sync("ps0", add, args=(self._name,)).item())

    def gradients(self) -> list[list[torch.Tensor]]:
        servers = range(self._group.servers)
        return [[torch.ones(self._group.shape) for _ in self._group.of_server(i)] for i in servers]

    def index(self, rows: Array) -> torch.Tensor:
        return torch.from_numpy(rows)

    def updates(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(values)

    def pull(self) -> list[list[torch.Tensor]]:
        if len(self._servers) == 1:
            return [rpc.rpc_sync("ps0", pull, args=(self._name,))]
        calls = [rpc.rpc_async(server, pull, args=(self._name,)) for server in self._servers]
        found: list[list[torch.Tensor]] = torch.futures.wait_all(calls)
        return found

    def push(self, gradients: list[list[torch.Tensor]]) -> None:
        if len(self._servers) == 1:
            rpc.rpc_sync("ps0", push, args=(self._name, gradients[0]))
            return
        torch.futures.wait_all(
            [
                rpc.rpc_async(server, push, args=(self._name, part))
                for server, part in zip(self._servers, gradients, strict=True)
            ]
        )

    def gather(self, rows: torch.Tensor) -> list[list[torch.Tensor]]:
        return [[rpc.rpc_sync("ps0", gather, args=(self._name, rows))]]

    def scatter_sub(self, rows: torch.Tensor, updates: torch.Tensor) -> None:
        rpc.rpc_sync("ps0", scatter_sub, args=(self._name, rows, updates))

    def arrays(self, pulled: list[list[torch.Tensor]]) -> list[Array]:
        return [tensor.numpy() for part in pulled for tensor in part]

    def close(self, *, drop: bool) -> None:
        if drop:
            for server in self._servers:
                rpc.rpc_sync(server, forget, args=(self._name,))


class Client:
    def __init__(self, place: Place) -> None:
        start(f"worker{place.index}", place.servers + place.index, place)

    def open(self, group: Group, *, create: bool) -> GroupOfTensors:
        return GroupOfTensors(group, create)

    def close(self) -> None:
        # A shutdown waits for all other processes; there is nothing to wait for.
        os._exit(0)


def connect(place: Place) -> Client:
    return Client(place)

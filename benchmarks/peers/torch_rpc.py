"""torch.distributed.rpc: the parameters are tensors of one process, others call functions there.

As PyTorch's parameter-server tutorials do it, with the TensorPipe backend's own choice of
transports, and updates in place on the server.
"""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed.rpc as rpc
import torch.multiprocessing as mp
from benchmarks.workloads import ELEMENTS, LEARNING_RATE, obey

STATE: dict[str, torch.Tensor] = {}


def make() -> None:
    STATE["counter"] = torch.zeros((), dtype=torch.int64)
    STATE["large"] = torch.zeros(ELEMENTS)


def add() -> torch.Tensor:
    return STATE["counter"].add_(1)


def counter() -> torch.Tensor:
    return STATE["counter"]


def pull() -> torch.Tensor:
    return STATE["large"]


def push(gradient: torch.Tensor) -> None:
    STATE["large"].sub_(gradient, alpha=LEARNING_RATE)


def serve(rank: int, port: int) -> None:
    start("ps", 1, port)
    rpc.shutdown()


def start(name: str, rank: int, port: int) -> None:
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}")
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


class TorchPeer:
    def __init__(self) -> None:
        self._gradient = torch.ones(ELEMENTS)

    def scalar(self) -> float:
        return rpc.rpc_sync("ps", add).item()

    def counter(self) -> float:
        return rpc.rpc_sync("ps", counter).item()

    def pull(self) -> float:
        return rpc.rpc_sync("ps", pull)[-1].item()

    def push(self) -> None:
        rpc.rpc_sync("ps", push, args=(self._gradient,))


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TP_SOCKET_IFNAME", "lo")
    server = mp.start_processes(serve, (port,), nprocs=1, join=False, start_method="spawn")
    start("worker", 0, port)
    rpc.rpc_sync("ps", make)
    obey(TorchPeer())
    rpc.shutdown()
    server.join()


if __name__ == "__main__":
    main()

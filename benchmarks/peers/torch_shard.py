"""Variables as tensors of torch, updated in place: what a server in PyTorch or Ray does.

Updates hold a lock, since two threads that subtract from one tensor lose some of it; reads do not,
as in PyTorch's own tutorials, so that what they answer may be torn.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from benchmarks.workloads import ADAM_RATE, SGD_RATE, Group, Update


@dataclass
class Part:
    """The variables of a group that one server has.

    Attributes:
        version: how many updates there were.
    """

    tensors: list[torch.Tensor]
    optimizer: torch.optim.Optimizer | None
    version: int = 0


class Shard:
    """Groups of tensors by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}

    def make(self, group: Group, server: int) -> None:
        dtype = torch.int64 if group.update is Update.COUNT else torch.float32
        tensors = [torch.zeros(group.shape, dtype=dtype) for _ in group.of_server(server)]
        is_adam = group.update is Update.ADAM
        optimizer = torch.optim.Adam(tensors, ADAM_RATE, fused=True) if is_adam else None
        self._parts[group.name] = Part(tensors, optimizer)

    def drop(self, name: str) -> None:
        del self._parts[name]

    def part(self, name: str) -> Part:
        return self._parts[name]

    def add(self, name: str) -> torch.Tensor:
        with self._lock:
            return self._parts[name].tensors[0].add_(1)

    def push(self, name: str, gradients: list[torch.Tensor]) -> None:
        part = self._parts[name]
        with self._lock:
            if part.optimizer is None:
                torch._foreach_add_(part.tensors, gradients, alpha=-SGD_RATE)
            else:
                for tensor, gradient in zip(part.tensors, gradients, strict=True):
                    tensor.grad = gradient
                part.optimizer.step()
                part.optimizer.zero_grad(set_to_none=True)
            part.version += 1

    def gather(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        return self._parts[name].tensors[0].index_select(0, rows)

    def scatter_sub(self, name: str, rows: torch.Tensor, updates: torch.Tensor) -> None:
        with self._lock:
            self._parts[name].tensors[0].index_add_(0, rows, updates, alpha=-1)

"""A step in several calls: each brings some feeds and asks for some fetches.

A master runs whole steps only. So each call here is a step of its own, which is fed what the calls
before it were fed, and what they computed that this one needs: at the border between what has run
and what is still to run, every tensor that crosses it is fetched and kept. A fed tensor also stands
for its op's having run, so that nothing runs twice.

What cannot be kept is a reference to a variable that a later op updates through; then an op before
it would have to run again. That is harmless for ops without effect, and refused for the others.

Thread rule: the caller holds `lock` from `next` to the end of `finished`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._session.feeds import Feeds
from paramserve._session.fetches import Array, Fetches
from paramserve_core.errors import InvalidArgumentError, UnimplementedError

_VARIABLES: Final = frozenset({"Variable", "VariableV2"})


class PartialRun:
    """One step, run in several calls.

    Args:
        fetches: everything that will be fetched.
        feeds: everything that will be fed.
    """

    def __init__(self, fetches: Fetches, feeds: Feeds) -> None:
        self.lock = threading.Lock()
        self._to_fetch = set[Any](fetches.tensors) | set(fetches.operations)
        self._fetched: set[Any] = set()
        self._to_feed = set(feeds.tensors)
        self._known: dict[Tensor, Array] = {}
        self._ran: set[Operation] = set()
        self._whole = _needed(fetches.tensors, fetches.operations, self._to_feed)
        self._referenced = {
            tensor
            for op in self._whole
            for tensor, dtype in zip(op.inputs, op.definition.input_dtypes(op.attrs), strict=True)
            if dtype.is_ref
        }

    def next(self, fetches: Fetches, feeds: Feeds, values: Sequence[Array]) -> PartialStep:
        """The step to run for one call.

        Raises:
            InvalidArgumentError: a fetch or feed that was not announced, or came before.
            UnimplementedError: an op that changes something would have to run once more.
        """
        for tensor in feeds.tensors:
            if tensor not in self._to_feed:
                raise _unknown(f"The feed {tensor.name} was not named in partial_run_setup")
            if tensor in self._known:
                raise _unknown(f"The feed {tensor.name} has already been fed")
        wanted: list[Tensor | Operation] = [*fetches.tensors, *fetches.operations]
        for element in wanted:
            if element not in self._to_fetch:
                raise _unknown(f"The fetch {element.name} was not named in partial_run_setup")
            if element in self._fetched:
                raise _unknown(f"The fetch {element.name} has already been fetched")
        known = self._known | {
            tensor: np.array(value) for tensor, value in zip(feeds.tensors, values, strict=True)
        }
        missing = [tensor for tensor in fetches.tensors if tensor not in known]
        targets = [op for op in fetches.operations if op not in self._ran]
        needed = _needed(missing, targets, known.keys())
        for op in needed & self._ran:
            if op.definition.is_stateful and op.type not in _VARIABLES:
                raise UnimplementedError(
                    op.node_def,
                    op,
                    f"{op.name} ran in an earlier call of this partial run and would have to run "
                    "once more: fetch what needs it in the same call",
                )
        kept = [tensor for tensor in self._border(needed) if tensor not in known]
        return PartialStep(self, fetches, missing, targets, needed, kept, known)

    def finish(self, fetches: Fetches, needed: set[Operation], known: dict[Tensor, Array]) -> None:
        """A call ended well: what it computed is known from now on."""
        self._fetched |= {*fetches.tensors, *fetches.operations}
        self._known = known
        self._ran |= needed

    def _border(self, needed: set[Operation]) -> Iterable[Tensor]:
        """The outputs of ops that are about to run which a later call needs."""
        later = self._whole - needed - self._ran
        waited_for = {control for op in later for control in op.control_inputs}
        for op in needed:
            if op.type in _VARIABLES:
                continue
            for tensor in op.values():
                if tensor in self._referenced:
                    continue
                is_last = tensor.value_index == 0 and op in waited_for
                if is_last or tensor in self._to_fetch or not later.isdisjoint(tensor.consumers()):
                    yield tensor


class PartialStep:
    """One call of a partial run, as a step of its own.

    Attributes:
        fetches: names of the tensors to fetch.
        feeds: names of the tensors to feed.
        values: their values.
        targets: names of the operations to run for no value.
    """

    def __init__(
        self,
        run: PartialRun,
        wanted: Fetches,
        missing: Sequence[Tensor],
        targets: Sequence[Operation],
        needed: set[Operation],
        kept: Sequence[Tensor],
        known: dict[Tensor, Array],
    ) -> None:
        self._run = run
        self._wanted = wanted
        self._needed = needed
        self._known = known
        self._asked = list(dict.fromkeys([*missing, *sorted(kept, key=_name)]))
        used = {tensor for op in needed for tensor in op.inputs}
        used |= {op.values()[0] for n in needed for op in n.control_inputs if op.values()}
        fed = sorted(used & known.keys(), key=_name)
        self.fetches = [tensor.name for tensor in self._asked]
        self.feeds = [tensor.name for tensor in fed]
        self.values = [known[tensor] for tensor in fed]
        self.targets = [op.name for op in targets]

    def finished(self, results: Sequence[Array]) -> list[Array]:
        """The call's own fetches, given the values of `fetches`."""
        computed = dict(zip(self._asked, results, strict=True))
        answer = [
            computed[tensor] if tensor in computed else np.array(self._known[tensor])
            for tensor in self._wanted.tensors
        ]
        # The caller may write to what he gets.
        copies = {tensor: np.array(value) for tensor, value in computed.items()}
        self._run.finish(self._wanted, self._needed, self._known | copies)
        return answer


def _needed(
    tensors: Iterable[Tensor], operations: Iterable[Operation], known: Iterable[Tensor]
) -> set[Operation]:
    """The operations that a master would run for these."""
    given = set(known)
    needed: set[Operation] = set()
    waiting = [tensor.op for tensor in tensors if tensor not in given]
    waiting += operations
    while waiting:
        op = waiting.pop()
        if op in needed:
            continue
        needed.add(op)
        waiting += [tensor.op for tensor in op.inputs if tensor not in given]
        waiting += [
            control
            for control in op.control_inputs
            if not control.values() or control.values()[0] not in given
        ]
    return needed


def _name(tensor: Tensor) -> str:
    return tensor.name


def _unknown(message: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, message)

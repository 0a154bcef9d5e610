"""The variables of a save or a restore, and their names in the checkpoint, read once.

A saver asks for the same variables every time, and to read what it says of 100,000 of them takes
longer than to restore them. So its entries travel as bytes, and who has read them keeps what they
say: the master, which of them each task has, and the task, which variables they name.

Thread rule: `Placement` and `EntryLists` may be called from any thread; what they answer is not
changed any more, except that a list remembers the variables that were found for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from google.protobuf.message import DecodeError

from paramserve_core.checkpoint.collector import collector_paused
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.variable import Variable, uninitialized
from paramserve_protos.v1.checkpoint_service_pb2 import CheckpointEntries, CheckpointEntry

T = TypeVar("T")

_KEPT: Final = 2
"""Lists that are kept at a time: a program rarely has more than two savers at work."""


def pack_entries(entries: Iterable[CheckpointEntry]) -> bytes:
    """Entries as they travel."""
    return CheckpointEntries(entry=entries).SerializeToString()


def unpack_entries(content: bytes) -> Sequence[CheckpointEntry]:
    """The entries that travelled.

    Raises:
        InvalidArgumentError: there are none in `content`.
    """
    try:
        return CheckpointEntries.FromString(content).entry
    except DecodeError:
        raise InvalidArgumentError(None, None, "the entries are no message of their kind") from None


class Placement:
    """Which task each variable is on.

    Args:
        task_of: names an entry's task, the same every time.
    """

    def __init__(self, task_of: Callable[[CheckpointEntry], str]) -> None:
        self._task_of = task_of
        self._recent: _Recent[Mapping[str, bytes]] = _Recent()

    def by_task(self, content: bytes) -> Mapping[str, bytes]:
        """The entries of each task that has some.

        Raises:
            InvalidArgumentError: `content` are no entries.
        """
        return self._recent.get(content, lambda: self._divided(content))

    def _divided(self, content: bytes) -> Mapping[str, bytes]:
        found: dict[str, list[CheckpointEntry]] = {}
        for entry in unpack_entries(content):
            found.setdefault(self._task_of(entry), []).append(entry)
        if len(found) == 1:
            return dict.fromkeys(found, content)
        return {task: pack_entries(entries) for task, entries in found.items()}


class EntryList:
    """Entries of one task, read.

    Attributes:
        entries: all of them.
        keys: the name of each in the checkpoint.
        kinds: for each the first one that differs from it in its names only: what is true of that
            is true of all of its kind. They are numbers of entries.
        again: an entry whose variable one before it has named; None if there is none.
    """

    def __init__(self, content: bytes) -> None:
        self.entries = list(unpack_entries(content))
        self.keys = [entry.key for entry in self.entries]
        self.kinds: list[int] = []
        self._names = [(entry.shared_name or entry.node, entry.container) for entry in self.entries]
        self.again: CheckpointEntry | None = None
        if len(set(self._names)) < len(self._names):
            counted = Counter(self._names)
            last = max(i for i, name in enumerate(self._names) if counted[name] > 1)
            self.again = self.entries[last]
        self._found: tuple[int, Sequence[Variable]] | None = None
        self._made: tuple[int, Sequence[Variable]] | None = None
        first: dict[tuple[object, ...], int] = {}
        for number, entry in enumerate(self.entries):
            part = entry.slice.SerializeToString() if entry.HasField("slice") else None
            shape = entry.shape.SerializeToString() if entry.HasField("shape") else None
            kind = (entry.dtype, entry.reshape, entry.cast, shape, part)
            self.kinds.append(first.setdefault(kind, number))

    def __len__(self) -> int:
        return len(self.entries)

    def variables(self, store: VariableStore) -> Sequence[Variable]:
        """The variables, each as its entry names it.

        Raises:
            FailedPreconditionError: there is none of a name.
        """
        # The number of resets comes first: who sees the new one does not find an old variable.
        resets = store.resets
        for known in (self._made, self._found):
            if known is not None and known[0] == resets:
                return known[1]
        found = self._existing(store)
        self._found = resets, found
        return found

    def variables_made(
        self, store: VariableStore, make: Callable[[int, str, str], Variable]
    ) -> Sequence[Variable]:
        """The variables, of which `make` answers each, of its entry's number and its two names.

        Other than `variables` these were made, or compared with what the entry declares.
        """
        resets = store.resets
        known = self._made
        if known is None or known[0] != resets:
            names = enumerate(self._names)
            made = [make(number, name, container) for number, (name, container) in names]
            known = self._made = (resets, made)
        return known[1]

    def _existing(self, store: VariableStore) -> list[Variable]:
        found = []
        for number, (name, container) in enumerate(self._names):
            variable = store.find(name, container)
            if variable is None:
                raise uninitialized(self.entries[number].node)
            found.append(variable)
        return found


class EntryLists:
    """The lists that the sessions of a task have used last."""

    def __init__(self) -> None:
        self._recent: _Recent[EntryList] = _Recent()

    def read(self, content: bytes) -> EntryList:
        """The entries that a session sent; workers that train one model send the same.

        Raises:
            InvalidArgumentError: they are none.
        """

        def new() -> EntryList:
            with collector_paused():
                return EntryList(content)

        return self._recent.get(content, new)


class _Recent(Generic[T]):
    """What was made of the bytes that came last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[bytes, T] = {}

    def get(self, content: bytes, make: Callable[[], T]) -> T:
        """What was made of these bytes before, or is made of them now."""
        found = self._made.get(content)
        if found is None:
            found = make()
            with self._lock:
                self._made[content] = found
                while len(self._made) > _KEPT:
                    del self._made[next(iter(self._made))]
        return found

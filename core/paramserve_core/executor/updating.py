"""What steps, saves and restores do to variables: updates, and reads of several at one moment.

Thread rule: everything may be called from any thread; see `variable` for the order of locks. An
`Update` belongs to the thread that entered it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.executor.fair_lock import FairLock
from paramserve_core.executor.variable import Variable, read_only

Array = NDArray[Any]

_SERIAL: Final = attrgetter("_serial")


class Ref:
    """What a reference edge of the graph carries: a variable, perhaps with the value just stored.

    An assignment whose output is read puts a lease on the value that it stored into `stored`, so
    the output evaluates to that value however many other updates follow.
    """

    __slots__ = ("stored", "variable")

    def __init__(self, variable: Variable, stored: Array | None = None) -> None:
        self.variable = variable
        self.stored = stored

    def read(self) -> Array:
        """The value that this edge stands for, leased."""
        return self.variable.read() if self.stored is None else self.stored


class Update:
    """Exclusive access to initialised variables for the length of a `with` block.

    Entering gives one writable array per variable, in the order given: the buffer itself where
    nobody holds a lease on it, else a copy that becomes the buffer when the block ends well. A
    block that raises leaves the copied variables unchanged; a kernel therefore checks its inputs
    before it writes.

    Args:
        refs: the variables.
        lease: whether `output` is to stand for the value as it is after the block.
        is_whole: the block goes over all elements, so that it would not take much longer on a copy.
        fills: the block writes all elements, from those in `before`: what it is given in place of a
            buffer has arbitrary contents. That saves a pass over a variable that somebody reads.

    Attributes:
        output: after the block, the reference that the op returns, for the first variable.
    """

    __slots__ = ("_begun", "_fills", "_is_whole", "_lease", "_one", "_refs", "_variables", "output")

    def __init__(
        self, *refs: Ref, lease: bool = False, is_whole: bool = False, fills: bool = False
    ) -> None:
        self._refs = refs
        self._fills = fills
        self._lease = lease
        self._is_whole = is_whole
        self._one: Variable | None = None
        self._variables: Sequence[Variable] = ()
        self._begun: Sequence[Array] = ()
        self.output = refs[0]

    @property
    def before(self) -> list[Array]:
        """Inside of the block, the values until it: what it writes to where that is the buffer."""
        return [ref.variable._value() for ref in self._refs]

    def __enter__(self) -> tuple[Array, ...]:
        if len(self._refs) == 1:
            return self._begin_one(self._refs[0].variable)
        named = [ref.variable for ref in self._refs]
        variables = _in_order(named)
        for variable in variables:
            variable._turn.acquire()
        self._variables = variables
        begun: list[Array] = []
        self._begun, is_whole = begun, self._is_whole
        try:
            for variable in variables:
                # Not at once: if one raises, the others are ended.
                begun.append(variable.begin_update(is_whole, self._fills))  # noqa: PERF401
        except BaseException:
            self._end(is_kept=False)
            raise
        if variables == named:
            return tuple(begun)
        array_of = dict(zip(variables, begun, strict=True))
        return tuple([array_of[variable] for variable in named])

    def _begin_one(self, variable: Variable) -> tuple[Array]:
        """As for several; most updates are of one variable, and of small ones there are many."""
        variable._turn.acquire()
        try:
            begun = (variable.begin_update(self._is_whole, self._fills),)
        except BaseException:
            variable._turn.release()
            raise
        self._one, self._begun = variable, begun
        return begun

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        variable = self._one
        if variable is None:
            self._end(is_kept=kind is None)
            return
        self._one = None
        try:
            variable.end_update(self._begun[0], kind is None)
            self._begun = ()
            if kind is None:
                self._put_out()
        finally:
            variable._turn.release()

    def _end(self, *, is_kept: bool) -> None:
        try:
            for variable, array in zip(self._variables, self._begun, strict=False):
                variable.end_update(array, is_kept)
            self._begun = ()
            if is_kept:
                self._put_out()
        finally:
            for variable in self._variables:
                variable._turn.release()
            self._variables = ()

    def _put_out(self) -> None:
        first = self._refs[0]
        if self._lease:
            self.output = Ref(first.variable, read_only(first.variable._value()))
        elif first.stored is not None:
            self.output = Ref(first.variable)


def read_all(variables: Sequence[Variable]) -> list[Array]:
    """Leases on the current values of several variables, all of one moment.

    Raises:
        FailedPreconditionError: one of them has no value yet.
    """
    with _turns(variables):
        return [read_only(variable._value()) for variable in variables]


def assign_all(variables: Sequence[Variable], values: Sequence[Array]) -> list[Array | None]:
    """Replaces the values of several variables, at one moment: all of them or none.

    Args:
        variables: each at most once.
        values: their new values, of their types and of any shape; the arrays are kept, so nobody
            else may write to them. A lease is a reference to the variable's array, and NumPy makes
            views refer to what they are views of. So arrays that are views themselves are never
            written to: the first update of each makes a copy. Those that are not in the store's
            memory are moved there one by one, by the first step that reads or updates them.

    Returns:
        What the variables had before, for the caller to drop: to free a gigabyte takes a while.

    Raises:
        ResourceExhaustedError: the store's memory limit; no variable was changed.
    """
    with _turns(variables):
        before = [variable._array for variable in variables]
        if variables:
            freed_bytes = sum([array.nbytes for array in before if array is not None])
            taken_bytes = sum([value.nbytes for value in values])
            variables[0]._budget.change(taken_bytes - freed_bytes, variables[0].name)
        for variable, value in zip(variables, values, strict=True):
            is_away = type(value.base) is np.ndarray or not variable._memory.has(value)
            with variable._lock:
                variable._array, variable._is_away = value, is_away
    return before


@contextlib.contextmanager
def _turns(variables: Iterable[Variable]) -> Iterator[None]:
    """Has the turns of all variables for the length of the block. There may be 100,000."""
    taken: list[FairLock] = []
    try:
        for variable in _in_order(variables):
            turn = variable._turn
            turn.acquire()
            taken.append(turn)
        yield
    finally:
        for turn in taken:
            turn.release()


def _in_order(variables: Iterable[Variable]) -> list[Variable]:
    """The variables, each once, in the order in which their locks are taken."""
    return sorted(set(variables), key=_SERIAL)

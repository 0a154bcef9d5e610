"""The variable store: named tensors that outlive steps and sessions, in containers.

The idea is the *lease*. Whoever reads a variable gets a read-only view of its buffer, not a copy,
and holds the buffer for as long as the view (or any view of it) is alive. Whoever updates a
variable writes in place when nobody holds the buffer, and into a fresh copy otherwise. So a read
never tears, a snapshot of everything costs a view per variable, and neither a slow reader nor a
checkpoint being written ever makes an update wait.

Updates of a variable take *turns*, in the order in which they came. Reads do not queue with them: a
read waits for an update that is being done in place, never for one that works on a copy nor for
those that wait. And where a read had to wait, the next updates that go over all of a variable work
on copies, for as long as reads keep coming while they run: it costs them a third of their time, and
readers none of theirs.

A lease *is* a Python reference: NumPy keeps a reference from every view to the array that owns
the memory, so the owner's reference count says whether anybody looks at it. That needs no release
call that an exception could skip. The count of an array nobody else holds is measured once at
import, because it differs between Python versions.

Thread rule: every public method may be called from any thread. A variable's value is changed only
by whoever has its `_turn`; an update of several variables takes their turns in the order of
`_serial`, so two updates cannot wait for each other. A buffer is replaced, written in place and
looked at with its `_lock` held; who waits for a `_lock` and holds another has the turns of both.
Nothing blocks on the network, the clock or another variable's reader while it holds a lock.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
)
from paramserve_core.executor.fair_lock import FairLock
from paramserve_core.executor.memory import Memory, OrdinaryMemory, StoreBudget
from paramserve_core.shapes import TensorShape

Array = NDArray[Any]

_COPIES_AFTER_READ: Final = 16
"""So many updates work on copies after a read that came while one was running."""

_serials = itertools.count()


class _Holder:
    """Anything with a buffer, as far as counting references to it goes."""

    __slots__ = ("_array",)

    def __init__(self, array: Array | None) -> None:
        self._array = array

    def _references(self) -> int:
        return sys.getrefcount(self._array)


_UNSHARED: Final = _Holder(np.empty(1))._references()


def read_only(array: Array) -> Array:
    """A view of `array` that cannot be written through."""
    view = array.view()
    # By position, which NumPy's stubs forbid: a keyword costs three times as much.
    view.setflags(False)  # type: ignore[call-arg]
    return view


def all_read_only(arrays: Iterable[Array]) -> list[Array]:
    """`read_only` of each."""
    views = [array.view() for array in arrays]
    for view in views:
        view.setflags(False)  # type: ignore[call-arg]
    return views


def uninitialized(name: str) -> FailedPreconditionError:
    """The error of a variable that is read, updated or saved before it has a value."""
    return FailedPreconditionError(
        None,
        None,
        f"Attempting to use uninitialized value {name}; run its initializer (all of them: "
        "initialize_all_variables), or restore a checkpoint, first",
    )


class Variable(_Holder):
    """One named tensor: it exists from the first step that names it, has a value once assigned."""

    __slots__ = (
        "_budget",
        "_copies",
        "_is_away",
        "_lock",
        "_memory",
        "_serial",
        "_turn",
        "container",
        "dtype",
        "name",
        "shape",
    )

    def __init__(
        self,
        name: str,
        container: str,
        dtype: DType,
        shape: TensorShape,
        budget: StoreBudget,
        memory: Memory,
    ) -> None:
        super().__init__(None)
        self._budget = budget
        self._memory = memory
        self._turn = FairLock()
        self._lock = threading.Lock()
        self._copies = 0
        self._is_away = False
        self._serial = next(_serials)
        self.name = name
        self.container = container
        self.dtype = dtype
        self.shape = shape

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, {self.dtype.name}, {self.shape})"

    @property
    def is_initialized(self) -> bool:
        """Whether a value was assigned."""
        return self._array is not None

    @property
    def current_shape(self) -> TensorShape:
        """The shape of the current value; before the first, as the variable was declared."""
        array = self._array
        return self.shape if array is None else TensorShape(array.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the current value; 0 before the first."""
        array = self._array
        return 0 if array is None else array.nbytes

    def read(self) -> Array:
        """A lease on the current value: a read-only view that no update will change.

        Raises:
            FailedPreconditionError: no value was assigned yet.
        """
        if self._is_away:
            self._bring_home()
        # Not by `_lock_to_read`, `_value` and `read_only`: a pull of many small ones is this.
        if self._copies or not self._lock.acquire(False):
            self._lock_to_read()
        try:
            array = self._array
            view = self._value() if array is None else array.view()
        finally:
            self._lock.release()
        view.setflags(False)  # type: ignore[call-arg]
        return view

    def read_if_initialized(self) -> Array | None:
        """A lease on the current value, or None before the first."""
        self._lock_to_read()
        try:
            return None if self._array is None else read_only(self._array)
        finally:
            self._lock.release()

    def _bring_home(self) -> None:
        """Moves a restored value into the store's memory; who updates it at the moment does so."""
        if not self._turn.try_acquire():
            return
        try:
            if self._is_away and self._array is not None:
                home = self._copy(self._array)
                with self._lock:
                    self._array, self._is_away = home, False
        except MemoryError:
            return  # It can stay where it is.
        finally:
            self._turn.release()

    def _lock_to_read(self) -> None:
        if self._copies and self._turn.is_held:
            self._copies = _COPIES_AFTER_READ
        if not self._lock.acquire(blocking=False):
            if self._turn.is_held:  # Else another read has it, for a moment.
                self._copies = _COPIES_AFTER_READ
            self._lock.acquire()

    def assign(
        self, value: Array, *, adopt: bool = False, validate_shape: bool = True, lease: bool = False
    ) -> Array | None:
        """Replaces the value.

        Args:
            value: the new value, of the variable's dtype; copied.
            adopt: keep `value` itself, not a copy: nobody else will write to it or keep it.
            validate_shape: refuse a value whose shape does not fit the variable's.
            lease: return a lease on the new value, taken before any other update can come.

        Raises:
            InvalidArgumentError: dtype or shape does not fit; the variable is unchanged.
            ResourceExhaustedError: the store's memory limit; the variable is unchanged.
        """
        if value.dtype != self.dtype.as_numpy_dtype:
            raise InvalidArgumentError(
                None,
                None,
                f"{self.name}: a value of {value.dtype} for a {self.dtype.name} variable",
            )
        if validate_shape and not self.shape.is_compatible_with(value.shape):
            raise InvalidArgumentError(
                None,
                None,
                f"{self.name}: a value of shape {list(value.shape)} for a variable of shape "
                f"{self.shape}; use assign(..., validate_shape=False) to change the shape",
            )
        adopt = adopt and value.flags.writeable and self._memory.has(value)
        with self._turn:
            delta_bytes = value.nbytes - self.nbytes
            self._budget.change(delta_bytes, self.name)
            if adopt or not self._write_in_place(value):
                try:
                    new = value if adopt else self._copy(value)
                except BaseException:
                    self._budget.change(-delta_bytes, self.name)
                    raise
                with self._lock:
                    self._array, self._is_away = new, False
            return read_only(self._value()) if lease else None

    def discard(self) -> None:
        """Drops the value, as when the variable's container is cleared."""
        with self._turn:
            self._budget.change(-self.nbytes, self.name)
            with self._lock:
                self._array, self._is_away = None, False

    def begin_update(self, is_whole: bool, fills: bool) -> Array:
        """The buffer, locked, or what takes its place; called by `Update`, which has the turn."""
        self._lock.acquire()
        if self._array is not None and self._may_write_in_place(is_whole):
            return self._array
        self._lock.release()
        if self._copies:
            self._copies -= 1
        value = self._value()
        return self._memory.allocate(value.shape, value.dtype) if fills else self._copy(value)

    def end_update(self, array: Array, is_kept: bool) -> None:
        """Puts what `begin_update` answered in place, or forgets it."""
        if array is self._array:
            self._lock.release()
        elif is_kept:
            with self._lock:
                self._array, self._is_away = array, False

    def begin_at_once(self) -> Array | None:
        """The buffer, to be changed in place as a whole, if that takes no waiting and no copy.

        Unless it is None, `end_at_once` has to be called. Costs a fraction of an `Update`.
        """
        if not self._turn.try_acquire():
            return None
        if self._lock.acquire(False):
            if self._array is not None and self._may_write_in_place(is_whole=True):
                return self._array
            self._lock.release()
        self._turn.release()
        return None

    def end_at_once(self) -> None:
        """Ends the update that `begin_at_once` began."""
        self._lock.release()
        self._turn.release()

    def change_at_once(
        self, change: Callable[..., object], scratch: Sequence[Array], value: Array
    ) -> bool:
        """Changes the variable by a value of its type and shape, as between these two.

        Args:
            change: called with the scratch, the value and the buffer.
            scratch: for `change`.
            value: for `change`.

        Returns:
            Whether it did; else it would have had to wait or to copy, or the value does not fit.
        """
        turn, lock = self._turn, self._lock
        if not turn.try_acquire():
            return False
        try:
            if not lock.acquire(False):
                return False
            try:
                # As `_may_write_in_place`: a thousand calls of it can be felt.
                if self._copies or self._is_away or sys.getrefcount(self._array) > _UNSHARED:
                    return False
                array = self._array
                if array is None or array.shape != value.shape or array.dtype is not value.dtype:
                    return False
                change(scratch, value, array)
            finally:
                lock.release()
        finally:
            turn.release()
        return True

    def _write_in_place(self, value: Array) -> bool:
        """Overwrites the buffer, if it may be."""
        with self._lock:
            has_buffer = self._array is not None and self._array.shape == value.shape
            may = has_buffer and self._may_write_in_place(is_whole=True)
            if may:
                np.copyto(self._value(), value)
            return may

    def _may_write_in_place(self, is_whole: bool) -> bool:
        if self._is_away or (is_whole and self._copies):
            return False
        return self._references() <= _UNSHARED

    def _copy(self, value: Array) -> Array:
        array = self._memory.allocate(value.shape, value.dtype)
        np.copyto(array, value)
        return array

    def _value(self) -> Array:
        if self._array is None:
            raise uninitialized(self.name)
        return self._array


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


def assign_all(values: Sequence[tuple[Variable, Array]]) -> list[Array | None]:
    """Replaces the values of several variables, at one moment: all of them or none.

    Args:
        values: variables, each at most once, and their new values, of their types and of any
            shape; the arrays are kept, so nobody else may write to them. A lease is a reference to
            the variable's array, and NumPy makes views refer to what they are views of: so none
            of the arrays is a view itself. Those that are not in the store's memory are moved there
            one by one, by the first step that reads or updates them.

    Returns:
        What the variables had before, for the caller to drop: to free a gigabyte takes a while.

    Raises:
        ValueError: an array is a view of another.
        ResourceExhaustedError: the store's memory limit; no variable was changed.
    """
    for variable, value in values:
        if type(value.base) is np.ndarray:
            raise ValueError(f"{variable.name}: the value is a view, which leases cannot protect")
    with _turns([variable for variable, _ in values]):
        before = [variable._array for variable, _ in values]
        if values:
            first = values[0][0]
            freed_bytes = sum([array.nbytes for array in before if array is not None])
            taken_bytes = sum([value.nbytes for _, value in values])
            first._budget.change(taken_bytes - freed_bytes, first.name)
        for variable, value in values:
            with variable._lock:
                variable._array = value
                variable._is_away = not variable._memory.has(value)
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
    distinct = {variable._serial: variable for variable in variables}
    return [distinct[serial] for serial in sorted(distinct)]


class VariableStore:
    """All variables of one task (or one in-process session), by container and name.

    Args:
        budget: counts their bytes.
        memory: where their buffers lie.

    Attributes:
        resets: how many times variables were dropped. As long as it is the same, so is the variable
            that a name stands for, once there is one.
    """

    def __init__(self, budget: StoreBudget | None = None, memory: Memory | None = None) -> None:
        self.budget = budget or StoreBudget()
        self.memory = memory or OrdinaryMemory()
        self.resets = 0
        self._lock = threading.Lock()
        self._containers: dict[str, dict[str, Variable]] = {}

    def get_or_create(
        self, name: str, container: str, dtype: DType, shape: TensorShape
    ) -> Variable:
        """The variable of that name, made without a value if there is none.

        Raises:
            InvalidArgumentError: it exists with another dtype or an incompatible shape.
        """
        variable = self._containers.get(container, {}).get(name)
        if variable is None:
            with self._lock:
                variables = self._containers.setdefault(container, {})
                variable = variables.setdefault(
                    name, Variable(name, container, dtype, shape, self.budget, self.memory)
                )
        if variable.dtype != dtype or not variable.shape.is_compatible_with(shape):
            raise InvalidArgumentError(
                None,
                None,
                f"{name}: the graph declares {dtype.name} {shape}, container {container!r} of the "
                f"server has it as {variable.dtype.name} {variable.shape}; give the variable "
                "another name or container, or clear the container with Session.reset",
            )
        return variable

    def find(self, name: str, container: str = "") -> Variable | None:
        """The variable of that name, or None."""
        return self._containers.get(container, {}).get(name)

    def variables(self, containers: Iterable[str] | None = None) -> list[Variable]:
        """Every variable of the given containers (all by default), in the order of creation."""
        with self._lock:
            names = self._containers if containers is None else containers
            found = [v for name in names for v in self._containers.get(name, {}).values()]
        return sorted(found, key=lambda variable: variable._serial)

    @property
    def variable_count(self) -> int:
        """Variables in all containers."""
        with self._lock:
            return sum(len(variables) for variables in self._containers.values())

    def reset(self, containers: Iterable[str] | None = None) -> None:
        """Drops every variable of the given containers; none given means all containers."""
        with self._lock:
            names = list(self._containers if containers is None else containers)
            dropped = [v for name in names for v in self._containers.pop(name, {}).values()]
            self.resets += 1  # Not before: who saw the new number must not find an old variable.
        for variable in dropped:
            variable.discard()

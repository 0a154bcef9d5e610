"""A variable: a named tensor that outlives steps and sessions, read and updated side by side.

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
by whoever has its `_turn`; `updating` takes those of several, in the order of
`_serial`, so two updates cannot wait for each other. A buffer is replaced, written in place and
looked at with its `_lock` held; who waits for a `_lock` and holds another has the turns of both.
Nothing blocks on the network, the clock or another variable's reader while it holds a lock.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
)
from paramserve_core.executor.fair_lock import FairLock
from paramserve_core.executor.memory import Memory, StoreBudget
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
        """Moves a restored value into the store's memory; who updates it at the moment does so.

        A view stays until an update: it is small, and to move 100,000 takes longer than to restore
        them.
        """
        array = self._array
        if array is None or type(array.base) is np.ndarray or not self._turn.try_acquire():
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

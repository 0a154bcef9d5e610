"""`Variable`: a tensor that outlives the step, as a program handles it.

The object is a handle on ops of the graph (see `graph_ops`) and holds no value; the value is in
the session, or on the server, that runs them. Wherever a tensor is wanted a variable stands for
its value, and where an op changes it, for the reference.

Thread rule: a variable does not change after it was made, but for the tensor that
`initialized_value` keeps; two threads that ask for it at once may each add one, and both are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import register_tensor_conversion_function
from paramserve._framework.default_session import RunsFetches, default_sessions
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.meta_graph import register_proto_function
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops import array, state
from paramserve._variables import save_slice
from paramserve._variables.arguments import checked_collections, checked_slices
from paramserve._variables.graph_ops import (
    add_variable_ops,
    describe_variable_ops,
    find_variable_ops,
)
from paramserve._variables.initialized import add_initialized_value
from paramserve._variables.operators import TensorOperators
from paramserve._variables.replicas import (
    VariableAggregation,
    VariableSynchronization,
    is_trainable,
)
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.variable_pb2 import VariableDef

Constraint: TypeAlias = Callable[[Any], Any]


class Variable(TensorOperators):
    """A tensor that keeps its value between steps.

        w = ps.Variable(ps.random_normal([784, 200], stddev=0.35), name="weights")
        y = ps.matmul(x, w) + 1.0
        w.assign_sub(0.1 * gradient)

    The initial value says type and shape. The variable has no value before its `initializer` ran
    or it was restored from a checkpoint; reading it then is a FailedPreconditionError. Wherever
    the program makes it, it does not depend on control dependencies, and it is initialised outside
    of a conditional. An initial value that is computed from other variables takes their
    `initialized_value()`, so that all may be initialised in one step.

    Args:
        initial_value: a tensor, or what becomes one, or a callable without arguments that answers
            it. A callable's ops go where the variable is.
        trainable: add it to the collection of variables that optimizers change.
        collections: the collections to add it to; `[GraphKeys.GLOBAL_VARIABLES]` by default.
        validate_shape: whether the shape of the initial value must be known, and is the shape of
            the variable for good. Without, the shape of the variable is not known in the graph.
        caching_device: a device that reads the value once per step for all readers there.
        name: the name of the op, made unique; "Variable" by default.
        variable_def: find the variable that the message describes in the default graph, instead
            of making one.
        dtype: the type to convert the initial value to; a callable needs it.
        expected_shape: the shape that a callable's value will have. It saves moving the value to
            the variable's task, because its ops can be placed there when they are made.
        import_scope: with `variable_def`, the scope that the graph was imported into.
        constraint: a function of the value that optimizers apply after each update, such as
            `lambda w: ps.clip_by_norm(w, 1.0)`; the result replaces the value.
        use_resource: read the variable anew by each use, when the control dependencies around the
            use are done, as TensorFlow's resource variables are. By default all uses share the
            value of one reading.
        synchronization: of no effect, a variable has one copy; but one that is synchronized
            `ON_READ` is a statistic and not trainable.
        aggregation: of no effect.

    Raises:
        TypeError: the initial value cannot become a tensor of `dtype`.
        ValueError: no initial value, one of unknown shape, a callable without `dtype`,
            `collections` that is no list, tuple or set, or a `variable_def` beside an initial
            value.
    """

    __array_priority__ = 100  # NumPy leaves `array + variable` to the variable.

    SaveSliceInfo: ClassVar[type[save_slice.SaveSliceInfo]] = save_slice.SaveSliceInfo

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = True,
        collections: Iterable[Any] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: VariableDef | None = None,
        dtype: DTypeLike | None = None,
        expected_shape: ShapeLike | None = None,
        import_scope: str | None = None,
        constraint: Constraint | None = None,
        use_resource: bool | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> None:
        self._constraint = constraint
        self._is_read_anew = bool(use_resource)
        self._synchronization = synchronization
        self._aggregation = aggregation
        self._initialized_value: Tensor | None = None
        self._save_slice_info: save_slice.SaveSliceInfo | None = None
        if variable_def is not None:
            if initial_value is not None:
                raise ValueError("variable_def and initial_value are mutually exclusive.")
            self._ops = find_variable_ops(variable_def, import_scope)
            self._trainable = variable_def.trainable
            if variable_def.HasField("save_slice_info_def"):
                self._save_slice_info = save_slice.SaveSliceInfo.from_proto(
                    variable_def.save_slice_info_def, import_scope
                )
            return
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        keys = checked_collections(collections)
        trainable = is_trainable(trainable, synchronization)
        if trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
            keys.append(GraphKeys.TRAINABLE_VARIABLES)
        self._trainable = trainable
        self._ops = add_variable_ops(
            initial_value,
            dtype=dtype,
            shape=expected_shape,
            validate_shape=validate_shape,
            caching_device=caching_device,
            name=name,
        )
        self.graph.add_to_collections(keys, self)

    # What it is.

    @property
    def name(self) -> str:
        """The name of the reference, such as "weights:0"; `op.name` is without the number."""
        return self._ops.ref.name

    @property
    def op(self) -> Operation:
        """The op that holds the variable."""
        return self._ops.ref.op

    @property
    def graph(self) -> Graph:
        """The graph that it belongs to."""
        return self._ops.ref.graph

    @property
    def device(self) -> str:
        """The device that it was put on; "" where the session chooses."""
        return self._ops.ref.device

    @property
    def dtype(self) -> DType:
        """The type, a reference type; `dtype.base_dtype` is that of the value."""
        return self._ops.ref.dtype

    @property
    def shape(self) -> TensorShape:
        """The shape; unknown with `validate_shape=False`."""
        return self._ops.ref.shape

    def get_shape(self) -> TensorShape:
        """The shape; unknown with `validate_shape=False`."""
        return self._ops.ref.shape

    def set_shape(self, shape: ShapeLike) -> None:
        """Says more about the shape than the graph knows.

        Raises:
            ValueError: it contradicts what is known.
        """
        self._ops.ref.set_shape(shape)
        self._ops.snapshot.set_shape(shape)

    @property
    def trainable(self) -> bool:
        """Whether it was made for optimizers to change."""
        return self._trainable

    @property
    def constraint(self) -> Constraint | None:
        """What optimizers apply to the value after each update."""
        return self._constraint

    @property
    def synchronization(self) -> VariableSynchronization:
        """What the program said; there is one copy of the variable."""
        return self._synchronization

    @property
    def aggregation(self) -> VariableAggregation:
        """What the program said; there is one copy of the variable."""
        return self._aggregation

    @property
    def initializer(self) -> Operation:
        """The op that stores the initial value."""
        return self._ops.initializer

    @property
    def initial_value(self) -> Tensor:
        """What the initializer stores; random values are drawn anew in every step that asks."""
        return self._ops.initial_value

    def _begin_as(self, value: Tensor, initializer: Operation) -> None:
        """Makes the variable begin as another value, which `initializer` stores."""
        self._ops = replace(self._ops, initial_value=value, initializer=initializer)
        self._initialized_value = None

    # Reading.

    def value(self) -> Tensor:
        """The tensor that everybody reads the variable through.

        Its reading is not ordered with updates in the same step; see `read_value`. With
        `use_resource` it is a reading of its own, which is.
        """
        return self.read_value() if self._is_read_anew else self._ops.snapshot

    def read_value(self) -> Tensor:
        """A new op that reads the variable when the control dependencies around it are done.

        with ps.control_dependencies([update]):
            after = v.read_value()
        """
        with self.graph.as_default(), self.graph.colocate_with(self.op, ignore_existing=True):
            return array.identity(self._ops.ref, name="read")

    def ref(self) -> Tensor:
        """The reference, for ops that change the variable."""
        return self._ops.ref

    def initialized_value(self) -> Tensor:
        """The value if the variable has one, else its initial value.

        Use it to initialise a variable from another one: all of them may then be initialised in
        one step, in any order. The initial value is computed once in a step, so that random values
        are those that the initializer of this variable stores in the same step.

            w2 = ps.Variable(w.initialized_value() * 2.0)

        A step that finds the variable initialised takes its value, also where its initializer
        runs again in that step.
        """
        if self._initialized_value is None:
            self._initialized_value = add_initialized_value(self._ops.ref, self._ops.initial_value)
        return self._initialized_value

    def eval(self, session: RunsFetches | None = None) -> Any:
        """Computes the value in `session`, or in the default session.

        Returns:
            A NumPy array of the caller's own.

        Raises:
            FailedPreconditionError: the variable has no value.
            ValueError: there is no session, or it runs another graph.
        """
        return self._ops.ref.eval(session=session)

    # Changing.

    def assign(
        self,
        value: TensorLike,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """An op that replaces the value.

        Args:
            value: the new value, of the variable's type and shape.
            use_locking: of no effect, updates are atomic anyway.
            name: the name of the op.
            read_value: answer the value after the update; else the operation.

        Returns:
            A tensor, the value after the update.

        Raises:
            TypeError: a value of another type.
            ValueError: a value whose shape cannot match.
        """
        assigned = state.assign(self._ops.ref, value, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def assign_add(
        self,
        delta: TensorLike,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """An op that adds `delta` to the value; see `assign`."""
        assigned = state.assign_add(self._ops.ref, delta, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def assign_sub(
        self,
        delta: TensorLike,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Any:
        """An op that subtracts `delta` from the value; see `assign`."""
        assigned = state.assign_sub(self._ops.ref, delta, use_locking=use_locking, name=name)
        return assigned if read_value else assigned.op

    def scatter_add(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """An op that adds rows to some rows of the value; a row named twice is changed twice.

        Args:
            sparse_delta: the rows and their numbers.
            use_locking: of no effect, updates are atomic anyway.
            name: the name of the op.

        Returns:
            A tensor, the value after the update.

        Raises:
            InvalidArgumentError: at run time, a number that is out of range; nothing was changed.
            TypeError: `sparse_delta` is no IndexedSlices.
        """
        rows = checked_slices(sparse_delta)
        return state.scatter_add(self._ops.ref, rows.indices, rows.values, use_locking, name)

    def scatter_sub(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """An op that subtracts rows from some rows of the value; see `scatter_add`."""
        rows = checked_slices(sparse_delta)
        return state.scatter_sub(self._ops.ref, rows.indices, rows.values, use_locking, name)

    def scatter_update(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """An op that replaces some rows of the value; of a row named twice, one of the two stays.

        See `scatter_add`.
        """
        rows = checked_slices(sparse_delta)
        return state.scatter_update(self._ops.ref, rows.indices, rows.values, use_locking, name)

    def count_up_to(self, limit: int) -> Tensor:
        """An op that adds 1 to a scalar integer variable, as long as it is below `limit`.

        Returns:
            A tensor, the value before.

        Raises:
            OutOfRangeError: at run time, the value is `limit`; it stays.
        """
        return state.count_up_to(self._ops.ref, limit=limit)

    def load(self, value: Any, session: RunsFetches | None = None) -> None:
        """Stores a value now; adds nothing to the graph.

        Args:
            value: an array, or what becomes one, of the variable's type and shape.
            session: the session; the default one by default.

        Raises:
            ValueError: there is no session, or a shape that does not match.
        """
        session = session or default_sessions.get()
        if session is None:
            raise ValueError(
                f"{self.op.name}: cannot load() without a session: no default session is "
                "registered. Use `with sess.as_default()` or pass the session"
            )
        initializer = self._ops.initializer
        session.run(initializer, {initializer.inputs[1]: value})

    # Messages.

    def to_proto(self, export_scope: str | None = None) -> VariableDef | None:
        """The names of the variable's ops, as a message.

        Args:
            export_scope: leave this scope out of the names; None answers for a variable outside.
        """
        message = describe_variable_ops(self._ops, export_scope)
        if message is None:
            return None
        message.trainable = self._trainable
        if self._save_slice_info is not None:
            place = self._save_slice_info.to_proto(export_scope)
            if place is not None:
                message.save_slice_info_def.CopyFrom(place)
        return message

    @staticmethod
    def from_proto(variable_def: VariableDef, import_scope: str | None = None) -> Variable:
        """The variable of the default graph that a message describes.

        Args:
            variable_def: the message.
            import_scope: the scope that the graph was imported into.

        Raises:
            KeyError: an op is not in the graph.
            ValueError: the message describes no variable that is known here.
        """
        return Variable(variable_def=variable_def, import_scope=import_scope)

    # As a part of a partitioned variable.

    def _set_save_slice_info(self, save_slice_info: save_slice.SaveSliceInfo) -> None:
        """Says which part of a larger tensor this is, before anybody saves it."""
        self._save_slice_info = save_slice_info

    def _get_save_slice_info(self) -> save_slice.SaveSliceInfo | None:
        return self._save_slice_info

    # As a tensor.

    def _as_graph_element(self) -> Tensor:
        """What a session fetches or feeds in place of the variable."""
        return self._ops.ref

    def __iter__(self) -> Iterator[NoReturn]:
        raise TypeError(
            f"'Variable' object is not iterable: '{self.name}' has no elements while the graph is "
            "built; use unpack(variable)"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
        raise TypeError(
            f"'{self.name}' has no value while the graph is built, so it cannot become a NumPy "
            "array; run it in a session, or use variable.eval()"
        )

    def __repr__(self) -> str:
        return f"<paramserve.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"


def _to_tensor(
    variable: Variable, dtype: DType | None = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    if dtype is not None and not dtype.is_compatible_with(variable.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{dtype.name}' for variable of type "
            f"'{variable.dtype.name}': {variable!r}"
        )
    return variable.ref() if as_ref else variable.value()


def _to_proto(item: Any) -> VariableDef | None:
    if not isinstance(item, Variable):
        raise TypeError(f"{item!r} is not a Variable")
    return item.to_proto()


register_tensor_conversion_function(Variable, _to_tensor)
for _collection in (
    GraphKeys.GLOBAL_STEP,
    GraphKeys.GLOBAL_VARIABLES,
    GraphKeys.LOCAL_VARIABLES,
    GraphKeys.MODEL_VARIABLES,
    GraphKeys.MOVING_AVERAGE_VARIABLES,
    GraphKeys.TRAINABLE_VARIABLES,
):
    register_proto_function(
        _collection, VariableDef, to_proto=_to_proto, from_proto=Variable.from_proto
    )

"""The errors of the whole system: one class per gRPC status code, with TensorFlow's names.

Every layer raises these. A raise site inside core usually knows only a message
(`raise InvalidArgumentError(None, None, "weights: ...")`); whoever catches it on the way up adds
what it knows: the executor the op's name, the server its task, the client the line of the user's
program that created the op. So the three extra attributes are plain and writable, and `str()` is
put together when it is asked for.

An error crosses a process boundary as (code, message, node name, task) and is rebuilt by
`error_from_status`.

Threads: an error belongs to whoever caught it; nothing here is shared.
"""

from __future__ import annotations

import copy
from typing import Any, Final, Protocol, Self

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16


class RaisingOp(Protocol):
    """The part of a graph operation that an error shows (core does not know the client's class)."""

    @property
    def name(self) -> str:
        """The op's name in its graph."""

    @property
    def type(self) -> str:
        """The op's type, such as `MatMul`."""


class RaisingNode(Protocol):
    """The part of a `NodeDef` that an error shows."""

    @property
    def name(self) -> str:
        """The node's name in its graph."""

    @property
    def op(self) -> str:
        """The node's op type, such as `MatMul`."""


class OpError(Exception):
    """Something that failed while a graph was run, saved or restored.

    Attributes:
        node_name: Name of the op that failed; taken from `op` or `node_def` when not given.
        op_type: Its type, such as `MatMul`; taken from `op` or `node_def`.
        task: The task that raised it, such as `/job:ps/replica:0/task:0`; None in process.
        created_at: Where in the user's program the op was created; filled in by the client.
    """

    node_name: str | None
    op_type: str | None
    task: str | None
    created_at: str | None

    def __init__(
        self,
        node_def: RaisingNode | None,
        op: RaisingOp | None,
        message: str,
        error_code: int,
        *,
        node_name: str | None = None,
        task: str | None = None,
        created_at: str | None = None,
    ) -> None:
        """Creates the error.

        Args:
            node_def: The `NodeDef` of the op that failed, or None.
            op: The graph operation that failed, or None when it is not known in this process.
            message: What was found, what was wanted, and what to do.
            error_code: A gRPC status code.
            node_name: The op's name, when neither `node_def` nor `op` is at hand.
            task: The task that raised the error.
            created_at: Where the op was created.
        """
        super().__init__(message)
        self._node_def = node_def
        self._op = op
        self.op_type = None
        self._message = message
        self._error_code = error_code
        self.node_name = node_name
        self.task = task
        self.created_at = created_at
        source = op if op is not None else node_def
        if source is not None and node_name is None:
            self.node_name = source.name
        if op is not None:
            self.op_type = op.type
        elif node_def is not None:
            self.op_type = node_def.op

    @property
    def message(self) -> str:
        """The message alone, without op, task and creation site."""
        return self._message

    @property
    def error_code(self) -> int:
        """The gRPC status code."""
        return self._error_code

    @property
    def op(self) -> RaisingOp | None:
        """The graph operation that failed; None when it is not known in this process."""
        return self._op

    @property
    def node_def(self) -> RaisingNode | None:
        """The `NodeDef` of the op that failed; None when it is not known."""
        return self._node_def

    def __str__(self) -> str:
        lines = [self._message]
        if self.node_name:
            kind = f" ({self.op_type})" if self.op_type else ""
            lines.append(f"  op: {self.node_name}{kind}")
        if self.task:
            lines.append(f"  task: {self.task}")
        if self.created_at:
            site = self.created_at.strip("\n")
            head = "  created at:"
            lines.append(f"{head}\n{site}" if "\n" in site else f"{head} {site.strip()}")
        return "\n".join(lines)

    def __copy__(self) -> Self:
        clone = type(self).__new__(type(self), self._message)
        clone.__dict__.update(self.__dict__)
        # A copy is raised anew, so it starts without the traceback, but it keeps its cause.
        clone.__cause__ = self.__cause__
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # An op drags its whole graph along; an error only refers to it.
        return copy.copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # The op lives in the graph of this process and cannot travel; its name and type can.
        state = dict(self.__dict__, _op=None)
        return (_blank, (type(self), self._message), state)


def _blank(cls: type[OpError], message: str) -> OpError:
    """The unpickler's first half: an error of any constructor signature, still without state."""
    return cls.__new__(cls, message)


class _CodedError(OpError):
    """The constructor that all sixteen classes share; each has its code in `_CODE`."""

    _CODE: int

    def __init__(
        self,
        node_def: RaisingNode | None,
        op: RaisingOp | None,
        message: str,
        *,
        node_name: str | None = None,
        task: str | None = None,
        created_at: str | None = None,
    ) -> None:
        super().__init__(
            node_def,
            op,
            message,
            self._CODE,
            node_name=node_name,
            task=task,
            created_at=created_at,
        )


class CancelledError(_CodedError):
    """The step was cancelled: by an interrupt, by a closed session, or by another op's failure."""

    _CODE = CANCELLED


class UnknownError(_CodedError):
    """A failure that nobody classified; also what an unknown status code becomes."""

    _CODE = UNKNOWN


class InvalidArgumentError(_CodedError):
    """An op got a value, shape or type that it can never accept."""

    _CODE = INVALID_ARGUMENT


class DeadlineExceededError(_CodedError):
    """The time given to the call ran out; the step is cancelled on the servers."""

    _CODE = DEADLINE_EXCEEDED


class NotFoundError(_CodedError):
    """Something named does not exist: a file, a checkpoint key, a variable."""

    _CODE = NOT_FOUND


class AlreadyExistsError(_CodedError):
    """Something to be created exists already."""

    _CODE = ALREADY_EXISTS


class PermissionDeniedError(_CodedError):
    """The caller is known and may not do this, such as writing outside the checkpoint root."""

    _CODE = PERMISSION_DENIED


class ResourceExhaustedError(_CodedError):
    """A limit was reached: memory, message size, sessions, nodes. The message names the limit."""

    _CODE = RESOURCE_EXHAUSTED


class FailedPreconditionError(_CodedError):
    """The system is not in the state the op needs, such as reading an uninitialized variable."""

    _CODE = FAILED_PRECONDITION


class AbortedError(_CodedError):
    """The work was given up and may be begun again, such as after a server restarted."""

    _CODE = ABORTED


class OutOfRangeError(_CodedError):
    """The end of a range was passed, such as the limit of `count_up_to`."""

    _CODE = OUT_OF_RANGE


class UnimplementedError(_CodedError):
    """No kernel, or no support at all, for what was asked."""

    _CODE = UNIMPLEMENTED


class InternalError(_CodedError):
    """An invariant of this software is broken: a bug worth reporting."""

    _CODE = INTERNAL


class UnavailableError(_CodedError):
    """The server cannot be reached now; the same call may succeed later."""

    _CODE = UNAVAILABLE


class DataLossError(_CodedError):
    """Stored data is damaged: a checksum or a length does not match."""

    _CODE = DATA_LOSS


class UnauthenticatedError(_CodedError):
    """The server does not know who calls: no token or certificate, or a wrong one."""

    _CODE = UNAUTHENTICATED


_CLASS_OF_CODE: Final[dict[int, type[_CodedError]]] = {
    cls._CODE: cls for cls in _CodedError.__subclasses__()
}


def exception_type_from_error_code(error_code: int) -> type[OpError]:
    """The class for a status code.

    Raises:
        KeyError: `error_code` is `OK` or no status code at all.
    """
    try:
        return _CLASS_OF_CODE[error_code]
    except KeyError:
        raise KeyError(f"{error_code!r} is no error code; they run from 1 to 16") from None


def error_code_from_exception_type(cls: type[BaseException]) -> int:
    """The status code of an error class or a subclass of one; `UNKNOWN` for every other class.

    TensorFlow answers an unknown class with an instance of `UnknownError`; a code is what a
    caller can use.
    """
    return cls._CODE if issubclass(cls, _CodedError) else UNKNOWN


def error_from_status(
    code: int,
    message: str,
    node_name: str | None = None,
    task: str | None = None,
    op_type: str | None = None,
) -> OpError:
    """Rebuilds the error that another process reported.

    Args:
        code: The status code. One that this version does not know becomes `UnknownError`, with
            the number in the message.
        message: The message alone.
        node_name: Name of the op that failed.
        task: The task that raised it.
        op_type: Type of the op that failed.

    Returns:
        The error, for the caller to raise.

    Raises:
        ValueError: `code` is `OK`, which is no error.
    """
    if code == OK:
        raise ValueError(f"status OK is no error (message {message!r})")
    cls = _CLASS_OF_CODE.get(code)
    if cls is None:
        cls, message = UnknownError, f"{message} (unknown status code {code})"
    error = cls(None, None, message, node_name=node_name, task=task)
    error.op_type = op_type
    return error

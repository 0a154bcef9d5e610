"""What a failing step, save or restore raises, and the status codes behind it.

`OpError` is the root; below it is one class for each gRPC status code. Each error has the op that
failed, the task that raised it, and the line of the program that made the op.
"""

from paramserve_core.errors import ABORTED as ABORTED
from paramserve_core.errors import ALREADY_EXISTS as ALREADY_EXISTS
from paramserve_core.errors import CANCELLED as CANCELLED
from paramserve_core.errors import DATA_LOSS as DATA_LOSS
from paramserve_core.errors import DEADLINE_EXCEEDED as DEADLINE_EXCEEDED
from paramserve_core.errors import FAILED_PRECONDITION as FAILED_PRECONDITION
from paramserve_core.errors import INTERNAL as INTERNAL
from paramserve_core.errors import INVALID_ARGUMENT as INVALID_ARGUMENT
from paramserve_core.errors import NOT_FOUND as NOT_FOUND
from paramserve_core.errors import OK as OK
from paramserve_core.errors import OUT_OF_RANGE as OUT_OF_RANGE
from paramserve_core.errors import PERMISSION_DENIED as PERMISSION_DENIED
from paramserve_core.errors import RESOURCE_EXHAUSTED as RESOURCE_EXHAUSTED
from paramserve_core.errors import UNAUTHENTICATED as UNAUTHENTICATED
from paramserve_core.errors import UNAVAILABLE as UNAVAILABLE
from paramserve_core.errors import UNIMPLEMENTED as UNIMPLEMENTED
from paramserve_core.errors import UNKNOWN as UNKNOWN
from paramserve_core.errors import AbortedError as AbortedError
from paramserve_core.errors import AlreadyExistsError as AlreadyExistsError
from paramserve_core.errors import CancelledError as CancelledError
from paramserve_core.errors import DataLossError as DataLossError
from paramserve_core.errors import DeadlineExceededError as DeadlineExceededError
from paramserve_core.errors import FailedPreconditionError as FailedPreconditionError
from paramserve_core.errors import InternalError as InternalError
from paramserve_core.errors import InvalidArgumentError as InvalidArgumentError
from paramserve_core.errors import NotFoundError as NotFoundError
from paramserve_core.errors import OpError as OpError
from paramserve_core.errors import OutOfRangeError as OutOfRangeError
from paramserve_core.errors import PermissionDeniedError as PermissionDeniedError
from paramserve_core.errors import ResourceExhaustedError as ResourceExhaustedError
from paramserve_core.errors import UnauthenticatedError as UnauthenticatedError
from paramserve_core.errors import UnavailableError as UnavailableError
from paramserve_core.errors import UnimplementedError as UnimplementedError
from paramserve_core.errors import UnknownError as UnknownError
from paramserve_core.errors import error_code_from_exception_type as error_code_from_exception_type
from paramserve_core.errors import exception_type_from_error_code as exception_type_from_error_code

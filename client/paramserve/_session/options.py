"""Options of sessions and of runs, checked before they are used.

A message keeps fields that it does not know, and an option that is silently ignored is worse than
one that is refused; so those are looked for.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.unknown_fields import UnknownFieldSet

from paramserve_core.dtypes import as_dtype
from paramserve_core.transport.wire import COMPRESSIONS, WIRE_DTYPES, WireOptions
from paramserve_protos.v1.config_pb2 import ConfigProto, RunOptions

_TENSORFLOW_CONFIG: Final = {
    3: "placement_period",
    6: "gpu_options",
    10: "graph_options",
    12: "session_inter_op_thread_pool",
    13: "rpc_options",
    16: "experimental",
    17: "share_cluster_devices_in_session",
    18: "coordination_config",
}
_TENSORFLOW_RUN_OPTIONS: Final = {6: "debug_options", 8: "experimental"}


def checked_config(config: Any, *, is_shared: bool = False) -> ConfigProto:
    """A copy of the session's options; those of a new message for None.

    Args:
        config: the options.
        is_shared: whether the session's variables are on servers, for every session to see.

    Raises:
        TypeError: `config` is no `ConfigProto` of this package.
        ValueError: it has fields that mean nothing here; the message names them.
    """
    if config is None:
        return ConfigProto()
    if not isinstance(config, ConfigProto):
        raise TypeError(
            f"config must be a paramserve.ConfigProto, but got {type(config).__name__!r}"
        )
    _refuse_unknown(config, _TENSORFLOW_CONFIG)
    if config.operation_timeout_in_ms < 0:
        raise ValueError(
            f"operation_timeout_in_ms is {config.operation_timeout_in_ms}; wanted 0 (none) or more"
        )
    if config.isolate_session_state and is_shared:
        raise ValueError(
            "isolate_session_state: variables on servers are shared by name with every session; "
            "make those of this program within `with container('a name of its own')`"
        )
    result = ConfigProto()
    result.CopyFrom(config)
    return result


def checked_run_options(options: Any) -> RunOptions:
    """The options of one run.

    Raises:
        TypeError: `options` is no `RunOptions` of this package.
        ValueError: it has fields that mean nothing here, a negative timeout, or a trace level that
            there is not.
    """
    if not isinstance(options, RunOptions):
        raise TypeError(
            f"options must be a paramserve.RunOptions, but got {type(options).__name__!r}"
        )
    _refuse_unknown(options, _TENSORFLOW_RUN_OPTIONS)
    if options.timeout_in_ms < 0:
        raise ValueError(f"timeout_in_ms is {options.timeout_in_ms}; wanted 0 (none) or more")
    if options.trace_level not in RunOptions.TraceLevel.values():
        known = ", ".join(RunOptions.TraceLevel.keys())
        raise ValueError(f"trace_level is {options.trace_level}; wanted one of {known}")
    return options


def checked_wire(wire_dtype: Any, compression: Any) -> WireOptions:
    """How a session's messages travel.

    Raises:
        TypeError: one of them is no type, or no string.
        ValueError: a type or a compression that there is not.
    """
    if compression is not None and not isinstance(compression, str):
        raise TypeError(f"compression must be a string, but got {type(compression).__name__!r}")
    if compression and compression not in COMPRESSIONS:
        raise ValueError(
            f"compression is {compression!r}; gRPC offers 'gzip', or None for no compression"
        )
    dtype = None if wire_dtype is None else as_dtype(wire_dtype)
    if dtype is not None and dtype not in WIRE_DTYPES:
        raise ValueError(
            f"wire_dtype is {dtype.name}; float32 tensors can travel as bfloat16 or float16, or, "
            "with None, as they are"
        )
    return WireOptions(dtype=dtype, compression=compression or "")


def seconds(milliseconds: int) -> float | None:
    """A timeout in the unit of this project; None where there is none."""
    return milliseconds / 1000 if milliseconds else None


def _refuse_unknown(message: ProtoMessage, names: dict[int, str]) -> None:
    unknown = UnknownFieldSet(message)
    numbers = sorted({unknown[i].field_number for i in range(len(unknown))})
    if numbers:
        kind = type(message).__name__
        found = ", ".join(f"{names.get(number, 'unknown')} (field {number})" for number in numbers)
        known = ", ".join(sorted(message.DESCRIPTOR.fields_by_name))
        raise ValueError(f"{kind} has options that mean nothing here: {found}; it takes {known}")

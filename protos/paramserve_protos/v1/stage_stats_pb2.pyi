from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class StageStats(_message.Message):
    __slots__ = ("task", "stage", "transport", "start_nanos", "round_trip_nanos", "wait_nanos", "apply_nanos", "request_bytes", "response_bytes", "ops_left_out")
    TASK_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    START_NANOS_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_NANOS_FIELD_NUMBER: _ClassVar[int]
    WAIT_NANOS_FIELD_NUMBER: _ClassVar[int]
    APPLY_NANOS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    task: str
    stage: int
    transport: str
    start_nanos: int
    round_trip_nanos: int
    wait_nanos: int
    apply_nanos: int
    request_bytes: int
    response_bytes: int
    ops_left_out: int
    def __init__(self, task: _Optional[str] = ..., stage: _Optional[int] = ..., transport: _Optional[str] = ..., start_nanos: _Optional[int] = ..., round_trip_nanos: _Optional[int] = ..., wait_nanos: _Optional[int] = ..., apply_nanos: _Optional[int] = ..., request_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., ops_left_out: _Optional[int] = ...) -> None: ...

from paramserve_protos.v1 import service_pb2 as _service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LocalPacket(_message.Message):
    __slots__ = ("envelope", "segments", "shared", "released", "dropped", "nonce", "refusal", "tensors", "body")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    segments: _containers.RepeatedCompositeFieldContainer[LentSegment]
    shared: _containers.RepeatedCompositeFieldContainer[SharedTensor]
    released: _containers.RepeatedScalarFieldContainer[int]
    dropped: _containers.RepeatedScalarFieldContainer[int]
    nonce: bytes
    refusal: _service_pb2.Status
    tensors: bytes
    body: SharedBytes
    def __init__(self, envelope: _Optional[bytes] = ..., segments: _Optional[_Iterable[_Union[LentSegment, _Mapping]]] = ..., shared: _Optional[_Iterable[_Union[SharedTensor, _Mapping]]] = ..., released: _Optional[_Iterable[int]] = ..., dropped: _Optional[_Iterable[int]] = ..., nonce: _Optional[bytes] = ..., refusal: _Optional[_Union[_service_pb2.Status, _Mapping]] = ..., tensors: _Optional[bytes] = ..., body: _Optional[_Union[SharedBytes, _Mapping]] = ...) -> None: ...

class TensorList(_message.Message):
    __slots__ = ("tensors",)
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[_service_pb2.TensorHeader]
    def __init__(self, tensors: _Optional[_Iterable[_Union[_service_pb2.TensorHeader, _Mapping]]] = ...) -> None: ...

class LentSegment(_message.Message):
    __slots__ = ("id", "bytes", "lease")
    ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    id: int
    bytes: int
    lease: int
    def __init__(self, id: _Optional[int] = ..., bytes: _Optional[int] = ..., lease: _Optional[int] = ...) -> None: ...

class SharedTensor(_message.Message):
    __slots__ = ("tensor", "segment", "offset")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    segment: int
    offset: int
    def __init__(self, tensor: _Optional[int] = ..., segment: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class SharedBytes(_message.Message):
    __slots__ = ("segment", "offset", "bytes")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    segment: int
    offset: int
    bytes: int
    def __init__(self, segment: _Optional[int] = ..., offset: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

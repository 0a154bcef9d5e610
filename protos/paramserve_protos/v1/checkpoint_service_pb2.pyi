from paramserve_protos.v1 import tensor_shape_pb2 as _tensor_shape_pb2
from paramserve_protos.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckpointFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKPOINT_FORMAT_SAFETENSORS: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_TENSORFLOW_V1: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_TENSORFLOW_V2: _ClassVar[CheckpointFormat]
CHECKPOINT_FORMAT_SAFETENSORS: CheckpointFormat
CHECKPOINT_FORMAT_TENSORFLOW_V1: CheckpointFormat
CHECKPOINT_FORMAT_TENSORFLOW_V2: CheckpointFormat

class Slice(_message.Message):
    __slots__ = ("full_shape", "offset", "shape")
    FULL_SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    full_shape: _containers.RepeatedScalarFieldContainer[int]
    offset: _containers.RepeatedScalarFieldContainer[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, full_shape: _Optional[_Iterable[int]] = ..., offset: _Optional[_Iterable[int]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class CheckpointEntry(_message.Message):
    __slots__ = ("key", "node", "container", "shared_name", "slice", "dtype", "reshape", "shape", "cast")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    SHARED_NAME_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    RESHAPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    key: str
    node: str
    container: str
    shared_name: str
    slice: Slice
    dtype: _types_pb2.DataType
    reshape: bool
    shape: _tensor_shape_pb2.TensorShapeProto
    cast: bool
    def __init__(self, key: _Optional[str] = ..., node: _Optional[str] = ..., container: _Optional[str] = ..., shared_name: _Optional[str] = ..., slice: _Optional[_Union[Slice, _Mapping]] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., reshape: bool = ..., shape: _Optional[_Union[_tensor_shape_pb2.TensorShapeProto, _Mapping]] = ..., cast: bool = ...) -> None: ...

class CheckpointEntries(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: _containers.RepeatedCompositeFieldContainer[CheckpointEntry]
    def __init__(self, entry: _Optional[_Iterable[_Union[CheckpointEntry, _Mapping]]] = ...) -> None: ...

class StateUpdate(_message.Message):
    __slots__ = ("latest_filename", "all_paths", "all_timestamps", "delete_paths", "last_preserved_timestamp")
    LATEST_FILENAME_FIELD_NUMBER: _ClassVar[int]
    ALL_PATHS_FIELD_NUMBER: _ClassVar[int]
    ALL_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    DELETE_PATHS_FIELD_NUMBER: _ClassVar[int]
    LAST_PRESERVED_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    latest_filename: str
    all_paths: _containers.RepeatedScalarFieldContainer[str]
    all_timestamps: _containers.RepeatedScalarFieldContainer[float]
    delete_paths: _containers.RepeatedScalarFieldContainer[str]
    last_preserved_timestamp: float
    def __init__(self, latest_filename: _Optional[str] = ..., all_paths: _Optional[_Iterable[str]] = ..., all_timestamps: _Optional[_Iterable[float]] = ..., delete_paths: _Optional[_Iterable[str]] = ..., last_preserved_timestamp: _Optional[float] = ...) -> None: ...

class SaveRequest(_message.Message):
    __slots__ = ("path", "entries", "format", "has_step", "step", "graph_hash", "state", "meta_graph_path", "meta_graph")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    HAS_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    GRAPH_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    META_GRAPH_PATH_FIELD_NUMBER: _ClassVar[int]
    META_GRAPH_FIELD_NUMBER: _ClassVar[int]
    path: str
    entries: bytes
    format: CheckpointFormat
    has_step: bool
    step: int
    graph_hash: bytes
    state: StateUpdate
    meta_graph_path: str
    meta_graph: bytes
    def __init__(self, path: _Optional[str] = ..., entries: _Optional[bytes] = ..., format: _Optional[_Union[CheckpointFormat, str]] = ..., has_step: bool = ..., step: _Optional[int] = ..., graph_hash: _Optional[bytes] = ..., state: _Optional[_Union[StateUpdate, _Mapping]] = ..., meta_graph_path: _Optional[str] = ..., meta_graph: _Optional[bytes] = ...) -> None: ...

class SaveResponse(_message.Message):
    __slots__ = ("path", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    bytes: int
    def __init__(self, path: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class BeginSaveRequest(_message.Message):
    __slots__ = ("save",)
    SAVE_FIELD_NUMBER: _ClassVar[int]
    save: SaveRequest
    def __init__(self, save: _Optional[_Union[SaveRequest, _Mapping]] = ...) -> None: ...

class BeginSaveResponse(_message.Message):
    __slots__ = ("save",)
    SAVE_FIELD_NUMBER: _ClassVar[int]
    save: int
    def __init__(self, save: _Optional[int] = ...) -> None: ...

class AwaitSaveRequest(_message.Message):
    __slots__ = ("save", "timeout_s")
    SAVE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    save: int
    timeout_s: float
    def __init__(self, save: _Optional[int] = ..., timeout_s: _Optional[float] = ...) -> None: ...

class AwaitSaveResponse(_message.Message):
    __slots__ = ("progress", "saved")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    progress: float
    saved: SaveResponse
    def __init__(self, progress: _Optional[float] = ..., saved: _Optional[_Union[SaveResponse, _Mapping]] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("path", "entries")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    path: str
    entries: bytes
    def __init__(self, path: _Optional[str] = ..., entries: _Optional[bytes] = ...) -> None: ...

class ReadStateRequest(_message.Message):
    __slots__ = ("directory", "latest_filename")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    LATEST_FILENAME_FIELD_NUMBER: _ClassVar[int]
    directory: str
    latest_filename: str
    def __init__(self, directory: _Optional[str] = ..., latest_filename: _Optional[str] = ...) -> None: ...

class ReadStateResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    def __init__(self, state: _Optional[bytes] = ...) -> None: ...

class TakeSnapshotRequest(_message.Message):
    __slots__ = ("save_id", "entries", "path")
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    entries: bytes
    path: str
    def __init__(self, save_id: _Optional[str] = ..., entries: _Optional[bytes] = ..., path: _Optional[str] = ...) -> None: ...

class UnfinishedSave(_message.Message):
    __slots__ = ("name", "save_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    save_id: str
    def __init__(self, name: _Optional[str] = ..., save_id: _Optional[str] = ...) -> None: ...

class WriteShardRequest(_message.Message):
    __slots__ = ("save_id", "shard", "shard_count", "format", "in_background")
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    IN_BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    shard: int
    shard_count: int
    format: CheckpointFormat
    in_background: bool
    def __init__(self, save_id: _Optional[str] = ..., shard: _Optional[int] = ..., shard_count: _Optional[int] = ..., format: _Optional[_Union[CheckpointFormat, str]] = ..., in_background: bool = ...) -> None: ...

class TensorForm(_message.Message):
    __slots__ = ("dtype", "shape", "slice")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    dtype: _types_pb2.DataType
    shape: _tensor_shape_pb2.TensorShapeProto
    slice: Slice
    def __init__(self, dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., shape: _Optional[_Union[_tensor_shape_pb2.TensorShapeProto, _Mapping]] = ..., slice: _Optional[_Union[Slice, _Mapping]] = ...) -> None: ...

class ShardTensors(_message.Message):
    __slots__ = ("key", "form", "offset", "bytes", "record", "checksum_count", "checksums", "forms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    FORMS_FIELD_NUMBER: _ClassVar[int]
    key: _containers.RepeatedScalarFieldContainer[str]
    form: _containers.RepeatedScalarFieldContainer[int]
    offset: _containers.RepeatedScalarFieldContainer[int]
    bytes: _containers.RepeatedScalarFieldContainer[int]
    record: _containers.RepeatedScalarFieldContainer[int]
    checksum_count: _containers.RepeatedScalarFieldContainer[int]
    checksums: _containers.RepeatedScalarFieldContainer[int]
    forms: _containers.RepeatedCompositeFieldContainer[TensorForm]
    def __init__(self, key: _Optional[_Iterable[str]] = ..., form: _Optional[_Iterable[int]] = ..., offset: _Optional[_Iterable[int]] = ..., bytes: _Optional[_Iterable[int]] = ..., record: _Optional[_Iterable[int]] = ..., checksum_count: _Optional[_Iterable[int]] = ..., checksums: _Optional[_Iterable[int]] = ..., forms: _Optional[_Iterable[_Union[TensorForm, _Mapping]]] = ...) -> None: ...

class WriteShardResponse(_message.Message):
    __slots__ = ("file", "bytes", "tensors", "header_bytes", "header_checksum", "chunk_bytes", "generation", "unfinished")
    FILE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    HEADER_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEADER_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    file: str
    bytes: int
    tensors: ShardTensors
    header_bytes: int
    header_checksum: int
    chunk_bytes: int
    generation: int
    unfinished: _containers.RepeatedCompositeFieldContainer[UnfinishedSave]
    def __init__(self, file: _Optional[str] = ..., bytes: _Optional[int] = ..., tensors: _Optional[_Union[ShardTensors, _Mapping]] = ..., header_bytes: _Optional[int] = ..., header_checksum: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., generation: _Optional[int] = ..., unfinished: _Optional[_Iterable[_Union[UnfinishedSave, _Mapping]]] = ...) -> None: ...

class PrepareCommitRequest(_message.Message):
    __slots__ = ("save_id", "index", "meta_graph_path", "meta_graph")
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    META_GRAPH_PATH_FIELD_NUMBER: _ClassVar[int]
    META_GRAPH_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    index: bytes
    meta_graph_path: str
    meta_graph: bytes
    def __init__(self, save_id: _Optional[str] = ..., index: _Optional[bytes] = ..., meta_graph_path: _Optional[str] = ..., meta_graph: _Optional[bytes] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("save_id",)
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    def __init__(self, save_id: _Optional[str] = ...) -> None: ...

class FinishSaveRequest(_message.Message):
    __slots__ = ("save_id", "path", "state", "abandoned")
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    path: str
    state: StateUpdate
    abandoned: _containers.RepeatedCompositeFieldContainer[UnfinishedSave]
    def __init__(self, save_id: _Optional[str] = ..., path: _Optional[str] = ..., state: _Optional[_Union[StateUpdate, _Mapping]] = ..., abandoned: _Optional[_Iterable[_Union[UnfinishedSave, _Mapping]]] = ...) -> None: ...

class AdoptIndexRequest(_message.Message):
    __slots__ = ("path", "index")
    PATH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    path: str
    index: bytes
    def __init__(self, path: _Optional[str] = ..., index: _Optional[bytes] = ...) -> None: ...

class AbortSaveRequest(_message.Message):
    __slots__ = ("save_id", "keep_files")
    SAVE_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_FILES_FIELD_NUMBER: _ClassVar[int]
    save_id: str
    keep_files: bool
    def __init__(self, save_id: _Optional[str] = ..., keep_files: bool = ...) -> None: ...

class ReadIndexRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class TableIndex(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[WriteShardResponse]
    def __init__(self, files: _Optional[_Iterable[_Union[WriteShardResponse, _Mapping]]] = ...) -> None: ...

class ReadIndexResponse(_message.Message):
    __slots__ = ("index", "files", "format")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    index: bytes
    files: _containers.RepeatedScalarFieldContainer[str]
    format: CheckpointFormat
    def __init__(self, index: _Optional[bytes] = ..., files: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[CheckpointFormat, str]] = ...) -> None: ...

class StageRestoreRequest(_message.Message):
    __slots__ = ("restore_id", "path", "entries", "index", "format")
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    restore_id: str
    path: str
    entries: bytes
    index: bytes
    format: CheckpointFormat
    def __init__(self, restore_id: _Optional[str] = ..., path: _Optional[str] = ..., entries: _Optional[bytes] = ..., index: _Optional[bytes] = ..., format: _Optional[_Union[CheckpointFormat, str]] = ...) -> None: ...

class StageRestoreResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[ByteRange]
    def __init__(self, missing: _Optional[_Iterable[_Union[ByteRange, _Mapping]]] = ...) -> None: ...

class SupplyBytesRequest(_message.Message):
    __slots__ = ("restore_id", "range")
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    restore_id: str
    range: ByteRange
    def __init__(self, restore_id: _Optional[str] = ..., range: _Optional[_Union[ByteRange, _Mapping]] = ...) -> None: ...

class ByteRange(_message.Message):
    __slots__ = ("file", "offset", "bytes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    file: str
    offset: int
    bytes: int
    def __init__(self, file: _Optional[str] = ..., offset: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class CommitRestoreRequest(_message.Message):
    __slots__ = ("restore_id",)
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    restore_id: str
    def __init__(self, restore_id: _Optional[str] = ...) -> None: ...

class AbortRestoreRequest(_message.Message):
    __slots__ = ("restore_id",)
    RESTORE_ID_FIELD_NUMBER: _ClassVar[int]
    restore_id: str
    def __init__(self, restore_id: _Optional[str] = ...) -> None: ...

class ReadBytesRequest(_message.Message):
    __slots__ = ("path", "range")
    PATH_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    path: str
    range: ByteRange
    def __init__(self, path: _Optional[str] = ..., range: _Optional[_Union[ByteRange, _Mapping]] = ...) -> None: ...

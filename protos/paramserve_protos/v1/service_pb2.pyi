from paramserve_protos.v1 import checkpoint_service_pb2 as _checkpoint_service_pb2
from paramserve_protos.v1 import cluster_pb2 as _cluster_pb2
from paramserve_protos.v1 import config_pb2 as _config_pb2
from paramserve_protos.v1 import graph_pb2 as _graph_pb2
from paramserve_protos.v1 import step_stats_pb2 as _step_stats_pb2
from paramserve_protos.v1 import tensor_shape_pb2 as _tensor_shape_pb2
from paramserve_protos.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_KIND_UNSPECIFIED: _ClassVar[SessionKind]
    SESSION_KIND_TASK: _ClassVar[SessionKind]
    SESSION_KIND_MASTER: _ClassVar[SessionKind]
SESSION_KIND_UNSPECIFIED: SessionKind
SESSION_KIND_TASK: SessionKind
SESSION_KIND_MASTER: SessionKind

class Frame(_message.Message):
    __slots__ = ("header", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    payload: bytes
    def __init__(self, header: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class TensorHeader(_message.Message):
    __slots__ = ("dtype", "dims", "payload_bytes", "travels_as")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRAVELS_AS_FIELD_NUMBER: _ClassVar[int]
    dtype: _types_pb2.DataType
    dims: _containers.RepeatedScalarFieldContainer[int]
    payload_bytes: int
    travels_as: _types_pb2.DataType
    def __init__(self, dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., dims: _Optional[_Iterable[int]] = ..., payload_bytes: _Optional[int] = ..., travels_as: _Optional[_Union[_types_pb2.DataType, str]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("hello", "welcome", "call", "reply", "acknowledge", "cancel", "tensors")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    welcome: Welcome
    call: Call
    reply: Reply
    acknowledge: Acknowledge
    cancel: Cancel
    tensors: _containers.RepeatedCompositeFieldContainer[TensorHeader]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., tensors: _Optional[_Iterable[_Union[TensorHeader, _Mapping]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("session_id", "kind", "incarnation", "config", "wire")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    kind: SessionKind
    incarnation: int
    config: _config_pb2.ConfigProto
    wire: WireOptions
    def __init__(self, session_id: _Optional[str] = ..., kind: _Optional[_Union[SessionKind, str]] = ..., incarnation: _Optional[int] = ..., config: _Optional[_Union[_config_pb2.ConfigProto, _Mapping]] = ..., wire: _Optional[_Union[WireOptions, _Mapping]] = ...) -> None: ...

class WireOptions(_message.Message):
    __slots__ = ("dtype", "compression")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    dtype: _types_pb2.DataType
    compression: str
    def __init__(self, dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., compression: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("status", "incarnation", "task")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    status: Status
    incarnation: int
    task: Task
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ..., incarnation: _Optional[int] = ..., task: _Optional[_Union[Task, _Mapping]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("name", "incarnation", "address")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    incarnation: int
    address: str
    def __init__(self, name: _Optional[str] = ..., incarnation: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("code", "message", "node_name", "op_type", "task")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    node_name: str
    op_type: str
    task: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., node_name: _Optional[str] = ..., op_type: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("id", "completed_below", "register_plan", "run_stage", "end_steps", "extend_graph", "prepare_plan", "run_step", "save", "restore", "read_state", "list_tasks", "begin_save", "await_save", "hold_steps", "let_steps", "release_steps", "list_variables", "reset_containers", "close_session", "take_snapshot", "write_shard", "prepare_commit", "commit", "finish_save", "abort_save", "adopt_index", "read_index", "stage_restore", "supply_bytes", "commit_restore", "abort_restore", "read_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_BELOW_FIELD_NUMBER: _ClassVar[int]
    REGISTER_PLAN_FIELD_NUMBER: _ClassVar[int]
    RUN_STAGE_FIELD_NUMBER: _ClassVar[int]
    END_STEPS_FIELD_NUMBER: _ClassVar[int]
    EXTEND_GRAPH_FIELD_NUMBER: _ClassVar[int]
    PREPARE_PLAN_FIELD_NUMBER: _ClassVar[int]
    RUN_STEP_FIELD_NUMBER: _ClassVar[int]
    SAVE_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    READ_STATE_FIELD_NUMBER: _ClassVar[int]
    LIST_TASKS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SAVE_FIELD_NUMBER: _ClassVar[int]
    AWAIT_SAVE_FIELD_NUMBER: _ClassVar[int]
    HOLD_STEPS_FIELD_NUMBER: _ClassVar[int]
    LET_STEPS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_STEPS_FIELD_NUMBER: _ClassVar[int]
    LIST_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    RESET_CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    TAKE_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    WRITE_SHARD_FIELD_NUMBER: _ClassVar[int]
    PREPARE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FINISH_SAVE_FIELD_NUMBER: _ClassVar[int]
    ABORT_SAVE_FIELD_NUMBER: _ClassVar[int]
    ADOPT_INDEX_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    STAGE_RESTORE_FIELD_NUMBER: _ClassVar[int]
    SUPPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_RESTORE_FIELD_NUMBER: _ClassVar[int]
    ABORT_RESTORE_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    completed_below: int
    register_plan: RegisterPlan
    run_stage: RunStage
    end_steps: EndSteps
    extend_graph: ExtendGraph
    prepare_plan: PreparePlan
    run_step: RunStep
    save: _checkpoint_service_pb2.SaveRequest
    restore: _checkpoint_service_pb2.RestoreRequest
    read_state: _checkpoint_service_pb2.ReadStateRequest
    list_tasks: ListTasks
    begin_save: _checkpoint_service_pb2.BeginSaveRequest
    await_save: _checkpoint_service_pb2.AwaitSaveRequest
    hold_steps: HoldStepsRequest
    let_steps: LetStepsRequest
    release_steps: ReleaseStepsRequest
    list_variables: ListVariablesRequest
    reset_containers: ResetContainers
    close_session: CloseSession
    take_snapshot: _checkpoint_service_pb2.TakeSnapshotRequest
    write_shard: _checkpoint_service_pb2.WriteShardRequest
    prepare_commit: _checkpoint_service_pb2.PrepareCommitRequest
    commit: _checkpoint_service_pb2.CommitRequest
    finish_save: _checkpoint_service_pb2.FinishSaveRequest
    abort_save: _checkpoint_service_pb2.AbortSaveRequest
    adopt_index: _checkpoint_service_pb2.AdoptIndexRequest
    read_index: _checkpoint_service_pb2.ReadIndexRequest
    stage_restore: _checkpoint_service_pb2.StageRestoreRequest
    supply_bytes: _checkpoint_service_pb2.SupplyBytesRequest
    commit_restore: _checkpoint_service_pb2.CommitRestoreRequest
    abort_restore: _checkpoint_service_pb2.AbortRestoreRequest
    read_bytes: _checkpoint_service_pb2.ReadBytesRequest
    def __init__(self, id: _Optional[int] = ..., completed_below: _Optional[int] = ..., register_plan: _Optional[_Union[RegisterPlan, _Mapping]] = ..., run_stage: _Optional[_Union[RunStage, _Mapping]] = ..., end_steps: _Optional[_Union[EndSteps, _Mapping]] = ..., extend_graph: _Optional[_Union[ExtendGraph, _Mapping]] = ..., prepare_plan: _Optional[_Union[PreparePlan, _Mapping]] = ..., run_step: _Optional[_Union[RunStep, _Mapping]] = ..., save: _Optional[_Union[_checkpoint_service_pb2.SaveRequest, _Mapping]] = ..., restore: _Optional[_Union[_checkpoint_service_pb2.RestoreRequest, _Mapping]] = ..., read_state: _Optional[_Union[_checkpoint_service_pb2.ReadStateRequest, _Mapping]] = ..., list_tasks: _Optional[_Union[ListTasks, _Mapping]] = ..., begin_save: _Optional[_Union[_checkpoint_service_pb2.BeginSaveRequest, _Mapping]] = ..., await_save: _Optional[_Union[_checkpoint_service_pb2.AwaitSaveRequest, _Mapping]] = ..., hold_steps: _Optional[_Union[HoldStepsRequest, _Mapping]] = ..., let_steps: _Optional[_Union[LetStepsRequest, _Mapping]] = ..., release_steps: _Optional[_Union[ReleaseStepsRequest, _Mapping]] = ..., list_variables: _Optional[_Union[ListVariablesRequest, _Mapping]] = ..., reset_containers: _Optional[_Union[ResetContainers, _Mapping]] = ..., close_session: _Optional[_Union[CloseSession, _Mapping]] = ..., take_snapshot: _Optional[_Union[_checkpoint_service_pb2.TakeSnapshotRequest, _Mapping]] = ..., write_shard: _Optional[_Union[_checkpoint_service_pb2.WriteShardRequest, _Mapping]] = ..., prepare_commit: _Optional[_Union[_checkpoint_service_pb2.PrepareCommitRequest, _Mapping]] = ..., commit: _Optional[_Union[_checkpoint_service_pb2.CommitRequest, _Mapping]] = ..., finish_save: _Optional[_Union[_checkpoint_service_pb2.FinishSaveRequest, _Mapping]] = ..., abort_save: _Optional[_Union[_checkpoint_service_pb2.AbortSaveRequest, _Mapping]] = ..., adopt_index: _Optional[_Union[_checkpoint_service_pb2.AdoptIndexRequest, _Mapping]] = ..., read_index: _Optional[_Union[_checkpoint_service_pb2.ReadIndexRequest, _Mapping]] = ..., stage_restore: _Optional[_Union[_checkpoint_service_pb2.StageRestoreRequest, _Mapping]] = ..., supply_bytes: _Optional[_Union[_checkpoint_service_pb2.SupplyBytesRequest, _Mapping]] = ..., commit_restore: _Optional[_Union[_checkpoint_service_pb2.CommitRestoreRequest, _Mapping]] = ..., abort_restore: _Optional[_Union[_checkpoint_service_pb2.AbortRestoreRequest, _Mapping]] = ..., read_bytes: _Optional[_Union[_checkpoint_service_pb2.ReadBytesRequest, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "status", "done", "prepare_plan", "save", "read_state", "list_tasks", "begin_save", "await_save", "hold_steps", "list_variables", "write_shard", "read_index", "stage_restore")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    PREPARE_PLAN_FIELD_NUMBER: _ClassVar[int]
    SAVE_FIELD_NUMBER: _ClassVar[int]
    READ_STATE_FIELD_NUMBER: _ClassVar[int]
    LIST_TASKS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SAVE_FIELD_NUMBER: _ClassVar[int]
    AWAIT_SAVE_FIELD_NUMBER: _ClassVar[int]
    HOLD_STEPS_FIELD_NUMBER: _ClassVar[int]
    LIST_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    WRITE_SHARD_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    STAGE_RESTORE_FIELD_NUMBER: _ClassVar[int]
    id: int
    status: Status
    done: Done
    prepare_plan: PreparePlanResponse
    save: _checkpoint_service_pb2.SaveResponse
    read_state: _checkpoint_service_pb2.ReadStateResponse
    list_tasks: ListTasksResponse
    begin_save: _checkpoint_service_pb2.BeginSaveResponse
    await_save: _checkpoint_service_pb2.AwaitSaveResponse
    hold_steps: HoldStepsResponse
    list_variables: ListVariablesResponse
    write_shard: _checkpoint_service_pb2.WriteShardResponse
    read_index: _checkpoint_service_pb2.ReadIndexResponse
    stage_restore: _checkpoint_service_pb2.StageRestoreResponse
    def __init__(self, id: _Optional[int] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., prepare_plan: _Optional[_Union[PreparePlanResponse, _Mapping]] = ..., save: _Optional[_Union[_checkpoint_service_pb2.SaveResponse, _Mapping]] = ..., read_state: _Optional[_Union[_checkpoint_service_pb2.ReadStateResponse, _Mapping]] = ..., list_tasks: _Optional[_Union[ListTasksResponse, _Mapping]] = ..., begin_save: _Optional[_Union[_checkpoint_service_pb2.BeginSaveResponse, _Mapping]] = ..., await_save: _Optional[_Union[_checkpoint_service_pb2.AwaitSaveResponse, _Mapping]] = ..., hold_steps: _Optional[_Union[HoldStepsResponse, _Mapping]] = ..., list_variables: _Optional[_Union[ListVariablesResponse, _Mapping]] = ..., write_shard: _Optional[_Union[_checkpoint_service_pb2.WriteShardResponse, _Mapping]] = ..., read_index: _Optional[_Union[_checkpoint_service_pb2.ReadIndexResponse, _Mapping]] = ..., stage_restore: _Optional[_Union[_checkpoint_service_pb2.StageRestoreResponse, _Mapping]] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stage(_message.Message):
    __slots__ = ("nodes", "received", "kept", "returned", "retained", "is_last")
    NODES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    RETAINED_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    nodes: _graph_pb2.GraphDef
    received: _containers.RepeatedScalarFieldContainer[str]
    kept: _containers.RepeatedScalarFieldContainer[str]
    returned: _containers.RepeatedScalarFieldContainer[str]
    retained: _containers.RepeatedScalarFieldContainer[str]
    is_last: bool
    def __init__(self, nodes: _Optional[_Union[_graph_pb2.GraphDef, _Mapping]] = ..., received: _Optional[_Iterable[str]] = ..., kept: _Optional[_Iterable[str]] = ..., returned: _Optional[_Iterable[str]] = ..., retained: _Optional[_Iterable[str]] = ..., is_last: bool = ...) -> None: ...

class PlanStages(_message.Message):
    __slots__ = ("stages", "changing_stages")
    STAGES_FIELD_NUMBER: _ClassVar[int]
    CHANGING_STAGES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    changing_stages: int
    def __init__(self, stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ..., changing_stages: _Optional[int] = ...) -> None: ...

class RegisterPlan(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: int
    def __init__(self, plan: _Optional[int] = ...) -> None: ...

class RunStage(_message.Message):
    __slots__ = ("plan", "step", "stage", "trace")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    plan: int
    step: int
    stage: int
    trace: bool
    def __init__(self, plan: _Optional[int] = ..., step: _Optional[int] = ..., stage: _Optional[int] = ..., trace: bool = ...) -> None: ...

class StageTrace(_message.Message):
    __slots__ = ("nodes", "began_nanos", "ended_nanos", "answered_nanos", "ops_left_out")
    NODES_FIELD_NUMBER: _ClassVar[int]
    BEGAN_NANOS_FIELD_NUMBER: _ClassVar[int]
    ENDED_NANOS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_NANOS_FIELD_NUMBER: _ClassVar[int]
    OPS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[_step_stats_pb2.NodeExecStats]
    began_nanos: int
    ended_nanos: int
    answered_nanos: int
    ops_left_out: int
    def __init__(self, nodes: _Optional[_Iterable[_Union[_step_stats_pb2.NodeExecStats, _Mapping]]] = ..., began_nanos: _Optional[int] = ..., ended_nanos: _Optional[int] = ..., answered_nanos: _Optional[int] = ..., ops_left_out: _Optional[int] = ...) -> None: ...

class EndSteps(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, steps: _Optional[_Iterable[int]] = ...) -> None: ...

class ExtendGraph(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PreparePlan(_message.Message):
    __slots__ = ("fetches", "feeds", "targets")
    FETCHES_FIELD_NUMBER: _ClassVar[int]
    FEEDS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    fetches: _containers.RepeatedScalarFieldContainer[str]
    feeds: _containers.RepeatedScalarFieldContainer[str]
    targets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, fetches: _Optional[_Iterable[str]] = ..., feeds: _Optional[_Iterable[str]] = ..., targets: _Optional[_Iterable[str]] = ...) -> None: ...

class PreparePlanResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: int
    def __init__(self, plan: _Optional[int] = ...) -> None: ...

class RunStep(_message.Message):
    __slots__ = ("plan", "timeout_s", "trace", "partition_graphs")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    plan: int
    timeout_s: float
    trace: bool
    partition_graphs: bool
    def __init__(self, plan: _Optional[int] = ..., timeout_s: _Optional[float] = ..., trace: bool = ..., partition_graphs: bool = ...) -> None: ...

class StepTrace(_message.Message):
    __slots__ = ("metadata", "answered_nanos", "task")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_NANOS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    metadata: _config_pb2.RunMetadata
    answered_nanos: int
    task: str
    def __init__(self, metadata: _Optional[_Union[_config_pb2.RunMetadata, _Mapping]] = ..., answered_nanos: _Optional[int] = ..., task: _Optional[str] = ...) -> None: ...

class StepProgress(_message.Message):
    __slots__ = ("session", "step", "done", "total", "ended")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    session: str
    step: int
    done: int
    total: int
    ended: bool
    def __init__(self, session: _Optional[str] = ..., step: _Optional[int] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., ended: bool = ...) -> None: ...

class HoldStepsRequest(_message.Message):
    __slots__ = ("hold_id",)
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    hold_id: str
    def __init__(self, hold_id: _Optional[str] = ...) -> None: ...

class HoldStepsResponse(_message.Message):
    __slots__ = ("steps", "forgotten")
    class ForgottenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[StepProgress]
    forgotten: _containers.ScalarMap[str, int]
    def __init__(self, steps: _Optional[_Iterable[_Union[StepProgress, _Mapping]]] = ..., forgotten: _Optional[_Mapping[str, int]] = ...) -> None: ...

class LetStepsRequest(_message.Message):
    __slots__ = ("hold_id", "steps")
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    hold_id: str
    steps: _containers.RepeatedCompositeFieldContainer[StepProgress]
    def __init__(self, hold_id: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[StepProgress, _Mapping]]] = ...) -> None: ...

class ReleaseStepsRequest(_message.Message):
    __slots__ = ("hold_id",)
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    hold_id: str
    def __init__(self, hold_id: _Optional[str] = ...) -> None: ...

class ListTasks(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class ResetContainers(_message.Message):
    __slots__ = ("containers",)
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, containers: _Optional[_Iterable[str]] = ...) -> None: ...

class CloseSession(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("task", "version", "cluster", "uptime_s", "sessions", "variable_bytes", "max_message_bytes", "activity")
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    task: Task
    version: str
    cluster: _cluster_pb2.ClusterDef
    uptime_s: float
    sessions: int
    variable_bytes: int
    max_message_bytes: int
    activity: Activity
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ..., version: _Optional[str] = ..., cluster: _Optional[_Union[_cluster_pb2.ClusterDef, _Mapping]] = ..., uptime_s: _Optional[float] = ..., sessions: _Optional[int] = ..., variable_bytes: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., activity: _Optional[_Union[Activity, _Mapping]] = ...) -> None: ...

class Activity(_message.Message):
    __slots__ = ("transports", "calls", "failures", "steps", "calls_in_flight", "messages_waiting", "inflight_bytes", "variables")
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_WAITING_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    transports: _containers.RepeatedCompositeFieldContainer[TransportActivity]
    calls: _containers.RepeatedCompositeFieldContainer[CallActivity]
    failures: _containers.RepeatedCompositeFieldContainer[FailureCount]
    steps: int
    calls_in_flight: int
    messages_waiting: int
    inflight_bytes: int
    variables: int
    def __init__(self, transports: _Optional[_Iterable[_Union[TransportActivity, _Mapping]]] = ..., calls: _Optional[_Iterable[_Union[CallActivity, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[FailureCount, _Mapping]]] = ..., steps: _Optional[int] = ..., calls_in_flight: _Optional[int] = ..., messages_waiting: _Optional[int] = ..., inflight_bytes: _Optional[int] = ..., variables: _Optional[int] = ...) -> None: ...

class TransportActivity(_message.Message):
    __slots__ = ("transport", "connections", "received_bytes", "sent_bytes")
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    transport: str
    connections: int
    received_bytes: int
    sent_bytes: int
    def __init__(self, transport: _Optional[str] = ..., connections: _Optional[int] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class CallActivity(_message.Message):
    __slots__ = ("kind", "count", "queued_s", "run_s")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    QUEUED_S_FIELD_NUMBER: _ClassVar[int]
    RUN_S_FIELD_NUMBER: _ClassVar[int]
    kind: str
    count: int
    queued_s: float
    run_s: float
    def __init__(self, kind: _Optional[str] = ..., count: _Optional[int] = ..., queued_s: _Optional[float] = ..., run_s: _Optional[float] = ...) -> None: ...

class FailureCount(_message.Message):
    __slots__ = ("code", "count")
    CODE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    code: int
    count: int
    def __init__(self, code: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class OpenLocalRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenLocalResponse(_message.Message):
    __slots__ = ("socket", "nonce")
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    socket: str
    nonce: bytes
    def __init__(self, socket: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ListVariablesRequest(_message.Message):
    __slots__ = ("containers", "largest")
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    LARGEST_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedScalarFieldContainer[str]
    largest: int
    def __init__(self, containers: _Optional[_Iterable[str]] = ..., largest: _Optional[int] = ...) -> None: ...

class ListVariablesResponse(_message.Message):
    __slots__ = ("variables",)
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    variables: _containers.RepeatedCompositeFieldContainer[VariableInfo]
    def __init__(self, variables: _Optional[_Iterable[_Union[VariableInfo, _Mapping]]] = ...) -> None: ...

class VariableInfo(_message.Message):
    __slots__ = ("name", "container", "dtype", "shape", "task", "bytes", "initialized")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    INITIALIZED_FIELD_NUMBER: _ClassVar[int]
    name: str
    container: str
    dtype: _types_pb2.DataType
    shape: _tensor_shape_pb2.TensorShapeProto
    task: str
    bytes: int
    initialized: bool
    def __init__(self, name: _Optional[str] = ..., container: _Optional[str] = ..., dtype: _Optional[_Union[_types_pb2.DataType, str]] = ..., shape: _Optional[_Union[_tensor_shape_pb2.TensorShapeProto, _Mapping]] = ..., task: _Optional[str] = ..., bytes: _Optional[int] = ..., initialized: bool = ...) -> None: ...

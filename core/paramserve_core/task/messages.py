"""Requests and responses to and from the calls and replies that carry them.

`Call.request` and `Reply.response` have one field per message type, so the type says which field.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message as ProtoMessage

from paramserve_core.dtypes import DType
from paramserve_core.errors import OpError, error_from_status
from paramserve_core.transport.interface import Message, Tensors
from paramserve_protos.v1 import service_pb2


def _fields_by_type(kind: type[ProtoMessage], oneof: str) -> dict[str, str]:
    fields = kind.DESCRIPTOR.oneofs_by_name[oneof].fields
    return {f.message_type.full_name: f.name for f in fields if f.message_type is not None}


_REQUEST_FIELD: Final = _fields_by_type(service_pb2.Call, "request")
_RESPONSE_FIELD: Final = _fields_by_type(service_pb2.Reply, "response")


STEP_REQUESTS: Final = (service_pb2.RunStage, service_pb2.RunStep)
"""The requests whose tensors, and those of the answers, are a step's."""

STEP_KINDS: Final = frozenset(_REQUEST_FIELD[r.DESCRIPTOR.full_name] for r in STEP_REQUESTS)
"""Their fields in a `Call`."""


def call_envelope(number: int, completed_below: int, request: ProtoMessage) -> service_pb2.Envelope:
    """The envelope of a call with that request."""
    envelope = service_pb2.Envelope()
    call = envelope.call
    call.id = number
    call.completed_below = completed_below
    getattr(call, _REQUEST_FIELD[request.DESCRIPTOR.full_name]).CopyFrom(request)
    return envelope


def reply_message(
    number: int,
    response: ProtoMessage | None,
    tensors: Tensors = (),
    wire_dtype: DType | None = None,
) -> Message:
    """The answer of a call that went well; see `Message` for `wire_dtype`."""
    envelope = service_pb2.Envelope()
    reply = envelope.reply
    reply.id = number
    if response is None:
        reply.done.SetInParent()
    else:
        getattr(reply, _RESPONSE_FIELD[response.DESCRIPTOR.full_name]).CopyFrom(response)
    return Message(envelope, tensors, wire_dtype)


def error_message(number: int, error: OpError) -> Message:
    """The answer of a call that failed."""
    envelope = service_pb2.Envelope()
    envelope.reply.id = number
    envelope.reply.status.CopyFrom(status_of(error))
    return Message(envelope)


def status_of(error: OpError) -> service_pb2.Status:
    """The error as it travels."""
    return service_pb2.Status(
        code=error.error_code,
        message=error.message,
        node_name=error.node_name or "",
        op_type=error.op_type or "",
        task=error.task or "",
    )


def error_of(status: service_pb2.Status) -> OpError | None:
    """The error that travelled, or None where the status is OK."""
    if not status.code:
        return None
    return error_from_status(
        status.code,
        status.message,
        node_name=status.node_name or None,
        task=status.task or None,
        op_type=status.op_type or None,
    )


def response_of(reply: service_pb2.Reply) -> ProtoMessage | None:
    """The response in a reply; None where the call had nothing to say."""
    field = reply.WhichOneof("response")
    if field is None or field == "done":
        return None
    response: ProtoMessage = getattr(reply, field)
    return response

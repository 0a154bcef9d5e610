"""Calls from a stranger end in an error of the system, whatever is in them."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_tasks import Task, Tasks, entries_of, entry
from paramserve_core import dtypes
from paramserve_core.checkpoint.contents import Contents
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.index_file import decode_index, encode_index
from paramserve_core.checkpoint.slices import Box
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    OpError,
    ResourceExhaustedError,
)
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

SAVE = "0123456789abcdef"
ENTRIES = entries_of({"v": [1.0, 2.0]})


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.set(v=[1.0, 2.0])
    return made


@pytest.fixture(scope="module")
def busy_task(tmp_path_factory):
    """A task with checkpoints in each format, and with a save and a restore open."""
    made = Task(tmp_path_factory.mktemp("checkpoints"))
    made.set(v=[1.0, 2.0])
    Tasks(made).save("m", *ENTRIES)
    Tasks(made).save("n", *ENTRIES, format=messages.CHECKPOINT_FORMAT_TENSORFLOW_V2)
    return made


NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([1 << 31, 1 << 62, (1 << 63) - 1]))
NAMES = st.sampled_from(["", "v", "m", "n", "../m", "m.meta", "\0", "x" * 5000, "checkpoint"])
IDS = st.sampled_from([SAVE, "f" * 16, "", "../../../../etc"])


def random_message(draw, kind, depth=0):
    """A message with some of its fields set to something."""
    made = kind()
    for field in kind.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        for _ in range(draw(st.integers(1, 2)) if field.is_repeated else 1):
            value = random_value(draw, field, depth)
            if value is None:
                continue
            target = getattr(made, field.name)
            if field.is_repeated and field.message_type:
                target.add().CopyFrom(value)
            elif field.is_repeated:
                target.append(value)
            elif field.message_type:
                target.CopyFrom(value)
            else:
                setattr(made, field.name, value)
    return made


def random_value(draw, field, depth):
    if field.message_type:
        if depth > 3:
            return None
        return random_message(draw, field.message_type._concrete_class, depth + 1)
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            if field.name == "entries" and draw(st.booleans()):
                count = draw(st.integers(1, 2))
                made = [random_message(draw, messages.CheckpointEntry) for _ in range(count)]
                return pack_entries(made)
            if field.type == field.TYPE_BYTES:
                return draw(st.binary(max_size=60))
            return draw(IDS if field.name.endswith("_id") else NAMES)
        case field.CPPTYPE_BOOL:
            return draw(st.booleans())
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return draw(st.floats())
        case field.CPPTYPE_ENUM:
            return draw(st.integers(0, 2))
        case field.CPPTYPE_INT32 | field.CPPTYPE_UINT32:
            return draw(st.integers(0, 3))
        case _:
            return draw(NUMBERS)


REQUESTS = [
    messages.TakeSnapshotRequest,
    messages.WriteShardRequest,
    messages.PrepareCommitRequest,
    messages.CommitRequest,
    messages.FinishSaveRequest,
    messages.AbortSaveRequest,
    messages.AdoptIndexRequest,
    messages.ReadIndexRequest,
    messages.StageRestoreRequest,
    messages.SupplyBytesRequest,
    messages.CommitRestoreRequest,
    messages.AbortRestoreRequest,
    messages.ReadBytesRequest,
    messages.ReadStateRequest,
]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_request_is_answered_or_refused(busy_task, data):
    kind = data.draw(st.sampled_from(REQUESTS))
    request = random_message(data.draw, kind)
    with contextlib.suppress(OpError):
        busy_task.call(request, [np.zeros(3, np.uint8)])


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), layout=st.sampled_from(list(Layout)))
def test_any_index_is_refused(busy_task, content, layout):
    request = messages.StageRestoreRequest(
        restore_id="e" * 16,  # Which no random request has: it may have staged nothing.
        path="m",
        entries=pack_entries(ENTRIES),
        index=content,
        format=layout.value,
    )
    with pytest.raises(OpError):
        busy_task.call(request)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_table_of_contents_is_staged_or_refused(busy_task, data):
    contents = random_message(data.draw, messages.TableIndex)
    request = messages.StageRestoreRequest(
        restore_id=SAVE,
        path="m",
        entries=pack_entries(ENTRIES),
        index=contents.SerializeToString(),
        format=messages.CHECKPOINT_FORMAT_TENSORFLOW_V1,
    )
    with contextlib.suppress(OpError):
        busy_task.call(request)
    busy_task.call(messages.AbortRestoreRequest(restore_id=SAVE))


def test_what_is_no_checkpoint_call_is_refused(task):
    with pytest.raises(InvalidArgumentError, match="StateUpdate is no call about checkpoints"):
        task.call(messages.StateUpdate())


def test_calls_out_of_order_are_refused(task):
    for request, text in [
        (messages.WriteShardRequest(save_id=SAVE, shard_count=1), "there is no save"),
        (messages.CommitRequest(save_id=SAVE), "there is no save"),
        (messages.CommitRestoreRequest(restore_id=SAVE), "there is no restore"),
        (messages.SupplyBytesRequest(restore_id=SAVE), "there is no restore"),
    ]:
        with pytest.raises(FailedPreconditionError, match=text):
            task.call(request)
    task.call(messages.TakeSnapshotRequest(save_id=SAVE, path="m", entries=pack_entries(ENTRIES)))
    with pytest.raises(FailedPreconditionError, match="has no shard yet"):
        task.call(messages.PrepareCommitRequest(save_id=SAVE))
    with pytest.raises(FailedPreconditionError, match="isn't prepared"):
        task.call(messages.CommitRequest(save_id=SAVE))
    with pytest.raises(FailedPreconditionError, match="isn't committed"):
        task.call(messages.FinishSaveRequest(save_id=SAVE, path="m"))
    with pytest.raises(InvalidArgumentError, match="no shard 1 of 1"):
        task.call(messages.WriteShardRequest(save_id=SAVE, shard=1, shard_count=1))
    with pytest.raises(InvalidArgumentError, match="7 is no format"):
        task.call(messages.WriteShardRequest(save_id=SAVE, shard_count=1, format=7))


@pytest.mark.parametrize("save_id", ["", "0" * 15, "0" * 17, "../" * 6, "0123456789ABCDEF"])
def test_ids_are_what_they_should_be(task, save_id):
    for request in (
        messages.TakeSnapshotRequest(save_id=save_id, path="m", entries=pack_entries(ENTRIES)),
        messages.StageRestoreRequest(restore_id=save_id, path="m"),
        messages.FinishSaveRequest(
            save_id=SAVE,
            path="m",
            abandoned=[messages.UnfinishedSave(name="m", save_id=save_id)],
        ),
    ):
        with pytest.raises(InvalidArgumentError, match="16 hexadecimal digits"):
            task.call(request)


def test_session_has_few_saves_and_restores_open(task):
    for i in range(16):
        task.call(
            messages.TakeSnapshotRequest(
                save_id=f"{i:016x}", path=f"m{i}", entries=pack_entries(ENTRIES)
            )
        )
    with pytest.raises(ResourceExhaustedError, match="16 saves open"):
        task.call(
            messages.TakeSnapshotRequest(save_id="f" * 16, path="m", entries=pack_entries(ENTRIES))
        )
    task.checkpoints.forget(task.session)
    Tasks(task).save("m", *ENTRIES)
    content = task.call(messages.ReadIndexRequest(path="m"))[0].index
    request = messages.StageRestoreRequest(path="m", entries=pack_entries(ENTRIES), index=content)
    for i in range(8):
        request.restore_id = f"{i:016x}"
        task.call(request)
    request.restore_id = "f" * 16
    with pytest.raises(ResourceExhaustedError, match="8 restores open"):
        task.call(request)


def staged(task, entries):
    """Stages a restore whose shard is elsewhere, and answers what is missing."""
    Tasks(task).save("m", *entries)
    index = task.call(messages.ReadIndexRequest(path="m"))[0].index
    shard = next(iter(decode_index(index).files))
    content = (task.root / shard).read_bytes()
    (task.root / shard).unlink()
    request = messages.StageRestoreRequest(
        restore_id=SAVE, path="m", entries=pack_entries(entries), index=index
    )
    missing = task.call(request)[0].missing
    return content, missing


def supply(task, wanted, content):
    task.call(
        messages.SupplyBytesRequest(restore_id=SAVE, range=wanted),
        [np.frombuffer(content, np.uint8)],
    )


def test_bytes_that_are_supplied_are_checked(task):
    content, (wanted,) = staged(task, ENTRIES)
    right = content[wanted.offset : wanted.offset + wanted.bytes]
    with pytest.raises(InvalidArgumentError, match="3 bytes for a range of 16"):
        supply(task, wanted, b"abc")
    with pytest.raises(InvalidArgumentError, match="a vector of uint8"):
        task.call(messages.SupplyBytesRequest(restore_id=SAVE, range=wanted), [np.zeros(2)])
    with pytest.raises(FailedPreconditionError, match="isn't staged completely"):
        task.call(messages.CommitRestoreRequest(restore_id=SAVE))
    supply(task, wanted, right)
    supply(task, wanted, right)  # once more, as after a lost answer
    task.set(v=[5.0, 6.0])
    task.call(messages.CommitRestoreRequest(restore_id=SAVE))
    assert task.get("v").tolist() == [1.0, 2.0]


def test_wrong_bytes_that_are_supplied_change_nothing(task):
    _, (wanted,) = staged(task, ENTRIES)
    task.set(v=[5.0, 6.0])
    with pytest.raises(OpError, match="damaged in bytes"):
        supply(task, wanted, bytes(16))
    with pytest.raises(OpError):
        task.call(messages.CommitRestoreRequest(restore_id=SAVE))
    assert task.get("v").tolist() == [5.0, 6.0]


def test_index_that_names_files_of_another_checkpoint_is_refused(task):
    Tasks(task).save("secret", *ENTRIES)
    index = task.call(messages.ReadIndexRequest(path="secret"))[0].index
    request = messages.StageRestoreRequest(
        restore_id=SAVE, path="m", entries=pack_entries(ENTRIES), index=index
    )
    with pytest.raises(InvalidArgumentError, match="no file of"):
        task.call(request)


def test_huge_tensor_in_an_index_is_refused_without_allocating(task):
    Tasks(task).save("m", *ENTRIES)
    index = decode_index(task.call(messages.ReadIndexRequest(path="m"))[0].index)
    assert encode_index(index)
    shard = messages.WriteShardResponse(
        file=f"m.{SAVE}-00000-of-00001.safetensors", bytes=1 << 62, chunk_bytes=1 << 50
    )
    described = Contents()
    shape = (1 << 57,)
    described.add("v", dtypes.float64, shape, Box.whole(shape), 0, 1 << 60)
    described.write_to(shard.tensors)
    request = messages.StageRestoreRequest(
        restore_id=SAVE,
        path="m",
        entries=pack_entries([entry("v", dtypes.float64)]),
        index=messages.TableIndex(files=[shard]).SerializeToString(),
        format=messages.CHECKPOINT_FORMAT_TENSORFLOW_V1,
    )
    with pytest.raises(OpError):
        task.call(request)


@pytest.mark.parametrize(
    "request_",
    [
        messages.TakeSnapshotRequest(save_id=SAVE, path="m", entries=b"\xff"),
        messages.StageRestoreRequest(restore_id=SAVE, path="m", entries=b"\xff"),
    ],
)
def test_bytes_that_are_no_entries_are_refused(task, request_):
    Tasks(task).save("m", *ENTRIES)
    with pytest.raises(InvalidArgumentError, match="entries are no message"):
        task.call(request_)

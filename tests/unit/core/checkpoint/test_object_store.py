"""Checkpoints in object stores."""

import itertools
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of, entry
from memory_disk import CrashError
from object_store_fake import FakeStore
from paramserve_core import dtypes
from paramserve_core.checkpoint.any_disk import AnyDisk, disk_of
from paramserve_core.checkpoint.comparison import differences
from paramserve_core.checkpoint.conversion import convert
from paramserve_core.checkpoint.disk import LocalDisk, read_whole, write_new
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.listing import list_checkpoints
from paramserve_core.checkpoint.object_store import IDLE_S, ObjectStore
from paramserve_core.checkpoint.places import Places
from paramserve_core.checkpoint.reader import CheckpointReader, open_checkpoint
from paramserve_core.checkpoint.urls import UrlPath, absolute, join, location, split
from paramserve_core.errors import (
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from paramserve_core.runtime import ThreadRuntime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

RUNTIME = ThreadRuntime(max_workers=4)
ROOT = UrlPath("s3://bucket/runs")
V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2
VALUES = {"a": np.arange(6.0), "b": np.arange(5), "s": ["x", "yy"]}
ENTRIES = entries_of(VALUES)


class Shared(Tasks):
    """Two tasks of two processes, which keep checkpoints in one place of a store."""

    def __init__(self, store: FakeStore) -> None:
        disks = [ObjectStore("s3", store, lambda: store.now) for _ in range(2)]
        self.first, self.second = (
            Task(ROOT, name=f"/job:ps/replica:0/task:{i}", disk=disk, runtime=RUNTIME)
            for i, disk in enumerate(disks)
        )
        super().__init__(self.first, self.second)
        self.place = {"b": self.second.name}

    def fill(self, value: float) -> None:
        self.first.set(a=np.full(6, float(value)), s=[f"{value:g}", "-"])
        self.second.set(b=np.full(5, int(value)))

    def values(self) -> set[float]:
        return {*self.first.get("a"), *self.second.get("b"), float(self.first.get("s")[0])}

    def save_as(self, path: str, value: float, **options) -> None:
        self.fill(value)
        update = messages.StateUpdate(all_paths=[path], **options)
        self.save(path, *ENTRIES, state=update)


@pytest.fixture
def memory():
    """A place of its own in fsspec's memory."""
    root = UrlPath(f"memory://{uuid.uuid4().hex}")
    yield root
    disk = ObjectStore("memory")
    for name in disk.names(root):
        disk.remove(root / name)


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
def test_checkpoint_in_a_store_restores_in_other_processes(layout):
    store = FakeStore()
    tasks = Shared(store)
    tasks.fill(3)
    tasks.save("model", *ENTRIES, format=layout)
    other = Shared(store)
    other.place = {"a": other.second.name}
    other.restore("s3://bucket/runs/model", *ENTRIES)
    assert set(other.second.get("a")) == set(other.first.get("b")) == {3}
    assert other.first.get("s").tolist() == [b"3", b"-"]
    assert not [name for name in store.names() if name.endswith(".tmp")]


def test_no_shard_is_copied_and_the_index_is_written_last():
    store = FakeStore()
    seen = []
    store.before = lambda operation, path: seen.append((operation, path.rpartition("/")[2]))
    Shared(store).save_as("model", 1)
    copied = {name for operation, name in seen if operation == "copy"}
    assert not [name for name in copied if "safetensors" in name]
    written = [name for operation, name in seen if operation in ("write", "copy")]
    shards = [i for i, name in enumerate(written) if name.endswith(".safetensors")]
    indexes = [i for i, name in enumerate(written) if "index" in name]
    assert max(shards) < min(indexes)


def test_replaced_and_forgotten_checkpoints_leave_no_object():
    store = FakeStore()
    tasks = Shared(store)
    for path, value in (("old", 1), ("model", 2), ("model", 3)):
        tasks.save_as(path, value)
    # A new process knows as little as any other who wrote the old one.
    tasks = Shared(store)
    tasks.save_as("new", 4, delete_paths=["old"])
    assert {name.partition(".")[0] for name in store.names()} == {"model", "new", "checkpoint"}
    assert len(store.names()) == 2 * 3 + 1


def count_operations() -> int:
    store = FakeStore()
    tasks = Shared(store)
    tasks.save_as("model", 1)
    before = store.operations
    tasks.save_as("other", 2)
    return store.operations - before


def at(number: int, error: BaseException):
    """A fault at one operation from now on, or with a crash at all that follow."""
    count = itertools.count()

    def fail(operation: str, path: str) -> None:
        found = next(count)
        if found == number or (found > number and isinstance(error, CrashError)):
            raise error

    return fail


@pytest.mark.slow
@pytest.mark.parametrize("path", ["model", "other"])
@pytest.mark.parametrize(
    "error", [CrashError(), ConnectionError("reset"), RuntimeError("throttled")], ids=repr
)
def test_fault_at_any_operation_leaves_whole_checkpoints(path, error):
    for number in range(count_operations()):
        store = FakeStore()
        tasks = Shared(store)
        tasks.save_as("model", 1)
        store.before = at(number, error)
        try:
            tasks.save_as(path, 2)
            is_saved = True
        except (OpError, CrashError):
            is_saved = False
        store.before = lambda operation, path: None
        if isinstance(error, CrashError):
            tasks = Shared(store)
        tasks.restore("model", *ENTRIES)
        found = tasks.values()
        assert found in ({1.0}, {2.0})
        assert found == {2.0} or path == "other" or not is_saved
        if is_saved:
            tasks.restore(path, *ENTRIES)
            assert tasks.values() == {2.0}
        # After a day the next save deletes what nobody else can be writing still.
        store.now += 2 * IDLE_S
        tasks.save_as("third", 3)
        tasks.restore("model", *ENTRIES)
        assert tasks.values() == found
        of_saves = [n for n in store.names() if n.endswith((".safetensors", ".tmp"))]
        indexes = [n for n in store.names() if n.endswith(".index.json")]
        assert len(of_saves) == 2 * len(indexes), (number, store.names())


def test_object_of_another_process_is_in_use_for_a_day():
    store = FakeStore()
    ours, theirs = (ObjectStore("s3", store, lambda: store.now) for _ in range(2))
    path = ROOT / "model"
    file = ours.create(path, 1)
    file.write_at(b"x", 0)
    file.sync()
    assert ours.is_in_use(path)
    assert theirs.is_in_use(path)
    file.close()
    assert not ours.is_in_use(path)
    assert theirs.is_in_use(path)
    store.now += IDLE_S
    assert not theirs.is_in_use(path)
    assert not theirs.is_in_use(ROOT / "nothing")


def test_restore_reads_the_ranges_that_it_needs(monkeypatch):
    for module in ("index_file", "shard"):
        monkeypatch.setattr(f"paramserve_core.checkpoint.{module}.CHUNK_BYTES", 64)
    store = FakeStore()
    tasks = Shared(store)
    table = np.arange(1000.0).reshape(100, 10)
    tasks.first.set(table=table)
    tasks.save("model", entry("table", dtypes.float64, [100, 10]))
    store.reads.clear()
    part = entry("table", dtypes.float64, node="part", slice_of=([100, 10], [50, 0], [2, 10]))
    tasks.restore("model", part)
    assert np.array_equal(tasks.first.get("part"), table[50:52])
    of_shard = [nbytes for name, nbytes in store.reads if name.endswith(".safetensors")]
    assert sum(of_shard) < table.nbytes / 10


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/other/m",
        "s3://elsewhere/runs/m",
        "gs://bucket/runs/m",
        "../m",
        "a/../../m",
        "s3://bucket/runs/../m",
        "/etc/m",
        "file:///etc/m",
    ],
)
def test_path_that_leads_out_of_a_url_is_refused(path):
    places = Places(ObjectStore("s3", FakeStore()), ROOT)
    with pytest.raises(PermissionDeniedError, match=r"--checkpoint-root"):
        places.checkpoint(path)


def test_path_below_a_url_is_taken():
    places = Places(ObjectStore("s3", FakeStore()), ROOT)
    for path in ("m", "./m", "a/../m", "s3://bucket/runs/m", "s3://bucket//runs/x/../m"):
        assert str(places.checkpoint(path)) == "s3://bucket/runs/m"
    assert places.directory("") == ROOT


@pytest.mark.parametrize("root", [None, Path("/tmp")], ids=["whole disk", "folder"])
def test_no_client_makes_a_server_of_local_files_connect(root):
    task = Task(root, disk=disk_of(root))
    with pytest.raises(PermissionDeniedError, match=r"s3://bucket is not on this server's disk"):
        task.call(messages.ReadIndexRequest(path="s3://bucket/model"))


def test_store_that_fails_is_unavailable_and_named():
    store = FakeStore()
    store.before = at(0, RuntimeError("no credentials"))
    with pytest.raises(
        UnavailableError, match=r"s3://bucket/runs/m: the store failed: RuntimeError: no cred"
    ):
        ObjectStore("s3", store).open(ROOT / "m")
    store.before = at(0, PermissionError("Access Denied"))
    with pytest.raises(PermissionError, match=r"Access Denied: 's3://bucket/runs/m'"):
        ObjectStore("s3", store).open(ROOT / "m")
    store.before = at(0, OSError(28, "full"))
    task = Task(ROOT, disk=ObjectStore("s3", store))
    task.set(v=[1.0])
    with pytest.raises(ResourceExhaustedError, match=r"s3://bucket/runs.*: the disk is full"):
        Tasks(task).save("m", *entries_of({"v": [1.0]}))


def test_bytes_go_out_in_order_whatever_order_they_come_in():
    store = FakeStore()
    disk = ObjectStore("s3", store)
    content = np.random.default_rng(0).bytes(1000)
    file = disk.create(ROOT / "m", len(content))
    starts = list(range(0, len(content), 10))
    threads = [
        threading.Thread(
            target=lambda own: [file.write_at(content[b : b + 10], b) for b in own],
            args=(list(reversed(starts[i::4])),),
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.sync()
    file.close()
    assert read_whole(disk, ROOT / "m", 1000) == content


def test_many_early_bytes_wait_for_the_upload(monkeypatch):
    monkeypatch.setattr("paramserve_core.checkpoint.object_store._MOST_WAITING", 15)
    store = FakeStore()
    disk = ObjectStore("s3", store)
    is_sending, may_send = threading.Event(), threading.Event()

    def slow(operation: str, path: str) -> None:
        is_sending.set()
        may_send.wait()

    store.before = slow
    file = disk.create(ROOT / "m", 50)
    first = threading.Thread(target=lambda: file.write_at(b"0" * 10, 0))
    first.start()
    is_sending.wait()
    file.write_at(b"1" * 10, 10)
    file.write_at(b"2" * 10, 20)  # 20 bytes wait now, more than may.
    third = threading.Thread(target=lambda: file.write_at(b"3" * 20, 30))
    third.start()
    assert file._waiting_bytes == 20
    may_send.set()
    first.join()
    third.join()
    file.sync()
    file.close()
    assert read_whole(disk, ROOT / "m", 50) == b"0" * 10 + b"1" * 10 + b"2" * 10 + b"3" * 20


def test_object_that_was_not_completed_is_not_there():
    store = FakeStore()
    disk = ObjectStore("s3", store)
    file = disk.create(ROOT / "m", 2)
    file.write_at(b"x", 0)
    with pytest.raises(InternalError, match="1 of 2 bytes"):
        file.sync()
    file.close()
    file.close()
    assert store.objects == {}


def test_object_cut_off_is_noticed():
    store = FakeStore()
    disk = ObjectStore("s3", store)
    write_new(disk, ROOT / "m", b"abc").close()
    file = disk.open(ROOT / "m")
    with pytest.raises(DataLossError, match=r"s3://bucket/runs/m: the file ends at byte 3, 1 byte"):
        file.read_into(memoryview(bytearray(4)), 0)
    store.objects["bucket/runs/m"] = (b"a", 0.0)
    with pytest.raises(DataLossError, match=r"s3://bucket/runs/m: the file ends at byte 1, 2 byte"):
        file.read_into(memoryview(bytearray(3)), 0)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(FailedPreconditionError, match=r"pip install 'paramserve\[s3\]'"):
        ObjectStore("s3")


def test_missing_store_of_fsspec_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FailedPreconditionError, match=r"s3fs.*pip install 'paramserve\[s3\]'"):
        ObjectStore("s3")
    with pytest.raises(InvalidArgumentError, match=r"nosuch://: .*nosuch"):
        ObjectStore("nosuch")


def test_memory_of_fsspec_holds_checkpoints(memory):
    task = Task(None, disk=AnyDisk(), runtime=RUNTIME)
    task.set(**VALUES)
    tasks = Tasks(task)
    for path in ("m-1", "m-2"):
        tasks.save(f"{memory}/{path}", *ENTRIES, state=messages.StateUpdate(all_paths=[path]))
    task.set(a=np.zeros(6), b=np.zeros(5, np.int64), s=["", ""])
    tasks.restore(f"{memory}/m-2", *ENTRIES)
    assert task.get("a").tolist() == list(range(6))
    assert task.get("s").tolist() == [b"x", b"yy"]
    assert tasks.read_state(str(memory)).state
    listed = list_checkpoints(str(memory))
    assert [item.path for item in listed] == [f"{memory}/m-2", f"{memory}/m-1"]
    assert not any(item.problem for item in listed)
    assert open_checkpoint(str(memory)).path == f"{memory}/m-2"


def test_reader_and_converter_take_urls(memory, tmp_path):
    task = Task(tmp_path)
    task.set(**VALUES)
    Tasks(task).save("m", *ENTRIES)
    convert(tmp_path / "m", str(memory / "own"), Layout.SAFETENSORS)
    convert(str(memory / "own"), str(memory / "tf"), Layout.TENSORFLOW_V2)
    convert(str(memory / "tf"), tmp_path / "back", Layout.SAFETENSORS)
    readers = [CheckpointReader(p) for p in (tmp_path / "m", str(memory / "tf"), tmp_path / "back")]
    for reader in readers:
        assert [error for _, error in reader.verify() if error is not None] == []
    assert list(differences(readers[0], readers[1])) == []
    with pytest.raises(NotFoundError, match="there is no checkpoint at"):
        CheckpointReader(f"{memory}/nothing")


def test_url_is_a_path():
    path = location("s3://bucket/runs//model")
    assert isinstance(path, UrlPath)
    assert str(path) == "s3://bucket/runs/model"
    assert (path.name, str(path.parent), path.scheme) == ("model", "s3://bucket/runs", "s3")
    assert path.is_relative_to(UrlPath("s3://bucket"))
    assert str(path.relative_to(UrlPath("s3://bucket"))) == "runs/model"
    assert str(location("memory://").joinpath("m")) == "memory://m"
    assert split("memory://m") == ("memory://", "m")
    assert split("/m") == ("/", "m")
    assert join("s3://a/b", "c") == "s3://a/b/c"
    assert join("a", "s3://b/c") == "s3://b/c"


def test_file_url_is_a_path_of_this_machine(tmp_path):
    assert location(f"file://{tmp_path}/m") == tmp_path / "m"
    assert isinstance(disk_of(location(f"file://{tmp_path}")), LocalDisk)
    assert absolute("m") == Path.cwd() / "m"

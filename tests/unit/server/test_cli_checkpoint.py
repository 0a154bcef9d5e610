"""The command line's view of checkpoints."""

import io
import json
import sys
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from checkpoint_tasks import Task, Tasks, entries_of, entry, two_tasks
from paramserve_core import dtypes
from paramserve_core.checkpoint.comparison import differences
from paramserve_core.checkpoint.conversion import convert
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.reader import CheckpointReader, list_variables, load_variable
from paramserve_core.errors import NotFoundError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_server.cli.checkpoint import checkpoint_app, size_text

V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2
VALUES = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "names": ["a", "b"]}
GRAPH = MetaGraphDef(meta_info_def=MetaGraphDef.MetaInfoDef(tags=["train"])).SerializeToString()


def save(root, path, values=VALUES, kept=(), **options):
    task = Task(root)
    task.set(**values)
    state = messages.StateUpdate(all_paths=[*kept, path])
    Tasks(task).save(path, *entries_of(values), state=state, **options)
    return str(root / path)


def run(*arguments):
    return CliRunner().invoke(checkpoint_app, [str(a) for a in arguments])


def flip_last_byte(root, suffix):
    path = next(p for p in root.iterdir() if p.name.endswith(suffix))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_ls_lists_checkpoints_of_every_format(tmp_path):
    save(tmp_path, "m-1", has_step=True, step=1)
    save(tmp_path, "m-2", kept=["m-1"], format=V2)
    result = run("ls", tmp_path, "--json")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert [(c["path"], c["format"], c["step"], c["newest"]) for c in listed] == [
        (f"{tmp_path}/m-1", "safetensors", 1, False),
        (f"{tmp_path}/m-2", "tensorflow_v2", 2, True),
    ]
    assert f"{tmp_path}/m-2  tensorflow v2  2" in run("ls", tmp_path).stdout


def test_ls_names_what_is_damaged(tmp_path):
    save(tmp_path, "m-1")
    flip_last_byte(tmp_path, ".json")
    result = run("ls", tmp_path)
    assert result.exit_code == 1
    assert "its checksum does not match" in result.stdout


def test_ls_of_no_directory_says_so(tmp_path):
    result = run("ls", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr


def test_ls_of_a_directory_without_checkpoints_says_so(tmp_path):
    save_to = tmp_path / "ps0"
    save_to.mkdir()
    save(save_to, "m-1")
    result = run("ls", tmp_path)
    assert result.exit_code == 0
    assert "no checkpoint in this directory" in result.stderr


def test_inspect_lists_tensors(tmp_path):
    path = save(tmp_path, "m-1", has_step=True, step=7)
    document = json.loads(run("inspect", path, "--json").stdout)
    assert document["tensors"]["w"] == {
        "dtype": "float32",
        "shape": [2, 3],
        "bytes": 24,
        "parts": 1,
    }
    assert document["step"] == 7
    result = run("inspect", tmp_path)  # the newest of the directory
    assert "w      float32  [2, 3]  24 B" in result.stdout
    assert "2 tensors, 34 B, in 1 file" in result.stderr


def test_a_name_in_a_checkpoint_cannot_write_to_the_terminal(tmp_path):
    path = save(tmp_path, "m-1", {"a\x1b[2J\nb": np.zeros(2, np.float32), "größe": np.zeros(1)})
    result = run("inspect", path)
    assert "a\\x1b[2J\\nb  float32  [2]" in result.stdout
    assert "größe" in result.stdout


def test_the_index_of_a_tensorflow_checkpoint_is_not_its_path(tmp_path):
    path = save(tmp_path, "m-1", format=V2)
    result = run("inspect", f"{path}.index")
    assert result.exit_code == 1
    assert "leave '.index' out" in result.stderr


def test_inspect_of_no_checkpoint_says_so(tmp_path):
    result = run("inspect", tmp_path / "m")
    assert result.exit_code == 1
    assert "there is no checkpoint at" in result.stderr
    result = run("inspect", tmp_path)
    assert result.exit_code == 1
    assert "has no state file that names a checkpoint" in result.stderr


def test_verify_tells_what_is_damaged(tmp_path):
    path = save(tmp_path, "m-1")
    result = run("verify", path)
    assert result.exit_code == 0
    assert "3 tensors and files, all as they were written" in result.stdout
    flip_last_byte(tmp_path, ".safetensors")
    result = run("verify", path, "--json")
    assert result.exit_code == 1
    assert list(json.loads(result.stdout)["damaged"]) == ["names"]


def test_verify_misses_a_file_that_is_elsewhere(tmp_path):
    path = save(tmp_path, "m-1")
    next(p for p in tmp_path.iterdir() if p.name.endswith(".safetensors")).unlink()
    result = run("verify", path)
    assert result.exit_code == 1
    assert "not on this disk" in result.stdout


def test_diff_names_each_difference(tmp_path):
    first = save(tmp_path, "m-1")
    same = save(tmp_path, "m-2", format=V2)
    result = run("diff", first, same)
    assert (result.exit_code, result.stdout) == (0, "")
    changed = VALUES["w"].copy()
    changed[0, 1] = 1.5
    values = {"w": changed, "names": ["a", "c"], "new": np.int64(1)}
    other = save(tmp_path, "m-3", values)
    result = run("diff", first, other, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {"name": "names", "what": "1 of 2 strings", "largest": None},
        {"name": "new", "what": "only in the second", "largest": None},
        {"name": "w", "what": "1 of 6 values", "largest": 0.5},
    ]


def test_diff_of_types_and_shapes(tmp_path):
    first = save(tmp_path, "m-1", {"a": np.zeros(3), "b": np.zeros(3), "nan": np.array([np.nan])})
    second = save(
        tmp_path, "m-2", {"a": np.zeros(4), "b": np.zeros(3, np.float32), "nan": np.array([np.nan])}
    )
    result = run("diff", first, second)
    assert "shape [3] and [4]" in result.stdout
    assert "type float64 and float32" in result.stdout
    assert "nan" not in result.stdout


@pytest.mark.parametrize("to", ["tensorflow", "paramserve"])
def test_convert_keeps_everything(tmp_path, to):
    layout = 0 if to == "tensorflow" else V2
    path = save(tmp_path, "m-40", format=layout, meta_graph=GRAPH, meta_graph_path="m-40.meta")
    state = (tmp_path / "checkpoint").read_text()
    destination = tmp_path / "copy-40"
    result = run("convert", path, destination, "--to", to)
    assert (result.exit_code, result.stdout) == (0, f"{destination}\n")
    assert run("diff", path, destination).exit_code == 0
    assert (tmp_path / "copy-40.meta").read_bytes() == GRAPH
    assert (tmp_path / "checkpoint").read_text() == state
    if to == "paramserve":
        assert CheckpointReader(destination).index.step == 40


def test_convert_puts_partitions_together(tmp_path):
    task = Task(tmp_path)
    full = np.arange(12, dtype=np.float32).reshape(4, 3)
    task.set(a=full[:1], b=full[1:])
    Tasks(task).save(
        "m",
        entry("t", node="a", slice_of=([4, 3], [0, 0], [1, 3])),
        entry("t", node="b", slice_of=([4, 3], [1, 0], [3, 3])),
    )
    assert run("convert", tmp_path / "m", tmp_path / "n", "--to", "tensorflow").exit_code == 0
    assert (load_variable(tmp_path / "n", "t") == full).all()


def test_convert_replaces_nothing_unless_told(tmp_path):
    first, second = save(tmp_path, "m-1"), save(tmp_path, "m-2", {"x": np.zeros(2)})
    result = run("convert", first, second)
    assert result.exit_code == 1
    assert "there is a checkpoint already" in result.stderr
    assert list_variables(second) == [("x", [2])]
    assert run("convert", first, second, "--overwrite").exit_code == 0
    assert run("diff", first, second).exit_code == 0
    assert "cannot replace itself" in run("convert", first, first).stderr


def test_damaged_checkpoint_is_not_converted(tmp_path):
    path = save(tmp_path, "m-1")
    flip_last_byte(tmp_path, ".safetensors")
    before = sorted(tmp_path.iterdir())
    result = run("convert", path, tmp_path / "n")
    assert result.exit_code == 1
    assert "damaged in bytes" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_reader_answers_without_a_server(tmp_path):
    reader = CheckpointReader(save(tmp_path, "m-1"))
    assert reader.has_tensor("w")
    assert reader.get_variable_to_shape_map() == {"names": [2], "w": [2, 3]}
    assert reader.debug_string() == b"names (DT_STRING) [2]\nw (DT_FLOAT) [2,3]"
    assert load_variable(tmp_path, "w:0").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(NotFoundError, match="Key x not found in checkpoint"):
        reader.get_tensor("x")


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes_as_people_write_them(nbytes, text):
    assert size_text(nbytes) == text


class Terminal(io.StringIO):
    """What stderr is for somebody who looks at it."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("command", "what"),
    [("verify", "checking"), ("diff", "comparing"), ("convert", "converting")],
)
def test_what_may_take_long_shows_a_bar_on_a_terminal(tmp_path, monkeypatch, command, what):
    path = save(tmp_path, "m-1")
    others = {"verify": [], "diff": [path], "convert": [tmp_path / "m-2"]}
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    checkpoint_app([command, path, *map(str, others[command])], standalone_mode=False)
    assert what in terminal.getvalue()


@pytest.mark.parametrize("layout", [Layout.SAFETENSORS, Layout.TENSORFLOW_V2])
@pytest.mark.parametrize("part", [0.0, 0.6])
def test_a_conversion_that_is_interrupted_leaves_nothing(tmp_path, layout, part):
    path = save(tmp_path, "m-1")
    before = sorted(tmp_path.iterdir())

    def interrupt(fraction):
        if fraction >= part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(path, tmp_path / "m-2", layout, progressed=interrupt)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("layout", [Layout.SAFETENSORS, Layout.TENSORFLOW_V2])
def test_a_conversion_needs_memory_for_a_few_tensors_however_many_there_are(tmp_path, layout):
    values = {f"t{i}": np.full(1 << 20, i, np.float32) for i in range(24)}
    path = save(tmp_path, "m-1", values | {f"s{i}": np.zeros(100) for i in range(10)})
    tracemalloc.start()
    try:
        convert(path, tmp_path / "m-2", layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * values["t0"].nbytes
    assert load_variable(tmp_path / "m-2", "t23")[-1] == 23


def test_progress_goes_from_nothing_to_nearly_all(tmp_path):
    path = save(tmp_path, "m-1")
    seen, compared = [], []
    convert(path, tmp_path / "m-2", Layout.TENSORFLOW_V2, progressed=seen.append)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    found = differences(CheckpointReader(path), CheckpointReader(tmp_path / "m-2"), compared.append)
    assert (list(found), compared) == ([], [0.0, 0.5])


def test_verify_tells_of_every_part_of_a_tensor(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    halves = [np.zeros(2, np.float32), np.ones(2, np.float32)]
    first.set(a=halves[0])
    second.set(b=halves[1])
    tasks.place.update(a=first.name, b=second.name)
    tasks.save(
        "model",
        entry("v", dtypes.float32, [2], node="a", slice_of=([4], [0], [2])),
        entry("v", dtypes.float32, [2], node="b", slice_of=([4], [2], [2])),
    )
    flip_last_byte(second.root, ".safetensors")
    reader = CheckpointReader(second.root / "model")
    error = dict(reader.verify())["v"]
    assert "a file of the checkpoint is not on this disk" in error.message
    assert "the checksum does not match" in error.message

"""What a training loses beside a save is told from what the machine takes from everybody."""

from benchmarks.checkpoint.control_peer import write
from benchmarks.checkpoint.page import Run, tables

from paramserve_core.checkpoint.shard import CHUNK_BYTES

KINDS = ("turns", "same", "control")


def trained(kinds):
    alone = {"median": [0.004], "mean": [0.004], "longest": [0.006]}
    saving = {"median": [0.004], "mean": [0.005], "longest": [0.030]}
    found = {}
    for kind in kinds:
        found[f"{kind} alone"] = alone
        found[f"{kind} saving"] = saving
    return Run(saved={}, trained=found)


def rows(run):
    return [line for line in tables(run, {}).splitlines() if "do nothing" in line]


def test_the_control_has_its_rows_below_the_training():
    median, mean, longest = rows(trained(KINDS))
    assert median.endswith("| +0 % |")
    assert mean.endswith("| +25 % |")
    assert longest.endswith("| +400 % |")


def test_figures_from_before_there_was_a_control_are_still_shown():
    run = trained(KINDS[:2])
    assert rows(run) == []
    assert tables(run, {}).count("on one variable") == 3


def test_the_control_writes_as_many_bytes_as_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.checkpoint.control_peer.time.sleep", lambda seconds: None)
    path = tmp_path / "plain"
    write(path, CHUNK_BYTES + 3)
    content = path.read_bytes()
    assert len(content) == CHUNK_BYTES + 3
    assert content[:3] == content[CHUNK_BYTES:]
    assert any(content)
    assert capsys.readouterr().out.strip() == '"ready"'

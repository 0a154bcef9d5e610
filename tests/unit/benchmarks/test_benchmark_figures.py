"""The figures that the benchmarks publish say what they claim to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
from benchmarks import processes, report
from benchmarks.clusters import Cluster, PeerError
from benchmarks.measuring import Measurement, Result, measure, milliseconds, ratios, spread
from benchmarks.peers import MATCHES, PEERS
from benchmarks.workloads import Act, Group, Update, Workload, curves, rows

PUSH = Workload(name="push", title="push", group=Group(name="w", shape=(4,)), act=Act.PUSH)
PULL = Workload(name="pull", title="pull", group=Group(name="w", shape=(4,)), act=Act.PULL)


def measured(workload=PUSH, **rounds_s):
    results = {name.replace("_", "-"): Result(rounds_s=times) for name, times in rounds_s.items()}
    return Measurement(workload=workload, results=results, load=(0.5, 1.5))


class FakeCluster:
    """Takes a hundredth of a second for each act; fails when told to."""

    def __init__(self, name, fails_at=None, compile_s=0.0):
        self.name = name
        self.calls = []
        self.compile_s = lambda workload: compile_s
        self._fails_at = fails_at

    def _note(self, call):
        self.calls.append(call)
        if call[0] == self._fails_at:
            raise PeerError(f"{self.name} failed\n    Traceback\n    KeyError: 1")

    @contextlib.contextmanager
    def awake(self):
        yield

    def open(self, group, workers):
        self._note(("open", group.name, workers))

    def act(self, workload, repetitions):
        self._note(("act", repetitions))
        return [0.01] * repetitions

    def check(self, updates):
        self._note(("check", updates))

    def close(self, workers):
        self._note(("close", workers))

    def worker_tree(self):
        return []

    server_tree = worker_tree

    def end(self):
        self.calls.append(("end",))


def run(clusters, workload=PUSH, **options):
    options = {"rounds": 3, "round_s": 0.2, "is_quick": False, **options}
    return measure(clusters, workload, **options, say=lambda _: 0)


def test_rounds_have_as_many_acts_as_fill_their_time_and_all_are_checked():
    cluster = FakeCluster("shm")
    found = run([cluster])
    acts = [call for call in cluster.calls if call[0] == "act"]
    assert acts == [("act", 3), ("act", 20), ("act", 20), ("act", 20)]
    assert cluster.calls[-2:] == [("check", 63), ("close", 1)]
    assert found.results["shm"].rounds_s == [0.01] * 3


def test_updates_are_compiled_before_any_is_counted_unless_it_shall_be_quick():
    for is_quick, warm_up in ((False, 9), (True, 3)):
        cluster = FakeCluster("shm", compile_s=0.08)
        found = run([cluster], is_quick=is_quick)
        assert cluster.calls.count(("act", 3)) == warm_up / 3
        assert ("check", warm_up + 60) in cluster.calls
        assert found.results["shm"].warm_up == warm_up


def test_what_is_compiled_is_waited_for_once_per_kind_of_update():
    cluster = Cluster("shm", PEERS["shm"], servers=1, workers=1)
    assert cluster.compile_s(PULL) == 0
    assert cluster.compile_s(PUSH) == PEERS["shm"].compiles_s > 0
    assert cluster.compile_s(PUSH) == 0
    adam = Group(name="a", shape=(4,), update=Update.ADAM)
    assert cluster.compile_s(replace(PUSH, group=adam)) > 0
    cluster.end()


def test_acts_that_change_nothing_are_checked_for_that():
    cluster = FakeCluster("shm")
    run([cluster], PULL)
    assert ("check", 0) in cluster.calls


def test_updates_of_all_workers_are_expected():
    cluster = FakeCluster("shm")
    run([cluster], Workload(name="w", title="w", group=PUSH.group, act=Act.STEP, workers=4))
    assert ("check", 4 * 63) in cluster.calls


@pytest.mark.parametrize("point", ["open", "act", "check"])
def test_a_peer_that_fails_is_ended_and_the_others_go_on(point):
    good, bad = FakeCluster("shm"), FakeCluster("torch", fails_at=point)
    clusters = [bad, good]
    found = run(clusters)
    assert clusters == [good]
    assert bad.calls[-1] == ("end",)
    assert found.results["torch"] == Result(failure="torch failed: KeyError: 1")
    assert len(found.results["shm"].rounds_s) == 3
    assert not report.Run(measurements=[found]).is_right


def test_a_ratio_is_taken_to_the_best_peer_of_the_same_round():
    found = measured(shm=[1.0, 2.0, 1.0], torch=[4.0, 5.0, 9.0], ray=[3.0, 8.0, 10.0], grpc=[1.0])
    assert ratios(found, "shm", ("torch", "tensorflow", "ray")) == [3.0, 2.5, 9.0]


def test_there_is_no_ratio_without_a_peer_or_without_us():
    assert ratios(measured(shm=[1.0]), "shm", ("torch",)) == []
    assert ratios(measured(torch=[1.0]), "shm", ("torch",)) == []
    assert ratios(measured(shm=[1.0], torch=[]), "shm", ("torch",)) == []


def test_spread_is_the_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)
    assert milliseconds([0.001, 0.002, 0.003]) == "2.00 (1.50–2.50)"
    assert milliseconds([1.0]) == "1000 (1000–1000)"


def test_memory_of_a_variable_is_the_slope_without_its_elements():
    few, many = (
        Measurement(
            workload=Workload(
                name=f"variables-{n}",
                title="",
                group=Group(name="v", shape=(256,), count=n),
                act=Act.STEP,
                curve="variables",
                x=n,
            ),
            results={
                "shm": Result(
                    rounds_s=[1.0], server_bytes=5000 + 3024 * n, worker_bytes=100 + 1324 * n
                )
            },
            load=(0.0, 0.0),
        )
        for n in (1, 1001)
    )
    found = report.variable_bytes([few, many], "shm")
    assert found == {"server": 2000.0, "worker": 300.0}
    assert report.variable_bytes([few], "shm") == {}


def test_a_page_keeps_what_is_around_the_figures(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put_into(page, "new")
    report.put_into(page, "newer")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"


def test_a_page_without_a_place_for_the_figures_is_refused(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match=r"performance\.md: needs the lines"):
        report.put_into(page, "new")
    assert page.read_text() == "nothing"


def test_tables_have_each_figure_and_the_ratio():
    run = report.Run(
        measurements=[measured(shm=[0.001] * 3, grpc=[0.002] * 3, torch=[0.003] * 3)],
        imports_s={"paramserve": 0.25},
        starts_s={"shm": {"server_s": 0.5, "worker_s": 0.75}},
    )
    text = report.as_markdown(run, None)
    assert "| push | 3.00 (3.00–3.00) | 1.00 (1.00–1.00) | **3.0x** (3.0–3.0) |" in text
    assert "| paramserve | 0.25 | 0.50 | 0.75 |" in text
    assert "Load average during the run: 0.5 to 1.5." in text
    assert "busy" not in text
    figures = json.loads(report.as_json(run))
    assert figures["measurements"][0]["results"]["grpc"]["rounds_s"] == [0.002] * 3


def test_what_is_ours_without_the_extra_is_shown_and_not_compared():
    run = report.Run(measurements=[measured(shm=[0.001], numpy=[0.002], torch=[0.003])])
    text = report.as_markdown(run, None)
    head = "torch RPC | paramserve without [fast] | paramserve | faster than the best |"
    assert head in text
    assert "| push | 3.00 (3.00–3.00) | 2.00 (2.00–2.00) | 1.00 (1.00–1.00) | **3.0x**" in text


@pytest.mark.parametrize(("numba", "said"), [("0.61.0", "with"), (None, "without")])
def test_figures_say_whether_updates_were_compiled(monkeypatch, numba, said):
    def version(package):
        if package != "numba":
            return "1.0"
        if numba is None:
            raise PackageNotFoundError(package)
        return numba

    monkeypatch.setattr(report.importlib.metadata, "version", version)
    text = report.as_markdown(report.Run(measurements=[measured(shm=[1.0])]), None)
    assert f"paramserve ran {said} its extra [fast]." in text


def test_figures_of_a_busy_machine_say_so():
    idle, busy = measured(shm=[1.0]), measured(shm=[1.0])
    busy.load = (500.0, 9000.0)
    assert "busy" not in report.as_markdown(report.Run(measurements=[idle]), None)
    text = report.as_markdown(report.Run(measurements=[busy]), None)
    assert "500.0 to 9000.0. **The machine was busy with other work**" in text


def test_workloads_have_names_of_their_own_and_peers_that_exist():
    points = curves(nbytes=[4, 8], variables=[1], workers=[1, 2], servers=[1, 2])
    names = [workload.name for workload in [*rows(), *points]]
    assert len(names) == len(set(names))
    for match in MATCHES:
        assert {match.ours, *match.others, *match.beside} <= set(PEERS)
    for peer in PEERS.values():
        assert (peer.workloads or set()) <= set(names)


def test_variables_are_spread_over_servers_in_turns():
    group = Group(name="g", count=5, servers=2, update=Update.SGD)
    assert [group.of_server(0), group.of_server(1)] == [[0, 2, 4], [1, 3]]


def test_processes_that_do_not_listen_are_killed_and_no_others(monkeypatch):
    monkeypatch.setattr(processes, "_GRACE_S", 0.05)
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); "
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        members = processes.tree([process.pid])
        assert [member.pid for member in members] == [process.pid]
        stranger = processes.ProcessId(os.getpid(), started=-1)
        processes.end([stranger, *members])
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert processes.tree([process.pid]) == []

"""Who waits for an update of a variable sees what it did; all others see one value."""

import numpy as np
import pytest

import paramserve as ps
from graph_builder import GraphBuilder
from paramserve_core.plan import rereading
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.ordering import prune
from paramserve_core.plan.rereading import read_after_updates


def nodes_of(builder, *wanted, fed=()):
    """The inputs of each node of a step, after reads were added."""
    graph = StepGraph()
    graph.extend(builder.graph)
    fed = set(fed)
    found = read_after_updates(graph, prune(graph, wanted, fed), fed)
    return {name: list(node.message.input) for name, node in found.items()}


@pytest.fixture
def g():
    """A variable with a read, and an update of it."""
    g = GraphBuilder()
    g.variable("v", [])
    g.identity("v/read", "v", colocate_with=["v"])
    g.constant("one", 1.0)
    g.assign("update", "v", "one", op="AssignAdd")
    return g


def test_an_op_that_waits_for_an_update_reads_once_more(g):
    g.identity("after", "v/read", "^update")
    g.identity("other", "v/read")
    found = nodes_of(g, "after", "other")
    assert found["after"] == ["v/read/again_1", "^update"]
    assert found["v/read/again_1"] == ["v", "^update"]
    assert found["other"] == ["v/read"]


def test_an_op_that_waits_by_way_of_what_it_takes_reads_once_more(g):
    g.constant("ten", 10.0)
    g.identity("late", "ten", "^update")
    g.add("sum", "v/read", "late")
    found = nodes_of(g, "sum")
    assert found["sum"] == ["v/read/again_1", "late"]
    assert found["v/read/again_1"] == ["v", "^late"]


def test_an_op_that_takes_the_updated_value_keeps_what_was_read_before(g):
    g.add("difference", "update", "v/read")
    assert nodes_of(g, "difference")["difference"] == ["update", "v/read"]


def test_an_op_that_waits_for_something_else_keeps_what_was_read(g):
    g.variable("w", [])
    g.assign("elsewhere", "w", "v/read")
    g.identity("after", "v/read", "^elsewhere")
    assert nodes_of(g, "after", "update")["after"] == ["v/read", "^elsewhere"]


def test_ops_that_wait_for_the_same_share_a_read(g):
    g.identity("a", "v/read", "^update")
    g.identity("b", "v/read", "^update")
    g.add("twice", "v/read", "v/read")
    g.identity("c", "twice", "^update")
    found = nodes_of(g, "a", "b", "c")
    assert found["a"][0] == found["b"][0] == "v/read/again_1"
    assert found["twice"] == ["v/read", "v/read"]


def test_one_op_may_take_the_read_twice(g):
    g.constant("ten", 10.0)
    g.add("twice", "v/read", "v/read")
    g.graph.node[-1].input.append("^update")
    assert nodes_of(g, "twice")["twice"] == ["v/read/again_1", "v/read/again_1", "^update"]


def test_a_chain_of_updates_is_one_of_its_variable(g):
    g.assign("second", "update", "one", op="AssignSub")
    g.identity("after", "v/read", "^second")
    assert nodes_of(g, "after")["after"][0] == "v/read/again_1"


def test_a_read_that_waits_itself_is_of_its_own_time(g):
    g.identity("early", "v", "^one")
    g.identity("after", "early", "^update")
    assert nodes_of(g, "after")["after"] == ["early", "^update"]


@pytest.mark.parametrize("order", [["enter", "next"], ["next", "enter"]])
def test_a_reference_that_goes_around_a_loop_is_of_the_variable_that_it_came_from(g, order):
    g.constant("true", np.array(True))
    g.node("Enter", "true_in", "true", frame_name="loop", T=bool)
    g.node("LoopCond", "condition", "true_in")
    g.node("RefEnter", "enter", "v", frame_name="loop", T=ps.float32)
    g.node("RefMerge", "merge", *order, N=2, T=ps.float32)
    g.node("RefSwitch", "switch", "merge", "condition", T=ps.float32)
    g.assign("inside", "switch:1", "one", op="AssignAdd")
    g.node("RefNextIteration", "next", "switch:1", T=ps.float32)
    g.identity("read", "merge")
    g.identity("after", "read", "^inside")
    found = nodes_of(g, "after")
    assert found["read/again_1"] == ["merge", "^inside"]


def test_references_that_lead_back_to_themselves_are_looked_at_once(g):
    g.assign("first", "second", "one")
    g.assign("second", "first", "one")
    g.identity("read", "first")
    g.identity("after", "read", "^update")
    assert nodes_of(g, "after")["after"] == ["read", "^update"]


def test_reads_that_would_outgrow_the_graph_are_refused(monkeypatch):
    monkeypatch.setattr(rereading, "_MAX_COST", 32 * 19 * 20)
    g = GraphBuilder()
    g.constant("one", 1.0)
    count = 20
    for i in range(count):
        g.variable(f"v{i}", [])
        g.assign(f"update{i}", f"v{i}", "one")
        g.identity(f"read{i}", f"v{i}")
        g.node("NoOp", f"wait{i}", "^all")
    g.node("NoOp", "all", *[f"^update{i}" for i in range(count)])
    waits = [f"^wait{i}" for i in range(count)]
    g.node("AddN", "sum", *[f"read{i}" for i in range(count)], *waits, N=count, T=ps.float32)
    with pytest.raises(ps.errors.ResourceExhaustedError, match=r"sum waits for .*group\(\)"):
        nodes_of(g, "sum")


def test_what_is_fed_is_not_read(g):
    g.identity("after", "v/read", "^update")
    assert nodes_of(g, "after", fed=["v/read:0"])["after"] == ["v/read", "^update"]
    found = nodes_of(g, "after", fed=["update:0"])
    assert found["after"] == ["v/read", "^update"]


def test_a_new_read_takes_no_name_of_the_graph(g):
    g.identity("v/read/again_1", "one")
    g.identity("after", "v/read", "^update")
    assert nodes_of(g, "after")["after"][0] == "v/read/again_2"


def test_a_graph_of_many_variables_is_looked_at_once():
    g = GraphBuilder()
    g.constant("one", 1.0)
    for i in range(2000):
        g.variable(f"v{i}", [])
        g.identity(f"v{i}/read", f"v{i}")
        g.assign(f"update{i}", f"v{i}", "one", op="AssignAdd")
    g.node("NoOp", "all", *(f"^update{i}" for i in range(2000)))
    for i in range(2000):
        g.identity(f"after{i}", f"v{i}/read", "^all")
    found = nodes_of(g, *(f"after{i}" for i in range(2000)))
    assert all(found[f"after{i}"][0] == f"v{i}/read/again_1" for i in range(2000))


@pytest.fixture(params=["in process", "on two servers"])
def place(request):
    """Makes a session, and says where variables go."""
    if request.param == "in process":
        yield ps.Session, ["", ""]
        return
    spec = {"ps": ["localhost:0"]}
    with ps.train.Server(spec) as one, ps.train.Server(spec) as two:
        addresses = [s.target.removeprefix("grpc://") for s in (one, two)]
        cluster = ps.train.ClusterSpec({"ps": dict(enumerate(addresses))})
        yield lambda: ps.Session(cluster), ["/job:ps/task:0", "/job:ps/task:1"]


def test_a_program_sees_its_updates(place):
    session, devices = place
    with ps.Graph().as_default():
        with ps.device(devices[0]):
            v = ps.Variable(1.0, name="v")
        with ps.device(devices[1]):
            w = ps.Variable(5.0, name="w")
        with ps.control_dependencies([v.assign_add(w)]):
            after = [v + 10.0, ps.identity(v), ps.square(v) - w, v]
            copied = w.assign(v)
        with ps.control_dependencies([copied]):
            last = ps.identity(w)
        before = v * 1.0
        with session() as sess:
            sess.run(ps.global_variables_initializer())
            assert sess.run([*after[:3], last]) == [16, 6, 31, 6]
            assert sess.run(v) == 6
            assert sess.run(before) == 6
            metadata = ps.RunMetadata()
            options = ps.RunOptions(output_partition_graphs=True)
            sess.run(after[0], options=options, run_metadata=metadata)
            for part in metadata.partition_graphs:
                with ps.Graph().as_default():
                    ps.import_graph_def(part)

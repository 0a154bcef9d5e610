"""What a plan is made of: prune, place, order, cut."""

import re

import pytest

from graph_builder import GraphBuilder
from paramserve_core.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import FEEDS, Source, make_plan

WORKER = "/job:worker/replica:0/task:0"
PS0 = "/job:ps/replica:0/task:0"
PS1 = "/job:ps/replica:0/task:1"


def plan_of(
    builder, fetches=(), feeds=(), targets=(), *, tasks=(PS0, PS1, WORKER), soft=False, cpus=1
):
    graph = StepGraph()
    graph.extend(builder.graph)
    return make_plan(graph, Placer(tasks, tasks[-1], soft=soft, cpus=cpus), fetches, feeds, targets)


def names(stage):
    return [node.name for node in stage.nodes]


def training_step() -> GraphBuilder:
    """Two variables on two tasks, a computation here, an update of each."""
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:0")
    g.variable("b", device="/job:ps/task:1")
    g.placeholder("x")
    g.identity("w/read", "w", colocate_with=["w"])
    g.identity("b/read", "b", colocate_with=["b"])
    g.add("sum", "w/read", "b/read")
    g.add("loss", "sum", "x")
    g.assign("w/update", "w", "loss", op="AssignSub")
    g.assign("b/update", "b", "loss", op="AssignSub")
    g.identity("unused", "sum")
    return g


def test_a_step_over_two_tasks_is_cut_into_one_request_per_task_and_level():
    plan = plan_of(training_step(), ["loss:0"], ["x:0"], ["w/update", "b/update"])
    assert [(s.task, names(s)) for s in plan.stages] == [
        (PS0, ["w", "w/read"]),
        (PS1, ["b", "b/read"]),
        (WORKER, ["sum", "loss"]),
        (PS0, ["w", "w/update"]),
        (PS1, ["b", "b/update"]),
    ]
    assert [s.needs for s in plan.stages] == [(), (), (0, 1), (0, 2), (1, 2)]
    worker = plan.stages[2]
    assert worker.sources == (Source(0, 0), Source(1, 0), Source(FEEDS, 0))
    assert plan.fetches == (Source(2, 0),)
    assert all(not stage.kept for stage in plan.stages)
    assert [s.is_last for s in plan.stages] == [False, False, True, True, True]
    assert [s.changes_variables for s in plan.stages] == [False, False, False, True, True]


def test_what_the_fetches_do_not_need_is_pruned():
    plan = plan_of(training_step(), ["w/read:0"])
    assert [names(s) for s in plan.stages] == [["w", "w/read"]]


def test_feeding_a_tensor_prunes_what_computes_it():
    plan = plan_of(training_step(), ["loss:0"], ["sum:0", "x"])
    assert [names(s) for s in plan.stages] == [["loss"]]
    assert plan.feeds == ("sum:0", "x:0")


def test_a_tensor_fetched_and_fed_comes_from_the_feed():
    plan = plan_of(training_step(), ["x:0"], ["x:0"])
    assert plan.fetches == (Source(FEEDS, 0),)
    assert plan.stages == ()


def test_a_constant_goes_to_every_task_that_uses_it():
    g = GraphBuilder()
    g.constant("one", [1.0])
    g.variable("w", [1], device="/job:ps/task:0")
    g.assign("w/add", "w", "one", op="AssignAdd")
    g.identity("here", "one")
    plan = plan_of(g, ["here:0"], targets=["w/add"])
    assert [(s.task, names(s), s.received) for s in plan.stages] == [
        (PS0, ["w", "one", "w/add"], ()),
        (WORKER, ["one", "here"], ()),
    ]


def test_a_fetched_constant_is_answered_by_a_stage():
    g = GraphBuilder()
    g.constant("one", [1.0])
    plan = plan_of(g, ["one:0"])
    assert [(s.task, names(s), s.returned) for s in plan.stages] == [(WORKER, ["one"], ("one:0",))]


def test_a_large_feed_is_sent_to_a_task_once_and_kept_there():
    g = GraphBuilder()
    g.placeholder("x")
    g.variable("w", device="/job:ps/task:0")
    g.assign("first", "w", "x")
    g.identity("away", "first")
    g.add("again", "away", "x", device="/job:ps/task:0")
    plan = plan_of(g, ["again:0"], ["x:0"])
    first, _, second = plan.stages
    assert (first.received, first.retained) == (("x:0",), ("x:0",))
    assert (second.received, second.kept) == (("away:0",), ("x:0",))


def test_ops_without_a_dependency_keep_the_order_of_creation():
    g = GraphBuilder()
    g.variable("w")
    for i in range(5):
        g.constant(f"c{i}", 1.0)
    for i in (3, 1, 4, 0, 2):
        g.assign(f"a{i}", "w", f"c{i}")
    plan = plan_of(g, targets=["a0", "a1", "a2", "a3", "a4"])
    assert names(plan.stages[0])[6:] == ["a3", "a1", "a4", "a0", "a2"]


def test_a_control_dependency_orders_stages_of_two_tasks():
    g = GraphBuilder()
    g.constant("one", 1.0)
    g.variable("w", device="/job:ps/task:0")
    g.variable("b", device="/job:ps/task:1")
    g.assign("w/set", "w", "one")
    g.node("Assign", "b/set", "b", "one", "^w/set", T="float32")
    plan = plan_of(g, targets=["b/set"])
    assert [(s.task, s.needs) for s in plan.stages] == [(PS0, ()), (PS1, (0,))]


def test_an_unfed_placeholder_is_named_with_its_type():
    with pytest.raises(
        InvalidArgumentError, match="You must feed a value for placeholder tensor 'x'"
    ):
        plan_of(training_step(), ["loss:0"])


def test_a_tensor_cannot_be_fed_twice():
    with pytest.raises(InvalidArgumentError, match="x:0 is fed twice"):
        plan_of(training_step(), ["loss:0"], ["x", "x:0"])


def test_a_name_that_is_not_in_the_graph_is_not_found():
    with pytest.raises(NotFoundError, match="'nothing' is not in the graph"):
        plan_of(training_step(), ["nothing:0"])
    with pytest.raises(InvalidArgumentError, match="sum:1 does not exist"):
        plan_of(training_step(), ["sum:1"])


def test_a_cycle_is_refused():
    g = GraphBuilder()
    g.identity("a", "b")
    g.identity("b", "a")
    with pytest.raises(InvalidArgumentError, match="cycle"):
        plan_of(g, ["a:0"])


def test_an_op_goes_where_the_variable_is_that_it_takes_by_reference():
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:1")
    g.constant("one", 1.0)
    g.assign("w/set", "w", "one", device="/job:worker/task:0")
    assert [s.task for s in plan_of(g, targets=["w/set"]).stages] == [PS1]


def test_a_partial_device_is_the_first_task_that_fits():
    g = GraphBuilder()
    g.variable("w", device="/job:ps")
    g.identity("r", "w", device="/cpu:0")
    assert [s.task for s in plan_of(g, ["r:0"]).stages] == [PS0, WORKER]


@pytest.mark.parametrize(
    "device", ["/job:ps/task:7", "/job:other", "/gpu:0", "/job:ps/device:GPU:0"]
)
def test_a_device_that_is_not_there_is_refused_or_soft_placement_passes_it_over(device):
    g = GraphBuilder()
    g.constant("c", 1.0)
    g.identity("r", "c", device=device)
    with pytest.raises(
        InvalidArgumentError, match=r"Cannot assign a device for operation r.*there are"
    ):
        plan_of(g, ["r:0"])
    assert [s.task for s in plan_of(g, ["r:0"], soft=True).stages] == [WORKER]


def test_a_task_answers_to_as_many_cpus_as_were_asked_for():
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:1/device:CPU:1")
    g.identity("r", "w", device="/cpu:2")
    with pytest.raises(InvalidArgumentError, match=r"task:1/device:CPU:0, .*CPU:0; name"):
        plan_of(g, ["r:0"])
    with pytest.raises(InvalidArgumentError, match="task:1/device:CPU:0 to 1, "):
        plan_of(g, ["r:0"], cpus=2)
    assert [s.task for s in plan_of(g, ["r:0"], cpus=3).stages] == [PS1, WORKER]


def test_two_variables_on_two_tasks_cannot_be_joined():
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:0")
    g.variable("b", device="/job:ps/task:1", colocate_with=["w"])
    g.identity("r", "b")
    with pytest.raises(InvalidArgumentError, match="must be on one task"):
        plan_of(g, ["r:0", "w:0"])


def test_a_conditional_stays_on_one_task():
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:0")
    g.node("IsVariableInitialized", "ready", "w", dtype="float32")
    g.constant("start", 1.0)
    g.node("Switch", "unless", "start", "ready", T="float32")
    g.node("RefSwitch", "when", "w", "ready", T="float32")
    g.identity("value", "when:1")
    g.node("Merge", "either", "unless", "value", T="float32", N=2)
    g.identity("here", "either")
    plan = plan_of(g, ["here:0"])
    assert [(s.task, len(s.nodes)) for s in plan.stages] == [(PS0, 7), (WORKER, 1)]


@pytest.mark.parametrize(
    ("op", "inputs", "error", "text"),
    [
        ("Nonsense", (), NotFoundError, "Op type not registered 'Nonsense'"),
        ("Identity", ("missing",), InvalidArgumentError, "missing:0 is not in the graph"),
        ("Identity", (), InvalidArgumentError, "takes 1 inputs here, found 0"),
        ("Identity", ("c", "c"), InvalidArgumentError, "takes 1 inputs here, found 2"),
        ("Identity", ("c:3",), InvalidArgumentError, "c:3 does not exist"),
        ("Identity", ("c", "^gone"), InvalidArgumentError, "'gone', which is not in the graph"),
        ("Identity", ("c:x",), InvalidArgumentError, "names no tensor"),
    ],
)
def test_a_malformed_node_is_refused_and_nothing_of_its_message_is_added(op, inputs, error, text):
    g = GraphBuilder()
    g.constant("c", 1.0)
    g.node(op, "bad", *inputs, **({"T": "float32"} if op == "Identity" else {}))
    graph = StepGraph()
    with pytest.raises(error, match=re.escape(text)):
        graph.extend(g.graph)
    assert len(graph) == 0


def test_types_of_edges_are_checked():
    g = GraphBuilder()
    g.constant("c", 1.0)
    g.constant("i", 1)
    g.node("Add", "bad", "c", "i", T="float32")
    with pytest.raises(InvalidArgumentError, match="wanted float32"):
        StepGraph().extend(g.graph)


def test_a_value_is_no_reference():
    g = GraphBuilder()
    g.constant("c", 1.0)
    g.assign("bad", "c", "c")
    graph = StepGraph()
    with pytest.raises(InvalidArgumentError, match="c:0 is"):
        graph.extend(g.graph)


def test_a_graph_has_a_limit_of_nodes():
    g = GraphBuilder()
    for i in range(3):
        g.constant(f"c{i}", 1.0)
    with pytest.raises(ResourceExhaustedError, match="limit is 2"):
        StepGraph(max_nodes=2).extend(g.graph)


def test_a_name_is_unique():
    g = GraphBuilder()
    g.constant("c", 1.0)
    other = GraphBuilder()
    other.constant("c", 2.0)
    graph = StepGraph()
    graph.extend(g.graph)
    with pytest.raises(InvalidArgumentError, match="in the graph already"):
        graph.extend(other.graph)
    other.graph.node.append(other.graph.node[0])
    with pytest.raises(InvalidArgumentError, match="in the graph already"):
        StepGraph().extend(other.graph)


def test_nodes_that_are_sent_again_are_passed_over():
    g = GraphBuilder()
    g.constant("c", 1.0)
    graph = StepGraph(max_nodes=2)
    graph.extend(g.graph)
    g.identity("i", "c")
    graph.extend(g.graph)
    graph.extend(g.graph)
    assert [node.name for node in graph] == ["c", "i"]

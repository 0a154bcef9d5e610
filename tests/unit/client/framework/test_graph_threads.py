"""Several threads build one graph."""

import threading

from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph


def run_together(count, work):
    barrier = threading.Barrier(count)
    failures = []

    def run(i):
        barrier.wait()
        try:
            work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_threads_that_build_one_graph_share_its_names_and_keep_their_blocks():
    graph = Graph()
    with graph.as_default():
        start = apply_op("Placeholder", "start", dtype="float32", shape=[])

    def build(i):
        with graph.as_default(), graph.device(f"/task:{i}"), graph.name_scope("scope"):
            x = start
            for _ in range(100):
                x = apply_op("Neg", "same", x=x)

    run_together(4, build)
    ops = graph.get_operations()
    assert len({op.name for op in ops}) == len(ops) == graph.version == 401
    assert {op.name.partition("/")[0] for op in ops[1:]} == {
        "scope",
        "scope_1",
        "scope_2",
        "scope_3",
    }
    for op in ops[1:]:
        source = op.inputs[0].op
        assert source is start.op or source.device == op.device
    assert len(start.consumers()) == 4


def test_exports_while_the_graph_grows_add_up_to_the_graph():
    graph = Graph()
    exported = []

    def work(i):
        if i:
            with graph.as_default():
                for _ in range(200):
                    apply_op("NoOp")
            return
        version = 0
        while version < 600:
            part = graph.as_graph_def(from_version=version)
            version += len(part.node)
            exported.extend(part.node)

    run_together(4, work)
    assert [node.name for node in exported] == [op.name for op in graph.get_operations()]

"""A step's statistics as a timeline in Chrome's format."""

import json

import pytest

import paramserve as ps
from paramserve_protos.v1.step_stats_pb2 import StepStats

PS = "/job:ps/replica:0/task:0/device:CPU:0"
WORKER = "/job:worker/replica:0/task:0/device:CPU:0"


def stats(*ops):
    """Ops as (device, label, began, ended, bytes); times in nanoseconds, 1 ms after the epoch."""
    result = StepStats()
    for name, label, began, ended, made_bytes in ops:
        device = next((d for d in result.dev_stats if d.device == name), None)
        device = device or result.dev_stats.add(device=name)
        node = device.node_stats.add(
            node_name=label.partition(" = ")[0],
            timeline_label=label,
            all_start_nanos=1_000_000 + began,
            all_end_rel_nanos=ended - began,
        )
        if made_bytes:
            description = node.output.add().tensor_description.allocation_description
            description.allocated_bytes = made_bytes
    return result


def events(step_stats, phase, **options):
    text = ps.Timeline(step_stats).generate_chrome_trace_format(**options)
    return [event for event in json.loads(text)["traceEvents"] if event["ph"] == phase]


STEP = stats(
    (PS, "read = Identity(w)", 0, 1500, 0),
    (WORKER, "sum = AddV2(read, x:1, ^ready)", 4000, 6000, 80),
    (WORKER, "twice = AddV2(sum, sum)", 6000, 9000, 40),
    (PS, "update = AssignSub(w, twice)", 12_000, 13_000, 0),
)


def test_each_device_is_a_process_and_each_op_an_event_of_it():
    names = {e["pid"]: e["args"]["name"] for e in events(STEP, "M")}
    assert sorted(names.values()) == [PS, WORKER]
    found = [(names[e["pid"]], e["name"], e["ts"], e["dur"]) for e in events(STEP, "X")]
    assert found == [
        (PS, "Identity", 0, 1.5),
        (PS, "AssignSub", 12, 1),
        (WORKER, "AddV2", 4, 2),
        (WORKER, "AddV2", 6, 3),
    ]


def test_an_event_says_which_op_it_is_and_what_it_takes():
    arguments = next(e["args"] for e in events(STEP, "X") if e["args"]["name"] == "sum")
    assert arguments == {
        "name": "sum",
        "op": "AddV2",
        "input0": "read",
        "input1": "x:1",
        "input2": "^ready",
        "bytes": "80",
    }


def test_ops_that_overlap_go_to_lanes_of_their_own_and_lanes_are_used_again():
    step = stats(
        (PS, "a = A()", 0, 10, 0),
        (PS, "b = A()", 5, 20, 0),
        (PS, "c = A()", 10, 30, 0),
        (PS, "d = A()", 19, 40, 0),
    )
    assert [(e["args"]["name"], e["tid"]) for e in events(step, "X")] == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
        ("d", 2),
    ]


def test_arrows_go_from_producer_to_consumer_where_they_are_in_different_lanes():
    starts, ends = events(STEP, "s"), events(STEP, "f")
    assert [(e["name"], e["ts"]) for e in starts] == [("twice", 9), ("read", 1.5)]
    assert [e["ts"] for e in ends] == [12, 4]
    assert [e["id"] for e in starts] == [e["id"] for e in ends]
    assert not events(STEP, "s", show_dataflow=False)


def test_in_a_loop_a_value_comes_from_the_run_that_ended_last():
    step = stats(
        (PS, "next = NextIteration(x)", 0, 10, 0),
        (PS, "next = NextIteration(x)", 20, 30, 0),
        (PS, "next = NextIteration(x)", 60, 70, 0),
        (WORKER, "use = Identity(next)", 50, 55, 0),
    )
    (arrow,) = events(step, "s")
    assert arrow["ts"] == 0.03


def test_memory_is_counted_from_the_op_that_makes_it_to_the_last_that_takes_it():
    counters = events(STEP, "C", show_memory=True)
    assert [(e["ts"], e["args"]["bytes"]) for e in counters] == [
        (6, 80),
        (9, 120),
        (9, 40),
        (13, 0),
    ]
    assert not events(STEP, "C")


def test_stats_in_microseconds_as_older_programs_wrote_them_are_understood():
    step = StepStats()
    device = step.dev_stats.add(device=PS)
    device.node_stats.add(node_name="a", all_start_micros=5_000_000, all_end_rel_micros=3)
    device.node_stats.add(node_name="b", all_start_micros=5_000_010, all_end_rel_micros=4)
    assert [(e["name"], e["ts"], e["dur"]) for e in events(step, "X")] == [
        ("a", 0, 3),
        ("b", 10, 4),
    ]


def test_a_step_in_which_nothing_ran_is_an_empty_timeline():
    assert events(StepStats(), "X", show_memory=True) == []


def test_anything_but_a_steps_statistics_is_refused():
    with pytest.raises(TypeError, match="the step_stats of a RunMetadata; got 'RunMetadata'"):
        ps.Timeline(ps.RunMetadata())

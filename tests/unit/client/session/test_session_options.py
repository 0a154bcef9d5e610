"""Options: what they do, and that those without a meaning are refused."""

import pytest

import paramserve as ps


def with_unknown_field(message, number):
    """The message with a field that it does not have, as another program may have sent it."""
    data = message.SerializeToString() + bytes([number << 3 & 0x7F | 0x80, number >> 4, 1])
    return type(message).FromString(data)


def test_arguments_of_another_type_are_refused():
    with pytest.raises(TypeError, match="target must be a string or a ClusterSpec, but got 'int'"):
        ps.Session(3)
    with pytest.raises(TypeError, match="graph must be a Graph, but got 'int'"):
        ps.Session(graph=3)
    with pytest.raises(TypeError, match=r"config must be a paramserve\.ConfigProto, but got"):
        ps.Session(config={})


@pytest.mark.parametrize("target", ["localhost:2222", "grpc://", "grpc://host", "grpc://host:x"])
def test_a_target_of_another_form_is_refused(target):
    with pytest.raises(ps.errors.InvalidArgumentError, match="the target of a session is"):
        ps.Session(target)


def test_options_of_a_session_that_mean_nothing_are_refused():
    config = with_unknown_field(ps.ConfigProto(log_device_placement=True), 6)
    with pytest.raises(ValueError, match=r"nothing here: gpu_options \(field 6\); it takes allow_"):
        ps.Session(config=config)
    with pytest.raises(ValueError, match=r"unknown \(field 99\)"):
        ps.Session(config=with_unknown_field(ps.ConfigProto(), 99))


def test_a_session_answers_to_as_many_cpus_as_were_asked_for():
    with ps.device("/cpu:1"):
        a = ps.constant(1)
    with ps.Session(config=ps.ConfigProto(device_count={"CPU": 2, "GPU": 0})) as sess:
        assert sess.run(a) == 1
    with (
        ps.Session(config=ps.ConfigProto(device_count={"CPU": 0})) as sess,
        pytest.raises(ps.errors.InvalidArgumentError, match="Cannot assign a device"),
    ):
        sess.run(a)
    for count in (-1, 1 << 20):
        with pytest.raises(ps.errors.InvalidArgumentError, match="device_count of the session"):
            ps.Session(config=ps.ConfigProto(device_count={"CPU": count}))


def test_state_cannot_be_isolated_on_servers():
    config = ps.ConfigProto(isolate_session_state=True)
    ps.Session(config=config).close()
    for target in ("grpc://localhost:1", ps.train.ClusterSpec({"ps": ["localhost:1"]})):
        with pytest.raises(ValueError, match="isolate_session_state: variables on servers"):
            ps.Session(target, config=config)


def test_the_session_keeps_its_options(watched):
    a = ps.constant(1)
    config = ps.ConfigProto(operation_timeout_in_ms=5000)
    with ps.Session(config=config) as sess:
        config.operation_timeout_in_ms = 1
        sess.run(a)
        sess.run(a, options=ps.RunOptions())
        sess.run(a, options=ps.RunOptions(timeout_in_ms=250))
        sess.make_callable(a)()
    assert watched[0].timeouts == [5.0, 5.0, 0.25, 5.0]


def test_without_options_there_is_no_deadline(watched):
    a = ps.constant(1)
    with ps.Session() as sess:
        sess.run(a)
        sess.run(a, options=ps.RunOptions())
    assert watched[0].timeouts == [None, None]


def test_a_negative_timeout_is_refused(sess):
    a = ps.constant(1)
    with pytest.raises(ValueError, match="operation_timeout_in_ms is -1"):
        ps.Session(config=ps.ConfigProto(operation_timeout_in_ms=-1))
    with pytest.raises(ValueError, match="timeout_in_ms is -1"):
        sess.run(a, options=ps.RunOptions(timeout_in_ms=-1))


def test_options_of_a_run_are_checked(sess):
    a = ps.constant(1)
    with pytest.raises(TypeError, match=r"options must be a paramserve\.RunOptions"):
        sess.run(a, options=3)
    with pytest.raises(TypeError, match=r"run_metadata must be a paramserve\.RunMetadata"):
        sess.run(a, run_metadata=3)
    with pytest.raises(ValueError, match=r"nothing here: debug_options \(field 6\)"):
        sess.run(a, options=with_unknown_field(ps.RunOptions(), 6))
    with pytest.raises(ValueError, match="trace_level is 7; wanted one of NO_TRACE, SOFTWARE_TR"):
        sess.run(a, options=ps.RunOptions(trace_level=7))


def test_metadata_of_an_earlier_run_is_overwritten(sess):
    a = ps.constant(1)
    metadata = ps.RunMetadata()
    metadata.step_stats.dev_stats.add(device="earlier")
    sess.run(a, run_metadata=metadata)
    assert metadata == ps.RunMetadata()


def test_soft_placement_lets_an_op_run_elsewhere():
    with ps.device("/job:ps/task:7"):
        a = ps.constant(1) + 1
    with ps.Session() as sess, pytest.raises(ps.errors.InvalidArgumentError, match="/job:ps"):
        sess.run(a)
    with ps.Session(config=ps.ConfigProto(allow_soft_placement=True)) as sess:
        assert sess.run(a) == 2

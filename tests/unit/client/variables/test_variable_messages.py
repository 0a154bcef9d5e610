"""Variables as messages, and in graphs that are exported and imported."""

import pytest

import paramserve as ps
from paramserve_protos.v1.variable_pb2 import VariableDef


def test_a_message_names_the_four_ops():
    v = ps.Variable([1.0], name="w")
    assert v.to_proto() == VariableDef(
        variable_name="w:0",
        initializer_name="w/Assign",
        snapshot_name="w/read:0",
        initial_value_name="w/initial_value:0",
        trainable=True,
    )


def test_a_variable_is_found_again_by_its_message(graph, session):
    v = ps.Variable([1.0], name="w", trainable=False)
    count = graph.version
    for again in (ps.Variable.from_proto(v.to_proto()), ps.Variable(variable_def=v.to_proto())):
        assert again.ref() is v.ref()
        assert again.initializer is v.initializer
        assert again.value() is v.value()
        assert again.initial_value is v.initial_value
        assert not again.trainable
    assert graph.version == count
    assert ps.global_variables() == [v]
    session.run(again.initializer)
    assert session.run(again + 1.0).tolist() == [2]
    assert session.run(again.initialized_value()).tolist() == [1]


def test_the_oldest_messages_do_not_name_the_initial_value():
    v = ps.Variable([1.0], name="w")
    message = v.to_proto()
    message.initial_value_name = ""
    assert ps.Variable.from_proto(message).initial_value is v.initial_value


def test_a_part_keeps_its_place():
    whole = ps.get_variable("w", [5, 2], partitioner=ps.fixed_size_partitioner(2))
    for part in whole:
        again = ps.Variable.from_proto(part.to_proto())
        assert again._get_save_slice_info() == part._get_save_slice_info()


def test_names_are_written_without_a_scope_and_read_into_one():
    with ps.name_scope("model"):
        v = ps.Variable(ps.identity([1.0]), name="w")
    message = v.to_proto(export_scope="model")
    assert message.variable_name == "w:0"
    assert v.to_proto(export_scope="other") is None
    assert v.to_proto(export_scope="mod") is None
    assert ps.Variable.from_proto(message, import_scope="model").ref() is v.ref()


def test_what_is_not_in_the_graph_is_named():
    message = VariableDef(variable_name="w:0", initializer_name="w/Assign")
    with pytest.raises(KeyError, match="'w:0'"):
        ps.Variable.from_proto(message)


def test_a_message_of_what_is_no_variable_is_refused():
    v = ps.Variable([1.0], name="w")
    constant = ps.constant(1.0, name="c")
    wrong = v.to_proto()
    wrong.variable_name = constant.name
    with pytest.raises(ValueError, match="'c:0' is no variable in this graph"):
        ps.Variable.from_proto(wrong)
    wrong = v.to_proto()
    wrong.initializer_name = "c"
    with pytest.raises(ValueError, match="w:0: the initializer 'c' is no assignment"):
        ps.Variable.from_proto(wrong)
    wrong = v.to_proto()
    wrong.snapshot_name = "w"
    with pytest.raises(ValueError, match="'w'"):
        ps.Variable.from_proto(wrong)


def test_a_resource_variable_is_refused_with_what_to_do():
    message = VariableDef(variable_name="w:0", is_resource=True)
    with pytest.raises(ValueError, match="w:0: TensorFlow's resource variables are not known here"):
        ps.Variable.from_proto(message)


def test_a_message_and_a_value_exclude_each_other():
    message = ps.Variable(1.0).to_proto()
    with pytest.raises(ValueError, match="variable_def and initial_value are mutually exclusive"):
        ps.Variable(1.0, variable_def=message)


def test_a_meta_graph_brings_the_variables_back(tmp_path):
    v = ps.Variable([1.0, 2.0], name="v")
    w = ps.get_variable("w", [5], partitioner=ps.fixed_size_partitioner(2))
    ps.Variable(3.0, name="local", collections=[ps.GraphKeys.LOCAL_VARIABLES], trainable=False)
    ps.add_to_collection(ps.GraphKeys.MOVING_AVERAGE_VARIABLES, v)
    ps.Variable(v.initialized_value() * 2.0, name="twice")
    ps.initialize_all_variables()
    message = ps.train.export_meta_graph()
    with ps.Graph().as_default():
        ps.train.import_meta_graph(message)
        names = ["v:0", "w/part_0:0", "w/part_1:0", "twice:0"]
        assert [found.name for found in ps.global_variables()] == names
        assert [found.name for found in ps.trainable_variables()] == names
        assert [found.name for found in ps.local_variables()] == ["local:0"]
        # One variable in several collections is one object.
        assert ps.moving_average_variables() == ps.global_variables()[:1]
        part = ps.global_variables()[2]
        assert part._get_save_slice_info() == list(w)[1]._get_save_slice_info()
        with ps.Session() as session:
            session.run("init")
            assert session.run("twice:0").tolist() == [2, 4]


def test_a_global_step_is_a_variable_again_after_import():
    with ps.Graph().as_default():
        ps.train.create_global_step()
        message = ps.train.export_meta_graph()
    assert message.collection_def["global_step"].WhichOneof("kind") == "bytes_list"
    with ps.Graph().as_default():
        ps.train.import_meta_graph(message)
        (step,) = ps.global_variables()
        assert ps.train.get_global_step() is step


def test_a_collection_of_variables_that_holds_a_tensor_is_left_out(caplog):
    with ps.Graph().as_default():
        ps.add_to_collection(ps.GraphKeys.GLOBAL_STEP, ps.constant(0, name="step"))
        message = ps.train.export_meta_graph()
    assert "global_step" not in message.collection_def
    assert "is not a Variable" in caplog.text

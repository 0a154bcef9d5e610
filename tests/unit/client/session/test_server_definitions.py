"""Which task a server is, at which address, and whom it lets in."""

import pytest

import paramserve as ps
from paramserve_core.transport.credentials import CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE

CLUSTER = {"ps": ["localhost:0", "localhost:0"], "worker": ["localhost:0"]}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for variable in (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, "TF_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


def definition(*args, **kwargs):
    with ps.train.Server(*args, start=False, **kwargs) as server:
        return server.server_def


@pytest.mark.parametrize(
    "source",
    [
        CLUSTER,
        ps.train.ClusterSpec(CLUSTER),
        ps.train.ClusterSpec(CLUSTER).as_cluster_def(),
        ps.train.ServerDef(cluster=ps.train.ClusterSpec(CLUSTER).as_cluster_def()),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_form_of_a_cluster_is_taken(source):
    found = definition(source, "ps", 1)
    assert ps.train.ClusterSpec(found.cluster) == ps.train.ClusterSpec(CLUSTER)
    assert (found.job_name, found.task_index, found.protocol) == ("ps", 1, "grpc")


def test_a_server_def_says_the_rest_too():
    whole = ps.train.ServerDef(
        cluster=ps.train.ClusterSpec(CLUSTER).as_cluster_def(),
        job_name="ps",
        task_index=1,
        protocol="grpc",
    )
    assert definition(whole) == whole
    assert definition(whole, task_index=0).task_index == 0


def test_what_there_is_one_of_may_be_left_out():
    found = definition(CLUSTER, "worker")
    assert (found.job_name, found.task_index) == ("worker", 0)
    found = definition({"worker": {3: "localhost:0"}})
    assert (found.job_name, found.task_index) == ("worker", 3)


def test_what_there_are_several_of_must_be_said():
    with pytest.raises(ValueError, match="Must specify an explicit `job_name`"):
        definition(CLUSTER)
    with pytest.raises(ValueError, match="Must specify an explicit `task_index`"):
        definition(CLUSTER, "ps")


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((3,), TypeError, "a cluster is a mapping"),
        ((CLUSTER, "nothing", 0), ValueError, "No such job"),
        ((CLUSTER, "ps", 7), ValueError, "No task with index 7"),
        ((CLUSTER, "ps", 0, "http"), ValueError, "the protocol is 'grpc', not 'http'"),
        (({"ps": ["localhost"]},), ValueError, "'localhost', the address of the task, is no host"),
        (({"ps": ["localhost:99999"]},), ValueError, "is no host:port"),
    ],
)
def test_a_cluster_without_the_task_is_refused(args, error, text):
    with pytest.raises(error, match=text):
        ps.train.Server(*args)


def test_options_without_a_meaning_are_refused():
    with pytest.raises(TypeError, match="ConfigProto"):
        ps.train.Server(CLUSTER, "ps", 0, config=3)


def test_options_are_kept_in_the_definition():
    config = ps.ConfigProto(allow_soft_placement=True)
    assert definition(CLUSTER, "ps", 0, config=config).default_session_config == config


def test_a_server_beyond_loopback_must_know_its_clients(tmp_path):
    with pytest.raises(ValueError, match=r"refusing to listen on 0\.0\.0\.0.*insecure=True"):
        ps.train.Server({"ps": ["0.0.0.0:0"]})
    with pytest.raises(ValueError, match="without checkpoint_root"):
        ps.train.Server({"ps": ["0.0.0.0:0"]}, insecure=True)
    with ps.train.Server(
        {"ps": ["0.0.0.0:0"]}, start=False, insecure=True, checkpoint_root=tmp_path
    ) as server:
        assert server.target.startswith("grpc://0.0.0.0:")


def test_an_address_that_is_taken_is_an_error():
    with ps.train.Server.create_local_server() as server:
        address = server.target.removeprefix("grpc://")
        with pytest.raises(OSError, match="cannot listen on"):
            ps.train.Server({"ps": [address]})


def test_the_environment_says_which_task_it_is(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"ps": ["localhost:0"]}, "task": {"type": "ps", "index": 0}}',
    )
    with ps.train.Server.from_env(start=False) as server:
        assert (server.server_def.job_name, server.server_def.task_index) == ("ps", 0)
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        ps.train.Server.from_env()


def test_join_returns_when_the_server_is_stopped():
    server = ps.train.Server.create_local_server()
    server.start()
    assert server.stop()
    server.join()
    assert server.stop()
    with pytest.raises(RuntimeError, match="the server was stopped"):
        server.start()

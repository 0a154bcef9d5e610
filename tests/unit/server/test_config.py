"""Options are checked as a whole, and what is wrong is said in one line."""

import json
from pathlib import Path

import pytest

from paramserve_server.config import ConfigError, ServerConfig


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for variable in ("TF_CONFIG", "PARAMSERVE_TOKEN", "PARAMSERVE_TLS_CA"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def error_of(**options) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(**options).serving()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "listen", ["", "localhost", ":2222", "host:", "host:x", "host:65536", "host:-1", "host:²"]
)
def test_an_address_that_is_none_is_wrong_use(listen):
    error = error_of(listen=listen)
    assert "--listen" in str(error)
    assert error.exit_code == 2


def test_a_server_listens_on_loopback_unless_told():
    assert ServerConfig().serving().listen == "127.0.0.1:2222"


def test_listening_beyond_this_machine_is_refused_unless_clients_are_known(environment, tmp_path):
    elsewhere = {"listen": "0.0.0.0:0", "checkpoint_root": tmp_path}
    error = error_of(**elsewhere)
    assert "--insecure" in str(error)
    assert error.exit_code == 2
    ServerConfig(**elsewhere, insecure=True).serving()
    environment.setenv("PARAMSERVE_TOKEN", "secret")
    ServerConfig(**elsewhere).serving()


def test_a_token_is_read_from_its_file_before_the_environment(environment, tmp_path):
    environment.setenv("PARAMSERVE_TOKEN", "from the environment")
    assert ServerConfig().token() == "from the environment"
    file = tmp_path / "token"
    file.write_text("  from the file\n")
    config = ServerConfig(token_file=file)
    assert config.token() == "from the file"
    # And shown to the other servers of the cluster.
    assert config.serving().credentials.token == "from the file"


def test_a_token_file_without_a_token_is_refused(tmp_path):
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in str(error_of(token_file=tmp_path / "empty"))
    error = error_of(token_file=tmp_path / "missing")
    assert "--token-file" in str(error)
    assert error.exit_code == 1


def test_a_checkpoint_root_is_made_and_must_be_writable(tmp_path):
    root = tmp_path / "a" / "b"
    assert ServerConfig(checkpoint_root=root).serving().checkpoint_root == root
    assert list(root.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    for unusable in (file, file / "below", Path("/proc/nothing")):
        error = error_of(checkpoint_root=unusable)
        assert f"--checkpoint-root: {unusable} cannot be written" in str(error)
        assert error.exit_code == 1


def test_tls_options_go_together(tmp_path):
    some = tmp_path / "some.pem"
    some.write_text("no certificate")
    assert "go together" in str(error_of(tls_cert=some))
    assert "go together" in str(error_of(tls_key=some))
    assert "--tls-client-ca needs" in str(error_of(tls_client_ca=some))
    assert "not a certificate and its key" in str(error_of(tls_cert=some, tls_key=some))
    assert "cannot be read" in str(error_of(tls_cert=some, tls_key=tmp_path / "missing"))


def test_a_cluster_is_put_together_from_options():
    options = ServerConfig(cluster=["ps=a:1,b:2", "worker=c:3", "ps=d:4"], task=2).serving()
    assert options.cluster is not None
    assert options.cluster.as_dict() == {"ps": ["a:1", "b:2", "d:4"], "worker": ["c:3"]}
    assert (options.job, options.index) == ("ps", 2)


def test_without_a_cluster_a_server_is_the_first_ps():
    options = ServerConfig().serving()
    assert (options.cluster, options.job, options.index) == (None, "ps", 0)


def test_a_cluster_is_read_from_tf_config(environment):
    config = {"cluster": {"ps": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 1}}
    environment.setenv("TF_CONFIG", json.dumps(config))
    options = ServerConfig().serving()
    assert options.cluster is not None
    assert options.cluster.as_dict() == {"ps": ["a:1", "b:2"]}
    assert (options.job, options.index) == ("ps", 1)
    # What the command line says goes before.
    assert ServerConfig(task=0).serving().index == 0
    overridden = ServerConfig(cluster=["ps=x:1"]).serving()
    assert overridden.cluster is not None
    assert overridden.cluster.as_dict() == {"ps": ["x:1"]}


@pytest.mark.parametrize("cluster", ["ps", "ps=", "=a:1"])
def test_a_malformed_cluster_is_wrong_use(cluster):
    assert "--cluster" in str(error_of(cluster=[cluster]))


def test_a_task_that_is_not_in_the_cluster_is_wrong_use(environment):
    error = error_of(cluster=["ps=a:1,b:2"], task=2)
    assert "ps: 2 tasks" in str(error)
    assert "no such task" in str(error_of(cluster=["ps=a:1"], job="worker"))
    environment.setenv("TF_CONFIG", "{")
    assert "TF_CONFIG" in str(error_of())

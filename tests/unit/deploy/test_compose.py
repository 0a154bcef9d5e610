"""The compose file and the image describe a cluster that our own code accepts."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from paramserve_core.cluster import ClusterSpec, task_from_env
from paramserve_server import app as server_app
from paramserve_server.cli.commands import app
from paramserve_server.config import ConfigError

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = COMPOSE["services"]
SERVERS = sorted(name for name in SERVICES if name.startswith("ps"))
WORKERS = sorted(name for name in SERVICES if name.startswith("worker"))


def instruction(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+?(?:\\\n.+?)*)$", DOCKERFILE, re.MULTILINE)


def config_of(service: str, monkeypatch, **environment: str):
    """What `paramserve serve` makes of a service's command."""
    found = []

    def remember(config, log_level):
        found.append(config)
        return 0

    monkeypatch.setattr(server_app, "serve", remember)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    result = CliRunner().invoke(app, SERVICES[service]["command"])
    assert result.exit_code == 0, result.output
    return found[0]


def test_two_servers_with_a_disk_each_and_workers():
    assert len(SERVERS) == 2
    assert len(WORKERS) >= 2
    volumes = [SERVICES[name]["volumes"][0].partition(":")[0] for name in SERVERS]
    assert sorted(volumes) == sorted(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVERS)
def test_the_command_of_a_server_is_accepted_with_the_token_and_refused_without(
    name, monkeypatch, tmp_path
):
    config = config_of(name, monkeypatch, PARAMSERVE_TOKEN="secret")
    assert config.checkpoint_root == Path("/checkpoints")
    options = type(config)(
        listen=config.listen,
        cluster=config.cluster,
        job=config.job,
        task=config.task,
        checkpoint_root=tmp_path,
    ).serving()
    assert (options.job, options.index) == ("ps", SERVERS.index(name))
    assert options.cluster is not None
    address = options.cluster.task_address("ps", options.index)
    assert address.partition(":")[0] == name
    monkeypatch.delenv("PARAMSERVE_TOKEN")
    with pytest.raises(ConfigError, match="without protection"):
        config.serving()


def test_servers_and_workers_share_the_token_which_has_no_default():
    for name in (*SERVERS, *WORKERS):
        assert SERVICES[name]["environment"]["PARAMSERVE_TOKEN"].startswith("${PARAMSERVE_TOKEN:?")


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_finds_both_servers_and_its_number_and_waits_for_their_health(name):
    environment = {"TF_CONFIG": SERVICES[name]["environment"]["TF_CONFIG"]}
    json.loads(environment["TF_CONFIG"])
    cluster = ClusterSpec.from_env(environment)
    hosts = [address.partition(":")[0] for address in cluster.job_tasks("ps")]
    assert hosts == SERVERS
    assert cluster.num_tasks("worker") == len(WORKERS)
    assert task_from_env(environment) == ("worker", WORKERS.index(name))
    assert SERVICES[name]["depends_on"] == {s: {"condition": "service_healthy"} for s in SERVERS}


def test_no_port_is_published_and_no_container_may_gain_privileges():
    for service in SERVICES.values():
        assert "ports" not in service
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_has_a_base_of_choice_stages_that_exist_and_no_root():
    assert instruction("ARG") == ["BASE=python:3.13-slim"]
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in stages if name}
    for base, _ in stages:
        assert base == "${BASE}" or base in names
    for service in SERVICES.values():
        assert service["build"]["target"] in names
        assert "BASE" in service["build"]["args"]
    assert instruction("USER") == ["paramserve"]


def test_everything_that_the_image_copies_from_here_is_here():
    for line in instruction("COPY"):
        words = [word for word in shlex.split(line) if not word.startswith("--chown")]
        if not words[0].startswith("--from"):
            for source in words[:-1]:
                assert (ROOT / source).exists(), source


def test_the_health_check_is_a_command_of_ours():
    (check,) = [line for line in instruction("HEALTHCHECK") if "CMD" in line]
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["paramserve", "status"]
    result = CliRunner().invoke(app, [*command[1:-1], "grpc://127.0.0.1:1", "--timeout", "1"])
    assert result.exit_code == 3

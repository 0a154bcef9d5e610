"""Every command and its options.

What a command does is imported when it runs, so that `paramserve version` need not wait for gRPC.

Thread rule: runs on the main thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Annotated, Final, NoReturn

import typer

from paramserve_core.checkpoint.urls import location
from paramserve_core.version import version as installed_version
from paramserve_server.cli.checkpoint import checkpoint_app
from paramserve_server.cli.outcome import FAILED, UNREACHABLE, WRONG_USE

app = typer.Typer(
    name="paramserve",
    help="A parameter server: processes that own variables and update them for many workers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(checkpoint_app)


_CHECKPOINTS: Final = PurePath("checkpoints")


class LogLevel(StrEnum):
    """What `--log-level` takes."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Target = Annotated[str, typer.Argument(help="The server: grpc://host:port.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="How long to wait, in seconds.")]


def main() -> None:
    """Runs the command line of this process."""
    app()


@app.command()
def version() -> None:
    """Print the version."""
    print(installed_version())


@app.command()
def serve(
    listen: Annotated[
        str, typer.Option(help="host:port to listen on; port 0 is any.")
    ] = "127.0.0.1:2222",
    cluster: Annotated[
        list[str] | None, typer.Option(help="job=host:port,... of the whole cluster; repeat.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="This task's job; 'ps' by default.")] = None,
    task: Annotated[
        int | None, typer.Option(min=0, help="This task's number; 0 by default.")
    ] = None,
    checkpoint_root: Annotated[
        PurePath | None,
        typer.Option(
            parser=location,
            metavar="PATH",
            help="The folder or URL for checkpoints; by default the whole disk, on loopback.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the secret that clients must show; or PARAMSERVE_TOKEN."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Who must have signed clients' certificates, PEM.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without any of those.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="On SIGTERM, let steps run for so many seconds.")
    ] = 10.0,
    session_grace: Annotated[
        float, typer.Option(min=0, help="Keep a session without a connection for so many seconds.")
    ] = 60.0,
    max_sessions: Annotated[int, typer.Option(min=1, help="Sessions at a time.")] = 1000,
    max_message_bytes: Annotated[int, typer.Option(min=1, help="Bytes of one message.")] = 16 << 30,
    max_graph_nodes: Annotated[
        int, typer.Option(min=1, help="Nodes in a session's graph.")
    ] = 1_000_000,
    max_variable_bytes: Annotated[
        int | None, typer.Option(min=0, help="Memory of all variables; no limit by default.")
    ] = None,
    max_inflight_bytes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Bytes of calls that wait or run, before clients are made to wait; by default a "
            "quarter of the memory.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged.")] = LogLevel.info,
) -> None:
    """Run one server; prints its target when it is ready."""
    # Read when gRPC is imported: what it has to say is not for an operator, and is no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from paramserve_core.task.limits import TaskLimits, quarter_of_memory
    from paramserve_server import app as server_app
    from paramserve_server.config import ConfigError, ServerConfig

    config = ServerConfig(
        listen=listen,
        cluster=tuple(cluster or ()),
        job=job,
        task=task,
        checkpoint_root=checkpoint_root,
        token_file=token_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        insecure=insecure,
        metrics_port=metrics_port,
        grace_s=grace,
        limits=TaskLimits(
            max_sessions=max_sessions,
            max_message_bytes=max_message_bytes,
            max_graph_nodes=max_graph_nodes,
            max_variable_bytes=max_variable_bytes,
            max_inflight_bytes=max_inflight_bytes or quarter_of_memory(),
            session_grace_s=session_grace,
        ),
    )
    try:
        code = server_app.serve(config, log_level)
    except ConfigError as error:
        _fail(str(error), error.exit_code)
    raise typer.Exit(code)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The program of a worker, after '--'.")],
    ps: Annotated[int, typer.Option(min=1, help="How many servers.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="How many workers.")] = 1,
    checkpoint_root: Annotated[
        PurePath,
        typer.Option(
            parser=location,
            metavar="PATH",
            help="Where the servers keep checkpoints, a folder for each; it may be a URL.",
        ),
    ] = _CHECKPOINTS,
) -> None:
    """Run a program as the workers of a cluster on this machine, with servers of their own.

    Each worker finds in TF_CONFIG where the servers are and which worker it is. Everything ends
    when the last worker ends, when one fails, or with Ctrl-C.
    """
    from paramserve_server.cli.launcher import Launcher, LaunchError

    try:
        code = Launcher(command, ps, workers, checkpoint_root).run()
    except LaunchError as error:
        _fail(str(error), FAILED)
    raise typer.Exit(code)


@app.command("ls")
def list_variables(target: Target, json: Json = False, timeout: Timeout = 10.0) -> None:
    """List a server's variables."""
    with _reported():
        from paramserve_server.cli import inspection

        inspection.variables(target, timeout, as_json=json)


@app.command()
def status(target: Target, json: Json = False, timeout: Timeout = 10.0) -> None:
    """Say who a server is and how it does."""
    with _reported():
        from paramserve_server.cli import inspection

        inspection.status(target, timeout, as_json=json)


@app.command()
def top(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET...", help="The servers: grpc://host:port.")
    ],
    interval: Annotated[
        float, typer.Option(min=0.1, max=86400, help="Seconds from one look to the next.")
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many looks; by default, on Ctrl-C.")
    ] = None,
    variables: Annotated[
        int, typer.Option(min=0, max=10_000, help="How many of the largest variables to show.")
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look.")] = False,
    timeout: Timeout = 5.0,
) -> None:
    """Show what servers do now: steps, bytes, waiting, memory."""
    with _reported():
        from paramserve_server.cli.top import TopOptions
        from paramserve_server.cli.top import top as show

        options = TopOptions(
            interval_s=interval, count=count, timeout_s=timeout, largest=variables, as_json=json
        )
        show(targets, options)


@contextmanager
def _reported() -> Iterator[None]:
    """Ends the process with the exit code of what goes wrong, and says it in a line.

    What loads gRPC is imported inside: the variable is read then.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from paramserve_core.errors import OpError
    from paramserve_server.cli.targets import NotReachedError

    try:
        yield
    except ValueError as error:
        _fail(str(error), WRONG_USE)
    except NotReachedError as error:
        _fail(str(error), UNREACHABLE)
    except OpError as error:
        _fail(error.message, FAILED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"paramserve: {message}", file=sys.stderr)
    raise typer.Exit(code)

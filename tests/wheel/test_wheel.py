"""The distributions, built from this tree and installed into environments of their own."""

import email
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "paramserve": "client",
    "paramserve_server": "server",
    "paramserve_core": "core",
    "paramserve_protos": "protos",
}


def build(kind: str, source: Path, out: Path) -> Path:
    """Builds with what is installed here, so that no index is needed."""
    command = [
        sys.executable,
        "-m",
        "build",
        f"--{kind}",
        "--no-isolation",
        "--outdir",
        out,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def new_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def pip_install(python: Path, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def output_of(*command: str | Path) -> str:
    # -P or a neutral folder: the tree must not be importable from where the command runs.
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_ALL = """
import importlib, pathlib, pkgutil
for name in ["paramserve", "paramserve_server", "paramserve_core", "paramserve_protos"]:
    print(pathlib.Path(importlib.import_module(name).__file__).parent)
import paramserve_protos.v1 as v1
for module in pkgutil.iter_modules(v1.__path__):
    importlib.import_module(f"paramserve_protos.v1.{module.name}")
"""


@pytest.fixture(scope="module")
def python_with_wheel(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel; its dependencies are the ones installed here."""
    folder = tmp_path_factory.mktemp("environment")
    python = new_environment(folder)
    pip_install(python, "--no-deps", "--no-index", wheel)
    # A folder that a .pth file adds has its own .pth files ignored: the editable install of this
    # tree stays out of reach.
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def test_the_wheel_has_four_packages_and_nothing_beside_them(names):
    top = {name.split("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize(("package", "root"), PACKAGES.items())
def test_every_module_stub_and_marker_of_a_package_is_in_the_wheel(names, package, root):
    tracked = output_of("git", "-C", ROOT, "ls-files", f"{root}/{package}").splitlines()
    wanted = {path.removeprefix(f"{root}/") for path in tracked if (ROOT / path).exists()}
    assert f"{package}/py.typed" in wanted
    assert wanted <= names


def test_generated_messages_are_in_the_wheel(names):
    for suffix in ("_pb2.py", "_pb2.pyi", ".proto"):
        assert f"paramserve_protos/v1/graph{suffix}" in names


def test_the_metadata_names_the_command_the_license_and_the_python(wheel, names):
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert f"{info}/licenses/LICENSE" in names
    assert "paramserve = paramserve_server.cli:main" in scripts


def test_all_packages_import_from_the_installed_wheel(python_with_wheel):
    folders = output_of(python_with_wheel, "-W", "error", "-c", IMPORT_ALL).splitlines()
    environment = python_with_wheel.parents[1]
    assert [Path(f).name for f in folders] == list(PACKAGES)
    assert all(Path(f).is_relative_to(environment) for f in folders)


def test_the_sdist_builds_the_same_wheel(names, tmp_path):
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "wheel")
    with zipfile.ZipFile(again) as archive:
        assert set(archive.namelist()) == names


@pytest.mark.network
def test_the_wheel_installs_with_its_declared_dependencies_alone(wheel, tmp_path):
    python = new_environment(tmp_path / "environment")
    pip_install(python, wheel)
    folders = output_of(python, "-W", "error", "-c", IMPORT_ALL).splitlines()
    assert all(Path(f).is_relative_to(tmp_path) for f in folders)

"""The generated modules and the program that writes them."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "protos" / "generate.py"
FOLDER = ROOT / "protos" / "paramserve_protos" / "v1"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pinned_python(generate):
    """A python that has the pinned grpcio-tools: `make protos` creates it."""
    candidates = [ROOT / ".venv-protos" / "bin" / "python", Path(sys.executable)]
    question = "import importlib.metadata as m; print(m.version('grpcio-tools'))"
    for python in candidates:
        if python.exists():
            answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
            if answer.stdout.strip() == generate.GRPCIO_TOOLS:
                return python
    pytest.skip(f"grpcio-tools {generate.GRPCIO_TOOLS} is not installed: run `make protos`")


@pytest.mark.slow
def test_generated_code_matches_the_protos(pinned_python):
    check = subprocess.run([pinned_python, SCRIPT, "--check"], capture_output=True, text=True)
    assert (check.returncode, check.stderr) == (0, "")


def test_every_proto_has_its_modules_and_no_module_lacks_its_proto():
    stems = {p.stem for p in FOLDER.glob("*.proto")}
    assert {p.name.removesuffix("_pb2.py") for p in FOLDER.glob("*_pb2.py")} == stems
    assert {p.name.removesuffix("_pb2.pyi") for p in FOLDER.glob("*_pb2.pyi")} == stems
    assert {p.name.removesuffix("_pb2_grpc.py") for p in FOLDER.glob("*_pb2_grpc.py")} <= stems


def test_stale_names_what_is_missing_different_or_left_over(generate):
    wanted = {"new_pb2.py": b"1", "changed_pb2.py": b"2", "same_pb2.py": b"3"}
    found = {"changed_pb2.py": b"x", "same_pb2.py": b"3", "gone_pb2.py": b"4"}
    assert generate.stale(wanted, found) == ["changed_pb2.py", "gone_pb2.py", "new_pb2.py"]


def test_another_version_of_the_tools_is_refused(generate, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.60.0")
    with pytest.raises(generate.GenerateError, match=r"found 1\.60\.0, wanted .*`make protos`"):
        generate.require_pinned_tools()


def test_missing_tools_are_named(generate, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(generate.GenerateError, match=r"grpcio-tools: found none, wanted"):
        generate.require_pinned_tools()

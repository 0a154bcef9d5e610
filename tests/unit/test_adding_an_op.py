"""What `docs/adding-an-op.md` says is done, in a copy of the repository, and works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```python title="([^"\n]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PROGRAM = "lengths.py"
EDITS = dict(BLOCK.findall((ROOT / "docs" / "adding-an-op.md").read_text()))
FAMILY = [
    "core/paramserve_core/opdefs/math.py",
    "core/paramserve_core/kernels/math.py",
    "client/paramserve/_ops/math.py",
    "client/paramserve/_gradients/math.py",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the repository, as far as it is needed."""
    folder = tmp_path_factory.mktemp("original")
    ignored = shutil.ignore_patterns("*.pyc.*")  # one that another process is about to rename
    for part in ("client", "core", "protos", "server", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def edited(original, tmp_path):
    """Makes a copy with the page's edits, but for those to some files."""

    def edit(without=()):
        copy = tmp_path / "copy"
        shutil.copytree(original, copy, copy_function=os.link)
        for name, text in EDITS.items():
            if name not in without:
                append(copy / name, text)
        return copy

    return edit


def append(file, text):
    """Adds to a file that is a link to one that other copies have too."""
    text = f"{file.read_text()}\n\n{text}" if file.exists() else text
    file.unlink(missing_ok=True)
    file.write_text(text)


def run(folder, *arguments):
    path = os.pathsep.join(str(folder / part) for part in ("client", "core", "protos", "server"))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def run_tests(folder, *arguments):
    return run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def test_the_page_edits_the_four_files_of_a_family():
    assert set(FAMILY) <= set(EDITS)
    assert [name for name in EDITS if not (ROOT / name).exists()] == [PROGRAM]


def test_the_op_of_the_page_is_complete_and_has_the_right_gradient(edited):
    copy = edited()
    differences = "tests/unit/client/gradients/test_finite_differences.py"
    done = run_tests(copy, "tests/unit/test_op_families.py", differences, "-k", "hypot")
    assert "5 passed" in done.stdout, done.stdout
    done = run(copy, PROGRAM)
    numbers = [float(number) for number in re.findall(r"\d+\.\d*", done.stdout)]
    lengths, xs, ys = [5.0, 13.0], [3 / 5, 5 / 13], [4 / 5, 12 / 13]
    assert numbers == pytest.approx([*lengths, *xs, *ys]), done.stderr


def test_edits_that_are_left_out_are_missed(edited):
    definition, kernel, function, gradient = FAMILY
    copy = edited(without=[kernel, function, "client/paramserve/__init__.py", gradient])
    done = run_tests(copy, "tests/unit/test_op_families.py", "-k", "Hypot")
    assert "no kernel for Hypot in kernels/math.py" in done.stdout
    assert "no function for Hypot in _ops/math.py" in done.stdout
    assert "neither RegisterGradient nor NoGradient for Hypot in _gradients/math.py" in done.stdout
    assert "3 failed" in done.stdout
    append(copy / kernel, EDITS[kernel])
    (copy / definition).unlink()
    shutil.copy2(ROOT / definition, copy / definition)
    done = run_tests(copy, "tests/unit/test_op_families.py", "-k", "without_a_definition")
    assert "1 failed" in done.stdout
    assert "Hypot" in done.stdout

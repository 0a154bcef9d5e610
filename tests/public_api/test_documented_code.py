"""Every Python block of the README and the documentation runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(page: Path) -> str:
    """The blocks of a page as one program, each at its own line so that errors point to it."""
    text = page.read_text()
    lines: list[str] = []
    for block in BLOCK.finditer(text):
        start = text.count("\n", 0, block.start(1))
        lines += [""] * (start - len(lines)) + block[1].splitlines()
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if program(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_code_of_the_page_runs_from_top_to_bottom(page, tmp_path):
    # In a process of its own: the default graph is one per process.
    script = tmp_path / page.with_suffix(".py").name
    script.write_text(program(page))
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_every_page_of_the_navigation_exists_and_every_page_is_in_it():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = re.findall(r"[\w/-]+\.md", navigation)
    assert sorted(listed) == sorted(str(p.relative_to(ROOT / "docs")) for p in PAGES[1:])

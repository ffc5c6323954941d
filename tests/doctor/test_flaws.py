"""A folder of flawed files and one of clean ones: every planted flaw is found at its line, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.children import PRELOADED, run_child

HERE = Path(__file__).parent
FLAWED = sorted((HERE / "flawed").glob("*.py"))
CLEAN = sorted((HERE / "clean").glob("*.py"))


_EXAMINED = """
import json
from dspy_parallel.cli.target_spec import load_targets
from dspy_parallel.doctor.diagnosis import examine

found, missing = [], []
for folder in {folders!r}:
    targets, skipped = load_targets(folder)
    missing += skipped
    found += [(str(each.place.file), each.kind, each.place.line) for each in examine(*targets).findings]
print()
print(json.dumps([found, missing]))
"""


@pytest.fixture(scope="module")
def found() -> dict[Path, list[tuple[str, int]] | str]:
    """What is found in each file, in a new process as by the command; why it cannot be imported, if that is so."""
    folders = [str(HERE / "flawed"), str(HERE / "clean")]
    findings, skipped = json.loads(run_child(_EXAMINED.format(folders=folders), python=PRELOADED).out.splitlines()[-1])
    in_file: dict[Path, list[tuple[str, int]] | str] = {file: [] for file in [*FLAWED, *CLEAN]}
    in_file.update({Path(text.split()[1]): text for text in skipped})
    for file, kind, line in findings:
        in_file[Path(file)].append((kind, line))  # type: ignore[union-attr]
    return in_file


def planted(file: Path) -> list[tuple[str, int]]:
    """The kinds and lines of the comments `# flaw: kind`."""
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    return sorted((kind, number) for number, line in lines for kind in re.findall(r"# flaw: ([a-z-]+)", line))


@pytest.mark.parametrize("file", [*FLAWED, *CLEAN], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_planted_flaw_is_found_at_its_line_and_nothing_else(file, found):
    if isinstance(found[file], str):
        assert "ModuleNotFoundError" in found[file]
        pytest.skip(found[file])
    assert sorted(found[file]) == planted(file)
    assert bool(planted(file)) == (file in FLAWED)


def test_there_are_enough_of_them():
    assert len(FLAWED) >= 25
    assert len(CLEAN) >= 15

"""Breaks a copy of the library in one place at a time, and runs the tests that must notice.

python -m tests.mutants              all of them; ends with 1 if one lives
python -m tests.mutants NAME...      these
python -m tests.mutants --list
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900
"""Seconds."""

IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "site", "docs", "htmlcov")
CAUGHT, LIVES = "caught", "lives"


def files_with(text: str, checkout: Path = ROOT) -> list[Path]:
    """The files of the library that have this text, as often as they have it."""
    files = [(file, file.read_text(encoding="utf-8")) for file in sorted(checkout.glob("dspy_parallel/**/*.py"))]
    return [file for file, source in files for _ in range(source.count(text))]


def fate(mutant: Mutant) -> str:
    """Whether its tests fail: `CAUGHT`, `LIVES`, or what is wrong with the mutant itself."""
    if len(files_with(mutant.old)) != 1:
        return "is no mutant, what it breaks is not there"
    return fate_of(mutant.tests, mutant)


def fate_of(tests: Iterable[str], mutant: Mutant | None = None) -> str:
    """Of a copy with this mistake, or without any."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy = Path(directory, "checkout")
        shutil.copytree(ROOT, copy, ignore=IGNORED)
        if mutant is not None:
            (file,) = files_with(mutant.old, copy)
            file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        # The copy is found first by whatever process a test starts, too.
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--timeout=60", *tests]
        env = {**os.environ, "PYTHONPATH": str(copy), "PYTEST_ADDOPTS": ""}
        try:
            ended = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return CAUGHT  # it hangs
    if ended.returncode in (0, 1):
        return CAUGHT if ended.returncode else LIVES
    return f"is no mutant, pytest ended with {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"


def main(*names: str) -> int:
    chosen: list[Mutant] = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if names == ("--list",):
        print(*(mutant.name for mutant in MUTANTS), sep="\n")
        return 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # What fails without a mistake notices nothing.
        unbroken = pool.submit(fate_of, sorted({test for mutant in chosen for test in mutant.tests}))
        fates = []
        for mutant, found in zip(chosen, pool.map(fate, chosen), strict=True):
            print(f"{mutant.name}: {found}", flush=True)
            fates.append(found)
    print(f"{fates.count(CAUGHT)} of {len(fates)} caught; without a mistake: {unbroken.result()}")
    return int(fates.count(CAUGHT) < len(fates) or unbroken.result() != LIVES)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The documentation works: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.examples import Block, blocks, example_of

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
PACKAGE = ROOT / "dspy_parallel"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_examples(*targets: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.examples", *targets],
        cwd=ROOT,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=100 if len(targets) == 1 else 280,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(targets)}:\n{done.stdout}\n{done.stderr}"


def runs(page: Path) -> bool:
    return any(block.is_run for block in blocks(page.read_text(encoding="utf-8")))


def leaves_the_process_as_it_was(page: Path) -> bool:
    return not re.search(r"\b(configure|install|start)\(", page.read_text(encoding="utf-8"))


def own_commands(page: Path) -> list[tuple[Block, list[str]]]:
    """Every `$ dspy-parallel …` line of the console blocks of a page, split into words."""
    found = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.info.split()[:1] != ["console"]:
            continue
        for line in block.text.splitlines():
            for command in re.split(r"&&|;|\|", line.removeprefix("$ ")) if line.startswith("$ ") else []:
                words = shlex.split(command, comments=True)
                if words and Path(words[0]).name == "dspy-parallel":
                    found.append((block, words[1:]))
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if runs(p) and not leaves_the_process_as_it_was(p)], ids=named)
def test_python_blocks_run(page):
    run_examples(str(page))


@pytest.mark.timeout(300)
def test_python_blocks_run_of_pages_that_share_a_process():
    """The imports take longer than most pages do."""
    run_examples(*(str(page) for page in PAGES if runs(page) and leaves_the_process_as_it_was(page)))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_that_are_not_run_say_why(page):
    silent = [
        f"{named(page)}:{block.line}"
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.is_python and not block.is_run and not block.has_reason
    ]
    assert not silent, f"a `no-run` block begins with `# not run: <reason>`: {silent}"


def modules_with_examples() -> list[str]:
    """Modules of the package whose text has an `Example:` section, found without importing them."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if re.search(r"^ *Examples?: *$", file.read_text(encoding="utf-8"), re.MULTILINE):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] not in ("__main__", "cli"):
                found.append(".".join(parts).removesuffix(".__init__"))
    return found


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstring_examples_run(module):
    run_examples(module)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_of_our_own_exist(page):
    if importlib.util.find_spec("dspy_parallel.cli") is None:
        pytest.skip("no command line yet")
    for subcommand in sorted({words[0] for _, words in own_commands(page) if words and not words[0].startswith("-")}):
        done = subprocess.run(
            [sys.executable, "-m", "dspy_parallel.cli", subcommand, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{named(page)}: no such command: dspy-parallel {subcommand}\n{done.stderr}"


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Those of the headings, as GitHub and MkDocs make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for link in links(page):
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"([\w-]+\.)+[a-z]+", parts.netloc), link
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{named(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{named(page)} links to {link}: no such heading"


def test_every_public_name_is_in_the_reference_with_an_example():
    """In its docstring, or on its page."""
    import dspy_parallel
    from dspy_parallel import langgraph, testing

    public = {name: getattr(dspy_parallel, name) for name in dspy_parallel.__all__}
    for module, prefix in ((langgraph, "langgraph"), (testing, "testing")):
        public |= {f"{prefix}.{name}": getattr(module, name) for name in module.__all__}
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for name in re.findall(r"^::: dspy_parallel\.(\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            thing = public.pop(name, None)
            assert thing is None or example_of(thing) or runs(page), f"{named(page)}: {name} has no example"
    assert not public, f"in docs/api there is nothing about {sorted(public)}"


def test_the_site_is_built_without_warnings(tmp_path):
    """With links and anchors checked by MkDocs."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fetch" not in done.stderr
    api = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "api").glob("*.html"))
    assert 'id="dspy_parallel.async_module"' in api


def test_ci_runs_the_test_command_of_the_readme():
    """`.ci/run` and the README must not drift apart: what a newcomer types is what is checked."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [
        line.removeprefix("$ ")
        for block in blocks(readme)
        if block.info.split()[:1] == ["console"]
        for line in block.text.splitlines()
        if line.startswith("$ ") and "-m pytest" in line
    ]
    assert len(commands) == 1, "the README has exactly one test command"
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert f"TEST_COMMAND={shlex.quote(commands[0])}" in ci or f'TEST_COMMAND="{commands[0]}"' in ci


class TestBlocks:
    """The finder of examples itself."""

    def test_indented_fences_and_their_lines(self):
        found = blocks("a\n\n- b\n  ```python no-run\n  # not run: needs a key\n  x = 1\n  ```\n```console\n$ c\n```\n")
        assert [(block.info, block.text, block.line) for block in found] == [
            ("python no-run", "# not run: needs a key\nx = 1\n", 5),
            ("console", "$ c\n", 9),
        ]
        assert not found[0].is_run
        assert found[0].has_reason

    def test_a_failing_block_fails(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
        with pytest.raises(AssertionError, match=r'page\.md", line 6'):
            run_examples(str(page))

    def test_a_failing_docstring_example_fails(self, tmp_path, monkeypatch):
        (tmp_path / "documented.py").write_text(
            'def f():\n    """F.\n\n    Example:\n        >>> 1 + 1\n        3\n    """\n'
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(AssertionError, match=r"example of documented\.f failed"):
            run_examples("documented")

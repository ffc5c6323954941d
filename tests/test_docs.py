"""The documentation works: its Python runs, its links lead somewhere, and it is built into a site."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.support.children import PRELOADED, run_module
from tests.support.examples import PAGES, REPOSITORY, ROOT, blocks, blocks_of, code_of, named
from tests.test_public_api import LAYERS

pytestmark = pytest.mark.once

MOST_WORDS = 13_000
"""Of all pages in docs/, code and tables too, as `wc -w` counts them."""


def run_examples(*targets: str) -> None:
    run_module("tests.support.examples", *targets, timeout=580)


@pytest.mark.timeout(600)
def test_python_blocks_run():
    run_examples(*(str(page) for page in PAGES if code_of(page.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_that_are_not_run_say_why(page):
    silent = [
        f"{named(page)}:{block.line}"
        for block in blocks_of(page, "python")
        if not block.is_run and not block.has_reason
    ]
    assert not silent, f"a `no-run` block begins with `# not run: <reason>`: {silent}"


def modules_with_examples() -> list[str]:
    """Modules of the package whose text has an `Example:` section, found without importing them."""
    found = []
    for file in sorted((ROOT / "dspy_parallel").rglob("*.py")):
        if re.search(r"^ *Examples?: *$", file.read_text(encoding="utf-8"), re.MULTILINE):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] not in ("__main__", "cli"):
                found.append(".".join(parts).removesuffix(".__init__"))
    return found


@pytest.mark.timeout(600)
def test_docstring_examples_run():
    run_examples(*modules_with_examples())


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
        link = REPOSITORY.sub(f"{ROOT}/", link)
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"([\w-]+\.)+[a-z]+", parts.netloc), link
            continue
        path, _, anchor = link.partition("#")
        assert page.name != "README.md" or page.parent != ROOT or path.startswith("/"), "an index knows no paths"
        target = page.parent / path if path else page
        assert target.exists(), f"{named(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{named(page)} links to {link}: no such heading"


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
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fetch" not in done.stderr
    api = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "api").glob("*.html"))
    assert 'id="dspy_parallel.async_module"' in api
    pages = {page.stem: page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    assert [name for name, page in pages.items() if "```" in page and name != "contributing"] == []
    assert "Overview" in pages["how"]
    members = set(re.findall(r'id="dspy_parallel\.[\w.]+\.(\w+)"', api))
    assert not members & {"leave_loop", "replaced", "counts"}, "not for users"


def defined_in(file: Path) -> set[str]:
    """Names of classes, functions and variables of a module, and of what is in its classes, with a dot."""
    if file.suffix != ".py":
        return set()

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return set(names(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def test_the_design_names_what_is_there():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+(?:\.(?:py|js)|/))(?::([\w.]+))?`", page)
    assert len(named) > 80
    wrong = []
    for path, name in named:
        file = ROOT / path if path.startswith("tests/") else ROOT / "dspy_parallel" / path
        if not file.exists() or (name and name not in defined_in(file)):
            wrong.append(f"{path}:{name}")
    assert wrong == []


def test_the_layers_of_the_design_are_those_of_the_test():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (picture,) = (block.text for block in blocks(page) if block.text.startswith("cli "))
    shown = [set(re.split(r"  +", line)[0].split()) for line in picture.splitlines()]
    assert shown[::-1] == [layer for layer in LAYERS if layer != {"__main__"}]


def test_the_documentation_is_short():
    """README and changelog aside; a page that grows has something to leave out."""
    words = {named(page): len(page.read_text(encoding="utf-8").split()) for page in (ROOT / "docs").rglob("*.md")}
    assert sum(words.values()) <= MOST_WORDS, sorted(words.items(), key=lambda entry: -entry[1])[:8]


def test_the_benchmarks_page_has_all_parts_of_the_command():
    from benchmarks.__main__ import PARTS

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"The parts are {', '.join(f'`{part}`' for part in PARTS[:-1])} and `{PARTS[-1]}`." in page


def test_links_that_lead_nowhere_end_the_build():
    """Those to files become text: the site does not have them."""
    site_pages = pytest.importorskip("site_pages")

    def on_site(markdown: str, page: str = "ray.md") -> str:
        return site_pages.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri=page)))

    assert on_site("[here](batch.md#files), [there](../tox.ini)") == "[here](batch.md#files), there (`tox.ini`)"
    (how,) = re.findall(r"\[How it works\]\(\S+\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert on_site(how, "index.md") == "[How it works](how.md)"
    with pytest.raises(site_pages.PluginError, match=r"docs/ray.md links to ../tx.ini, which does not exist"):
        on_site("[there](../tx.ini)")


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

    def test_each_of_several_runs_by_itself_and_one_that_fails_is_named(self, tmp_path):
        pages = [tmp_path / "first.md", tmp_path / "second.md", tmp_path / "third.md"]
        leaves, looks = "import sys\nsys.left = 1\n", "import sys\nassert not hasattr(sys, 'left')\nprint('looked')\n"
        for page, text in zip(pages, (leaves, "1 / 0\n", looks), strict=True):
            page.write_text(f"```python\n{text}```\n")
        program = "import sys; from tests.support.examples import run_in_forks; sys.exit(run_in_forks(sys.argv[1:]))"
        command = [*PRELOADED, "-c", program, *map(str, pages)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
        assert (done.returncode, done.stdout) == (1, "looked\n")
        assert re.search(r'second\.md", line 2', done.stderr)

    def test_a_failing_docstring_example_fails(self, tmp_path, monkeypatch):
        (tmp_path / "documented.py").write_text(
            'def f():\n    """F.\n\n    Example:\n        >>> 1 + 1\n        3\n    """\n'
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(AssertionError, match=r"example of documented\.f failed"):
            run_examples("documented")

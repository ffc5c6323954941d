"""The documentation works: its Python runs, its links lead somewhere, and it is built into a site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.examples import PAGES, ROOT, blocks, blocks_of, code_of, named

pytestmark = pytest.mark.once


def run_examples(*targets: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.examples", *targets],
        cwd=ROOT,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} of {' '.join(targets)}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
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
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"([\w-]+\.)+[a-z]+", parts.netloc), link
            continue
        path, _, anchor = link.partition("#")
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
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fetch" not in done.stderr
    api = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "api").glob("*.html"))
    assert 'id="dspy_parallel.async_module"' in api


def test_every_promise_about_speed_has_its_test_and_every_test_its_promise():
    """In the table of docs/benchmarks.md; and the page has all parts of the command."""
    from benchmarks.__main__ import PARTS

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.search(r"^\| Promise \| Test \|\n(?:\|.*\n)+", page, re.MULTILINE)
    assert rows is not None
    promised = re.findall(r"`(test_\w+)(…?)`", rows[0])
    tests = set()
    for file in sorted((ROOT / "tests" / "bench").glob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if re.search(r"^pytestmark = .*mark\.bench", text, re.MULTILINE):
            tests |= set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))
        else:
            tests |= set(re.findall(r"^@pytest\.mark\.bench\n(?:@.*\n)*(?:async )?def (test_\w+)", text, re.MULTILINE))
    found = [{test for test in tests if test == name or (more and test.startswith(name))} for name, more in promised]
    assert [name for (name, _), those in zip(promised, found, strict=True) if not those] == []
    assert tests - set().union(*found) == set()
    assert f"The parts are {', '.join(f'`{part}`' for part in PARTS[:-1])} and `{PARTS[-1]}`." in page


def test_links_that_lead_nowhere_end_the_build():
    """Those to files become text: the site does not have them."""
    pytest.importorskip("mkdocs")
    import site_pages

    def on_site(markdown: str) -> str:
        return site_pages.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri="ray.md")))

    assert on_site("[here](batch.md#files), [there](../tox.ini)") == "[here](batch.md#files), there (`tox.ini`)"
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
        program = "import sys; from tests.examples import run_in_forks; sys.exit(run_in_forks(sys.argv[1:]))"
        command = [sys.executable, "-c", program, *map(str, pages)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (1, "looked\n")
        assert re.search(r'second\.md", line 2', done.stderr)

    def test_a_failing_docstring_example_fails(self, tmp_path, monkeypatch):
        (tmp_path / "documented.py").write_text(
            'def f():\n    """F.\n\n    Example:\n        >>> 1 + 1\n        3\n    """\n'
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(AssertionError, match=r"example of documented\.f failed"):
            run_examples("documented")

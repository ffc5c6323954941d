"""Pages of the documentation's site that live elsewhere in the repository, and links between these and `docs/`.

The README is the site's first page. So that it and the pages read well in the repository, too, links are written as
paths of files there; here they become links of the site. Links to source files become their paths; a link to nothing
ends the build. The README is shown by package indexes as well, which know no paths: its links are addresses of the
repository's files. Blocks that are not run as tests are shown like others.
"""

from __future__ import annotations

import posixpath
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
REPOSITORY = re.compile(r"https://(github|raw\.githubusercontent)\.com/dspy-parallel/dspy-parallel(/blob)?/main/")
"""Where files are, for those who read them elsewhere."""

_ORIGINS = {page: origin for origin, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


class _Fences(Preprocessor):
    """Takes `no-run` from a fence, which nobody but our tests knows."""

    def run(self, lines: list[str]) -> list[str]:
        """Change the lines."""
        return [re.sub(r"^( *```python) no-run$", r"\1", line) for line in lines]


class _NoRun(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        """Work before blocks are looked for; in docstrings, too."""
        md.preprocessors.register(_Fences(md), "no-run", 100)


def on_config(config: Any) -> Any:
    """Say which version it is."""
    config.markdown_extensions.append(_NoRun())
    config.copyright = f"dspy-parallel {version('dspy-parallel')}"
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for origin, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / origin).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make paths in the repository links of the site."""
    place = page.file.src_uri
    origin = _ORIGINS.get(place, f"docs/{place}")

    def linked(found: re.Match[str]) -> str:
        image, text, path, anchor = found.groups(default="")
        if not path:
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if not (ROOT / target).exists():
            raise PluginError(f"{origin} links to {path}, which does not exist.")
        inside = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is None:
            return text if not (ROOT / target).is_dir() and text.startswith("`") else f"{text} (`{target}`)"
        return f"{image}[{text}]({posixpath.relpath(inside, posixpath.dirname(place) or '.')}{anchor})"

    if origin == "README.md":
        markdown = REPOSITORY.sub("", markdown)
    parts = _FENCE.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(linked, part) for index, part in enumerate(parts))

"""Pages of the documentation's site that live elsewhere in the repository, and links between these and `docs/`.

The README is the site's first page. So that it and the pages read well in the repository, too, links are written as
paths of files there; here they become links of the site. Links to source files become their paths; a link to nothing
ends the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

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
_ORIGINS = {page: origin for origin, page in PAGES.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


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

    parts = _FENCE.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(linked, part) for index, part in enumerate(parts))

"""What the site adds to the pages in docs/: other files of the repository, and links to them.

On the repository's pages `../examples/rescue/README.md` is a file; the site has no parent folder.
So every Markdown file that a page links to becomes a page itself, at the same place below the
site's root; a link to a file or folder of another kind becomes its name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
RESULTS = "benchmarks/results"
TABLES = tuple(f"{RESULTS}/{name}.md" for name in ("README", "side_by_side", "busy"))
GENERATED = (*TABLES, "CHANGELOG.md", "CONTRIBUTING.md", "models/readme.md")


def more_pages(root: Path = ROOT) -> list[str]:
    """Markdown files outside docs/ that the site shows, by their path from the root."""
    examples = sorted(root.glob("examples/*/README.md"))
    return [*(str(path.relative_to(root).as_posix()) for path in examples), *GENERATED]


def on_files(files: Files, *, config: Any) -> Files:
    for name in more_pages():
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    for picture in sorted((ROOT / RESULTS).glob("*.svg")):
        name = f"{RESULTS}/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    return with_links(markdown, page.file.src_uri, set(files.src_uris))


def with_links(markdown: str, page: str, known: set[str]) -> str:
    """A page's text with links that the site can follow.

    Args:
        page: its path from the site's root.
        known: the paths of all pages and pictures of the site.
    """
    in_docs = page not in more_pages()
    here = posixpath.dirname(f"docs/{page}" if in_docs else page)

    def replace(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(here, target))
        for place in (path.removeprefix("docs/"), f"{path}/README.md"):
            if place in known and (path.startswith("docs/") or place in more_pages()):
                relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
                return f"[{text}]({relative}{anchor})"
        return text if text.startswith("`") else f"`{path}`"

    return LINK.sub(replace, markdown)

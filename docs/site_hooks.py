"""What the site adds to the pages in docs/: other files of the repository, and links to them.

On the repository's pages `../examples/rescue/README.md` is a file; the site has no parent folder.
So every Markdown file that a page links to becomes a page itself, at the same place below the
site's root; a link to a file or folder of another kind becomes its name.

Tables of sentences become lists on a narrow screen, and a flag is not broken after its dashes. The
hooks mark both; site.css does the rest.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
ROW = re.compile(r"<tr[^>]*>.*?</tr>", re.DOTALL)
CELL = re.compile(r"<t([hd])\b([^>]*)>(.*?)</t[hd]>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")
FLAG = re.compile(r"<code>(--?\w[\w =,.-]{0,24})</code>")
LONG = 36  # signs: a cell that holds more is a sentence
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


def on_page_content(text: str, *, page: Any, config: Any, files: Files) -> str:
    text = FLAG.sub(r'<code class="flag">\1</code>', text)
    return TABLE.sub(lambda found: marked(found[0]), text)


def marked(table: str) -> str:
    """A table as it is, or one of sentences marked so, each cell with the head of its column."""
    if all(len(plain(cell[3])) <= LONG for cell in CELL.finditer(table)):
        return table
    heads = [plain(cell[3]) for cell in CELL.finditer(table) if cell[1] == "h"]

    def with_heads(row: re.Match[str]) -> str:
        columns = iter(["", *heads[1:]])  # what the first column is can be seen

        def with_head(cell: re.Match[str]) -> str:
            head = next(columns, "")
            mark = f' data-head="{html.escape(head)}"' if head and plain(cell[3]) else ""
            return f"<td{cell[2]}{mark}>{cell[3]}</td>" if cell[1] == "d" else cell[0]

        return CELL.sub(with_head, row[0])

    return ROW.sub(with_heads, table).replace("<table>", "<table data-sentences>", 1)


def plain(cell: str) -> str:
    """What a reader sees of a cell."""
    return html.unescape(TAG.sub("", cell)).strip()

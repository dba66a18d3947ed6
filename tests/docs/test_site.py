"""The site is built, with every link that its pages have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.programs import ROOT, load_program

pytest.importorskip("mkdocs")
hooks = load_program("docs/site_hooks.py")


def test_the_site_is_built(tmp_path: Path) -> None:
    """`strict` makes an error of a link that leads nowhere, and of a page that no menu shows."""
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    built = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    index = (tmp_path / "index.html").read_text("utf-8")
    assert "pictures/digits.png" in index
    for page in tmp_path.rglob("*.html"):  # nothing is fetched from other hosts
        text = page.read_text("utf-8")
        assert not [word for word in ('src="http', 'href="https://fonts') if word in text], page
    assert "readNetFromCaffe" in (tmp_path / "api.html").read_text("utf-8")


KNOWN = {"index.md", "data.md", "tutorials/digits.md", "examples/rescue/README.md", "a.png"}


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("index.md", "[x](data.md#how)", "[x](data.md#how)"),
        ("tutorials/digits.md", "[x](../data.md)", "[x](../data.md)"),
        ("index.md", "[x](../examples/rescue/README.md)", "[x](examples/rescue/README.md)"),
        ("index.md", "[x](../examples/rescue)", "[x](examples/rescue/README.md)"),
        ("tutorials/digits.md", "[x](../../examples/rescue)", "[x](../examples/rescue/README.md)"),
        ("index.md", "[x](../examples/a.py)", "`examples/a.py`"),
        ("index.md", "[`a.py`](../examples/a.py)", "`a.py`"),
        ("examples/rescue/README.md", "[x](../../docs/data.md)", "[x](../../data.md)"),
        (
            "index.md",
            "[x](https://caffe.berkeleyvision.org)",
            "[x](https://caffe.berkeleyvision.org)",
        ),
        ("index.md", "![x](a.png)", "![x](a.png)"),
    ],
)
def test_links(page: str, text: str, wanted: str) -> None:
    assert "examples/rescue/README.md" in hooks.more_pages()
    assert hooks.with_links(text, page, KNOWN) == wanted


def test_a_table_of_sentences_names_its_columns_in_each_cell() -> None:
    """So that it can stand as a list on a narrow screen, without its head."""
    said = "It says <em>much</em> more than one line of a table can hold."
    head = "<tr><th>flag</th><th>the &amp; default</th><th></th></tr>"
    row = "<tr><td><code>-x</code></td><td>{}</td><td>{}</td></tr>"
    text = f"<table>{head}{row.format(1, said)}{row.format('', said)}</table>"
    found = hooks.on_page_content(text, page=None, config=None, files=None)
    assert "<table data-sentences>" in found
    assert found.count('<td data-head="the &amp; default">1</td>') == 1
    assert found.count("data-head") == 1  # no word for the first column, none for an empty cell
    assert found.count(f"<td>{said}</td>") == 2


def test_a_table_of_numbers_stays_a_table() -> None:
    link = f'<a href="{"x" * 99}">1.5</a>'
    table = f"<table><tr><th>net</th><th>ms</th></tr><tr><td>LeNet</td><td>{link}</td></tr></table>"
    assert hooks.on_page_content(table, page=None, config=None, files=None) == table


@pytest.mark.parametrize("code", ["--engine=layerwise", "-solver x", "-v"])
def test_a_flag_is_not_broken_at_the_end_of_a_line(code: str) -> None:
    found = hooks.on_page_content(f"<code>{code}</code>", page=None, config=None, files=None)
    assert found == f'<code class="flag">{code}</code>'


def test_long_code_may_be_broken() -> None:
    text = "<code>pip install --no-deps</code> <code>--" + "x" * 30 + "</code>"
    assert hooks.on_page_content(text, page=None, config=None, files=None) == text

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

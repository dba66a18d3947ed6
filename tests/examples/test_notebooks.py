"""The notebooks run from top to bottom; what they claim, their own assertions check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.programs import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_shown_as_it_ran(notebook: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert notebook.name in (notebook.parent / "README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install '.[notebooks]'")
    client = pytest.importorskip("nbclient", reason="pip install '.[notebooks]'")
    where = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(nbformat.read(notebook, 4), timeout=300, resources=where).execute()

from __future__ import annotations

import io

import pytest
from rich.console import Console

from moka.checks.finding import BVLC, Export, Finding, LayerType
from moka.checks.table import finding_line, findings_table, total
from moka.export.difference import Difference
from moka.weights.fit import Fit

GOOD = Finding(
    "zoo/ssd/deploy.prototxt",
    "net",
    weights="zoo/ssd/res10.caffemodel",
    notes=("1 layer without weights in the file: [b]x.",),
    name="ssd",
    phases=("TEST",),
    types={
        "Convolution": LayerType(3, BVLC, True),
        "Permute": LayerType(1, "SSD", True),
        "Nope": LayerType(1, None, False),
    },
    layers=113,
    parameters=2_662_666,
    multiply_adds=1_178_874_752,
    inputs={"data": (1, 3, 300, 300)},
    fit=Fit(("a", "b"), ("[b]x",), ("c",)),
    engine="onnxruntime",
    by_themselves=("DetectionOutput", "Python"),
    on_host=("Python",),
    export=Export('zoo/ssd/deploy.prototxt: layer "[i]y" (Upsample): cannot be exported.'),
)
BAD = Finding("zoo/bad.prototxt", "net", obstacle='zoo/bad.prototxt: Unknown "[/b]".')
SOLVER = Finding("zoo/s.prototxt", "solver", notes=("Its net is x.",))
ALONE = Finding("zoo/w.caffemodel", "weights", parameters=1000)
SAME = Finding(
    "zoo/same.prototxt", "net", layers=2, export=Export(difference=Difference(5e-7, 1e-6, "prob"))
)
CUT = Finding("zoo/c.caffemodel", "weights", obstacle="zoo/c.caffemodel: truncated.")
ALL = [GOOD, BAD, SOLVER, ALONE, CUT, SAME]


def shown(width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(findings_table(ALL, width))
    return file.getvalue()


def test_lines() -> None:
    assert [finding_line(each) for each in ALL] == [
        "zoo/ssd/deploy.prototxt: loads; 113 layers; 2,662,666 parameters;"
        " 1,178.9 M multiply-adds; from data 1x3x300x300; SSD: Permute;"
        " weights res10.caffemodel: 2 match, 1 missing, 1 left over;"
        " engine onnxruntime (DetectionOutput, Python apart; Python on the CPU);"
        ' does not export: layer "[i]y" (Upsample): cannot be exported;'
        " 1 layer without weights in the file: [b]x.",
        'zoo/bad.prototxt: fails: Unknown "[/b]".',
        "zoo/s.prototxt: a solver; Its net is x.",
        "zoo/w.caffemodel: weights without a net; 1,000 parameters",
        "zoo/c.caffemodel: fails: truncated.",
        "zoo/same.prototxt: loads; 2 layers; exports to ONNX, differs by 5e-07 (1e-06 of the"
        " scale) in prob",
    ]


@pytest.mark.parametrize("width", [40, 80, 150, 200])
def test_tables_of_any_width(width: int) -> None:
    """Nothing is cut off, and names that look like markup are shown as they are."""
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    for each in ("2,662,666", "1,178.9 M", "1x3x300x300", "Permute", "Unknown"):
        assert each in text
    wide = shown(200)
    for each in ('Unknown "[/b]".', "[b]x", "truncated.", "2 match, 1 missing",
                 "engine onnxruntime", 'no: layer "[i]y" (Upsample)',
                 "yes, differs by 5e-07"):  # fmt: skip
        assert each in " ".join(wide.split())


def test_a_column_for_each_fact_if_there_is_room() -> None:
    assert "multiply-adds" in shown(150).splitlines()[1]
    assert shown(149).splitlines()[1].split() == ["┃", "file", "┃", "result", "┃"]


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ([GOOD], "1 net loads."),
        ([GOOD, GOOD, SOLVER], "2 nets load."),
        ([BAD], "0 nets load. 1 net fails."),
        (ALL, "2 nets load. 1 net and 1 other file fail."),
        ([CUT, CUT], "0 nets load. 2 other files fail."),
    ],
)
def test_total(findings: list[Finding], said: str) -> None:
    assert total(findings) == said


def test_as_json() -> None:
    good, _, solver, alone, _, same = (each.as_json() for each in ALL)
    assert good["types"]["Permute"] == {"count": 1, "fork": "SSD", "known": True}
    assert good["fit"] == {"matching": ["a", "b"], "missing": ["[b]x"], "left_over": ["c"]}
    assert (good["loads"], good["inputs"]) == (True, {"data": [1, 3, 300, 300]})
    assert good["export"] == {
        "exports": False,
        "obstacle": GOOD.export.obstacle if GOOD.export else None,
        "difference": None,
    }
    assert same["export"] == {
        "exports": True,
        "obstacle": None,
        "difference": {"absolute": 5e-7, "relative": 1e-6, "output": "prob"},
    }
    assert solver == {
        "file": "zoo/s.prototxt",
        "kind": "solver",
        "loads": True,
        "obstacle": None,
        "notes": ["Its net is x."],
    }
    assert alone["parameters"] == 1000

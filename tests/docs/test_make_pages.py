"""The references of layer types and of a solver's fields are what the code says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from tests.programs import load_program

from moka.command.table import COMMANDS
from moka.layers import all_entries
from moka.schema import caffe_pb2
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.solver.config import FORKS_OPTIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_program("docs/make_pages.py")


@pytest.mark.parametrize("page", ["layers.md", "solver.md", "commands.md"])
def test_the_pages_are_up_to_date(maker: ModuleType, page: str) -> None:
    assert (DOCS / page).read_text() == maker.PAGES[page](), "run: make docs"


def test_every_field_of_a_solver_is_there(maker: ModuleType) -> None:
    row = re.compile(r"^\| `(\w+)`(?: \((own|fork)\))? \|", re.MULTILINE)
    found = row.findall(maker.solver_page())
    described = caffe_pb2.SolverParameter.DESCRIPTOR.fields
    of_forks = {field.name for field in described if field.number >= FIRST_FORK_NUMBER}
    assert of_forks >= FORKS_OPTIONS
    fields = [field for field in described if field.name not in of_forks - FORKS_OPTIONS]
    assert sorted(name for name, _ in found) == sorted(f.name for f in fields)
    own = {f.name for f in fields if f.number >= 20000} - FORKS_OPTIONS
    assert {name for name, mark in found if mark == "own"} == own
    assert {name for name, mark in found if mark == "fork"} == FORKS_OPTIONS


def test_every_type_has_its_entry(maker: ModuleType) -> None:
    headings = [line[4:] for line in maker.layers_page().splitlines() if line.startswith("### ")]
    assert sorted(headings) == [entry.type for entry in all_entries()]


def test_the_types_of_forks_say_whether_they_have_a_gradient(maker: ModuleType) -> None:
    row = re.compile(r"^\| (.*) \| \[(\w+)\]\(#(\w+)\) \| (.*) \| (.*) \|$")
    rows = [match.groups() for line in maker.fork_table() if (match := row.match(line))]
    assert sorted(r[1] for r in rows) == [entry.type for entry in all_entries() if entry.fork]
    assert [r[0].lower() for r in rows] == sorted(r[0].lower() for r in rows)
    assert all(anchor == name.lower() for _, name, anchor, _, _ in rows)
    found = {name: (fork, others, gradient) for fork, name, _, others, gradient in rows}
    assert found["Permute"] == ("SSD", "", "yes")
    assert found["ROIPooling"] == ("Faster R-CNN", "", "yes, except for bottom 2")
    assert found["MultiBoxLoss"][2] == "yes, except for bottom 3, 4, 6"
    assert found["CtcLoss"][1] == "`CTCLoss`, `WarpCTCLoss`"
    assert found["DetectionOutput"][2] == "no"
    assert found["AnnotatedData"][2] == "no: it has no bottoms"


def test_the_readme_counts_the_types() -> None:
    of_forks = sum(entry.fork is not None for entry in all_entries())
    readme = (DOCS.parent / "README.md").read_text()
    assert f"{len(all_entries())} layer types, {of_forks} of them" in " ".join(readme.split())
    bvlc = len(all_entries()) - of_forks
    assert f"All {bvlc} of Caffe's [layer types]" in (DOCS / "from_caffe.md").read_text()
    assert f"| {of_forks} types |" in (DOCS / "table.md").read_text()
    assert f"lists all {of_forks}," in (DOCS.parent / "CHANGELOG.md").read_text()


def test_what_several_types_share(maker: ModuleType) -> None:
    page = maker.layers_page()
    section = page[page.index("## Transformation: `transform_param`") :]
    section = section[: section.index("\n## ")]
    fields = caffe_pb2.TransformationParameter.DESCRIPTOR.fields_by_name
    found = dict(re.findall(r"^\| `(\w+)`( \(own\))? \|", section, re.MULTILINE))
    assert {name: bool(own) for name, own in found.items()} == {
        name: field.number >= 20000
        for name, field in fields.items()
        if field.number < FIRST_FORK_NUMBER
    }


def test_comments_of_fields_above_and_beside(maker: ModuleType) -> None:
    comments = maker.field_comments()
    assert comments["ArgMaxParameter"]["out_max_val"].startswith("The values too: without `axis`")
    assert comments["AccuracyParameter"]["axis"] == "The classes' axis in the scores"
    assert comments["ArgMaxParameter"]["top_k"] == ""


def test_signs_of_markdown_are_escaped(maker: ModuleType) -> None:
    assert maker.escaped("a_b * c `d_e` |x|") == r"a\_b \* c `d_e` \|x\|"
    assert maker.escaped("<prefix>_<N> `<N>`<br>") == r"&lt;prefix>\_&lt;N> `<N>`<br>"


def test_formulas_in_a_comment_stand_line_by_line(maker: ModuleType) -> None:
    lines = [
        "The rate:",
        "  fixed   base_lr",
        "  exp     base_lr *",
        "          gamma",
        "and so on.",
    ]
    assert maker.joined(lines) == (
        "The rate:<br>`fixed base_lr`<br>`exp base_lr * gamma`<br>and so on."
    )
    assert maker.joined(["one", "sentence."]) == "one sentence."


def test_every_command_has_its_section(maker: ModuleType) -> None:
    page = maker.commands_page()
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert headings == [*COMMANDS, "Flags of every command"]
    for command in COMMANDS.values():
        section = "\n".join(maker.command_section(command))
        for flag in command.flags:
            assert f"| `--{flag.name}`" in section
        for program, _ in command.programs:
            assert f"`{program}`" in section


def test_lines_of_code_in_a_description_stand_apart(maker: ModuleType) -> None:
    command = replace(COMMANDS["plot"], description="First:\n    one\n    two\nThen:\n    three\n")
    section = "\n".join(maker.command_section(command))
    assert section.startswith("First:\n\n    one\n    two\n\nThen:\n\n    three\n\n    caffe plot")

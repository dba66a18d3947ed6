from __future__ import annotations

import pytest

from moka.command.flags import Flag, parse_flags
from moka.errors import UsageError

FLAGS = {
    flag.name: flag
    for flag in (
        Flag("solver", "", "The solver."),
        Flag("iterations", 50, "How many."),
        Flag("sighup_effect", "snapshot", "What to do."),
        Flag("verbose", False, "Say more."),
        Flag("color", True, "Use colors."),
        Flag("scale", 255.0, "A factor."),
        Flag("output", "", "A file.", short="o"),
    )
}
DEFAULTS = {name: flag.default for name, flag in FLAGS.items()}


@pytest.mark.parametrize(
    ("line", "words", "changed"),
    [
        ("", [], {}),
        ("train", ["train"], {}),
        ("train -solver a.prototxt", ["train"], {"solver": "a.prototxt"}),
        ("train --solver a.prototxt", ["train"], {"solver": "a.prototxt"}),
        ("train -solver=a.prototxt", ["train"], {"solver": "a.prototxt"}),
        ("--solver=a=b train", ["train"], {"solver": "a=b"}),
        ("-solver a.prototxt train", ["train"], {"solver": "a.prototxt"}),
        ("-solver=", [], {"solver": ""}),
        ("-iterations 7", [], {"iterations": 7}),
        ("-iterations=-7", [], {"iterations": -7}),
        ("-iterations -7", [], {"iterations": -7}),
        ("-scale 0.5", [], {"scale": 0.5}),
        ("-o x", [], {"output": "x"}),
        ("--output=x -o=y", [], {"output": "y"}),
        ("-solver -iterations", [], {"solver": "-iterations"}),
        ("-sighup-effect stop", [], {"sighup_effect": "stop"}),
        ("-verbose", [], {"verbose": True}),
        ("-verbose train", ["train"], {"verbose": True}),
        ("-noverbose -nocolor", [], {"color": False}),
        ("-verbose=true -color=false", [], {"verbose": True, "color": False}),
        ("-solver a -solver b", [], {"solver": "b"}),
        ("time -- -solver x", ["time", "-solver", "x"], {}),
        ("time -", ["time", "-"], {}),
    ],
)
def test_parse(line: str, words: list[str], changed: dict[str, object]) -> None:
    assert parse_flags(line.split(), FLAGS) == (words, DEFAULTS | changed)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-slover x", "unknown command line flag 'slover'. Did you mean \"solver\""),
        ("-zzz", "unknown command line flag 'zzz'."),
        ("\u2014solver=x", "\u2014solver=x begins with a dash; flags begin with a hyphen. Write"),
        ("\u2013\u2013solver x", "hyphen. Write --solver."),
        ("-nosolver", "unknown command line flag 'nosolver'"),
        ("-noverbose=true", "unknown command line flag 'noverbose'"),
        ("-solver", "flag 'solver' is missing its argument"),
        ("-solver =x", "flag 'solver' is followed by a blank and =x. Leave no blanks around =."),
        ("-iterations many", "illegal value 'many' specified for int32 flag 'iterations'"),
        ("-iterations 1.5", "illegal value '1.5' specified for int32 flag 'iterations'"),
        ("-scale much", "illegal value 'much' specified for double flag 'scale'"),
        ("-verbose=perhaps", "illegal value 'perhaps' specified for bool flag 'verbose'"),
    ],
)
def test_lines_that_cannot_be_understood(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_flags(line.split(), FLAGS)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("solver", '    -solver (The solver.) type: string default: ""'),
        ("iterations", "    -iterations (How many.) type: int32 default: 50"),
        ("verbose", "    -verbose (Say more.) type: bool default: False"),
        ("output", '    -o, -output (A file.) type: string default: ""'),
    ],
)
def test_describe(name: str, wanted: str) -> None:
    assert FLAGS[name].describe() == wanted


def test_a_long_description_is_wrapped() -> None:
    lines = Flag("f", "", "many words " * 20).describe().splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("      ") for line in lines[1:])

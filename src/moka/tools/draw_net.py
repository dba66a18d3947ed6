"""Draw a net: `draw_net`, with the arguments of BVLC Caffe's draw_net.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.draw.net_drawing import net_drawing
from moka.draw.net_picture import draw
from moka.errors import MokaError, UsageError
from moka.files import write_atomically
from moka.schema import caffe_pb2, read_text
from moka.types import PathLike

PHASES = {"ALL": None, "TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def draw_net(
    net_file: PathLike,
    picture: PathLike,
    *,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draw the net of a prototxt into a file, whose suffix says in what form: .png, .svg, .pdf, or
    .dot for Graphviz's language. `moka.draw.net_drawing` describes the other arguments.

    Raises:
        MokaError: the prototxt cannot be read, an unknown form or rankdir, no matplotlib.
        OSError: the file cannot be written.
    """
    net = read_text(net_file, caffe_pb2.NetParameter)
    try:
        drawing = net_drawing(net, rankdir, phase=phase, display_lrm=display_lrm)
    except MokaError as error:
        raise error.at(file=net_file) from None
    content = draw(drawing, Path(picture).suffix.removeprefix("."))
    write_atomically(picture, lambda file: file.write(content))


def main(argv: Sequence[str] | None = None) -> int:
    """`draw_net NET PICTURE [FLAGS]`."""
    return run("draw_net", _draw_net, argv)


def _draw_net(words: list[str], flags: dict[str, Any]) -> None:
    net_file, picture = words
    if flags["phase"] not in PHASES:
        raise UsageError(f"--phase is TRAIN, TEST or ALL, found '{flags['phase']}'.")
    print(f"Drawing net to {picture}")
    draw_net(
        net_file,
        picture,
        rankdir=flags["rankdir"],
        phase=PHASES[flags["phase"]],
        display_lrm=flags["display_lrm"],
    )

"""Draw a net: `draw_net`, with the arguments of BVLC Caffe's draw_net.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moka.command.phase import phase_of
from moka.command.run import run
from moka.draw import net_picture
from moka.errors import NetError
from moka.files import write_atomically
from moka.schema import caffe_pb2, read_text
from moka.types import PathLike


def draw_net_file(
    net_file: PathLike,
    picture: PathLike,
    *,
    rankdir: str | None = None,
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> None:
    """Draw the net of a prototxt into a file.

    Args:
        picture: its suffix chooses the form: .png, .svg, .pdf, or .dot for Graphviz's language.
        rankdir, phase, display_lrm: see `moka.draw.net_picture.net_picture_bytes`.

    Raises:
        MokaError: the prototxt cannot be read, an unknown form or rankdir, no matplotlib.
        OSError: the file cannot be written.
    """
    net = read_text(net_file, caffe_pb2.NetParameter)
    try:
        form = Path(picture).suffix.removeprefix(".")
        content = net_picture.net_picture_bytes(
            net, form, rankdir, phase=phase, display_lrm=display_lrm
        )
    except NetError as error:
        raise error.at(file=net_file) from None
    write_atomically(picture, lambda file: file.write(content))


def main(argv: Sequence[str] | None = None) -> int:
    """`draw_net NET PICTURE [FLAGS]`."""
    return run("draw_net", _draw_net, argv)


def _draw_net(words: list[str], flags: dict[str, Any]) -> None:
    net_file, picture = words
    phase = phase_of(flags["phase"])
    print(f"Drawing net to {picture}")
    draw_net_file(
        net_file,
        picture,
        rankdir=flags["rankdir"] or None,
        phase=phase,
        display_lrm=flags["display_lrm"],
    )

"""Builds nets whose data files are missing, with shapes that the text or other nets suggest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

from moka.errors import MokaError, NetError
from moka.graph import Graph
from moka.net import Net, read_net
from moka.net.outline import ImageSize, MissingData, missing_data, outline
from moka.types import Shape

# What nets were trained for, where nothing else tells: height is width.
USUAL_SIDES = (224, 227, 28, 32, 299, 300, 64, 96, 112, 128, 256, 320, 416, 448, 512, 513, 600, 608)
USUAL_CHANNELS = (3, 1, 2, 4)


@dataclass(frozen=True)
class Built:
    """A net without memory.

    Attributes:
        notes: what is to say of its data, as sentences.
        is_guess: whether nothing speaks for the size of its images.
    """

    net: Net
    notes: tuple[str, ...] = ()
    is_guess: bool = False


def build(
    graph: Graph, fits: Callable[[Net], bool] | None = None, beside: Sequence[str] = ()
) -> Built:
    """The outline of a net, with stand-ins for data that is missing.

    Their size is what the text tells; else that of the inputs of nets beside it; else a usual one.
    The first counts with which the net can be built and its weights fit.

    Args:
        fits: whether the weights fit a net; None: there are none.
        beside: files of nets that take the same images, as the one for use beside the one to train.

    Raises:
        MokaError: the net cannot be built; or no size is found.
    """
    missing = missing_data(graph)
    notes = tuple(
        f"Data is missing: {each.reason.removeprefix(f'{graph.file}: ')}" for each in missing
    )
    if all(each.size.shape for each in missing):
        return Built(outline(graph, _shapes(missing, ImageSize())), notes)
    usable: Built | None = None
    for size, is_guess in _candidates(missing, beside):
        try:
            net = outline(graph, _shapes(missing, size))
        except MokaError:
            continue
        if fits is None or fits(net):
            is_guess = is_guess and fits is None
            return Built(net, (*notes, _told(missing, size, is_guess)), is_guess)
        usable = usable or Built(net, (*notes, _told(missing, size, True)), True)
    if usable is None:
        raise NetError(f"{missing[0].reason} Without it nobody knows the shapes of its blobs.")
    return usable


def _candidates(
    missing: Sequence[MissingData], beside: Sequence[str]
) -> Iterator[tuple[ImageSize, bool]]:
    """Image sizes to try where the text gives none; True if they are only a guess."""
    channels: Sequence[int] = (0,)
    if any(not each.size.channels for each in missing):
        channels = USUAL_CHANNELS
    for size in dict.fromkeys(chain.from_iterable(map(_input_sizes, beside))):
        yield from ((replace(size, channels=c), False) for c in (size.channels, *channels) if c)
    sides = USUAL_SIDES if any(not each.size.height for each in missing) else (0,)
    yield from ((ImageSize(1, c, side, side), bool(side)) for side, c in product(sides, channels))


def _input_sizes(file: str) -> Iterator[ImageSize]:
    """The sizes of the images that a net takes from its caller, as its text tells them."""
    try:
        net, _ = read_net(file)
    except MokaError:
        return
    for layer in net.layer:
        for shape in layer.input_param.shape:
            if len(shape.dim) == 4:
                yield ImageSize(1, *shape.dim[1:])


def _filled(told: ImageSize, size: ImageSize) -> ImageSize:
    return ImageSize(
        told.batch or size.batch or 1,
        told.channels or size.channels,
        told.height or size.height,
        told.width or size.width,
    )


def _shapes(missing: Sequence[MissingData], size: ImageSize) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for each in missing:
        shapes.update(each.shapes(_filled(each.size, size)) or {})
    return shapes


def _told(missing: Sequence[MissingData], size: ImageSize, is_guess: bool) -> str:
    filled = [_filled(each.size, size) for each in missing]
    sizes = dict.fromkeys(f"{s.channels} x {s.height} x {s.width}" for s in filled)
    text = " and ".join(sizes)
    if is_guess:
        return f"Nothing tells the size of its images: the numbers are those for {text}."
    return f"Its images are taken to be {text}."

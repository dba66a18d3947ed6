"""Builds nets whose data files are missing, with shapes that the text or other nets suggest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

from moka.checks.fitting import Fitting, Ranks
from moka.errors import MokaError, NetError
from moka.graph import Graph
from moka.layers import REGISTRY
from moka.net import Net, read_net
from moka.net.outline import ImageSize, MissingData, missing_data, outline, unread_data
from moka.types import Shape

# What nets were trained for, where nothing else tells: height is width.
USUAL_SIDES = (224, 227, 28, 32, 299, 300, 64, 96, 112, 128, 256, 320, 416, 448, 512, 513, 600, 608)
USUAL_CHANNELS = (3, 1, 2, 4)
IMAGE_RANKS, LABEL_RANKS, ANY_RANK = (4, 4), (1, 2), (1, 32)


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
    graph: Graph,
    fits: Callable[[Net], bool] | None = None,
    beside: Sequence[str] = (),
    *,
    reads_files: bool = True,
) -> Built:
    """The outline of a net, with stand-ins for data that is missing.

    Their size is what the text tells; else that of the inputs of nets beside it; else a usual one.
    The first counts with which the net can be built and its weights fit. If there is none, the
    layers that read the data are asked for other shapes of labels and of what is no image.

    Args:
        fits: whether the weights fit a net; None: there are none.
        beside: files of nets that take the same images, as the one for use beside the one to train.
        reads_files: False: no data is opened, as if all of it were missing.

    Raises:
        MokaError: the net cannot be built; or no size is found.
    """
    missing = missing_data(graph) if reads_files else unread_data(graph)
    if not missing:
        return Built(outline(graph))
    notes = tuple(
        f"Data is missing: {each.reason.removeprefix(f'{graph.file}: ')}"
        for each in missing
        if each.reason
    )
    faults: list[MokaError] = []
    for fitting in (None, Fitting(graph, _ranks(missing))):
        usable: Built | None = None
        for size, is_guess in _candidates(missing, beside):
            first = _shapes(missing, size)
            shapes = first if fitting is None else fitting.shapes(first)
            try:
                net = outline(graph, shapes)
            except MokaError as error:
                faults.append(error)
                continue
            fit = fits is not None and fits(net)
            is_guess = is_guess and not fit if fits is None else not fit
            told = (*_told(missing, size, is_guess), *_chosen(first, shapes))
            built = Built(net, (*notes, *told), is_guess)
            if fits is None or fit:
                return built
            usable = usable or built
        if usable is not None:
            return usable
    if len({str(fault) for fault in faults}) == 1:  # whatever the data is
        raise faults[0]
    raise NetError(
        f"{missing[0].reason} Without it nobody knows the shapes of its blobs; those that were"
        f" tried do not fit: {faults[0]}"
    )


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


def _ranks(missing: Sequence[MissingData]) -> dict[str, Ranks]:
    """The tops whose shape only the data tells, and how many axes it may have."""
    found: dict[str, Ranks] = {}
    for each in missing:
        entry = REGISTRY[each.node.type]
        for number, top in enumerate(each.node.tops):
            if entry.any_shapes:
                found[top] = ANY_RANK
            elif entry.stand_in is None:
                found[top] = LABEL_RANKS if number else IMAGE_RANKS
    return found


def _told(missing: Sequence[MissingData], size: ImageSize, is_guess: bool) -> Iterator[str]:
    """What is to say of the size of images, where the text does not tell it."""
    if all(each.size.shape for each in missing):
        return
    filled = [_filled(each.size, size) for each in missing]
    text = " and ".join(dict.fromkeys(f"{s.channels} x {s.height} x {s.width}" for s in filled))
    if is_guess:
        yield f"Nothing tells the size of its images: the numbers are those for {text}."
    else:
        yield f"Its images are taken to be {text}."


def _chosen(first: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """What is to say of data whose shape the layers that read it have chosen."""
    changed = [
        f"{top} is taken to be {' x '.join(map(str, shape))}"
        for top, shape in shapes.items()
        if shape != first[top]
    ]
    if changed:
        yield f"As the layers that read it ask for: {', '.join(changed)}."

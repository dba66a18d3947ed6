"""Classes that form a tree, as YOLO9000's: each class is a choice among those with its parent."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.files import read_text_file
from moka.layers.detection.grid import Cells
from moka.layers.detection.objects import Objects, flat_index, last_of

FAR = 100_000  # a true box at a larger x and y only names a class of its image
LEAST_OBJECTNESS = 0.3  # where that class was found


class ClassTree:
    """A tree of classes; classes with one parent, next to each other, are a group.

    Attributes:
        group: of each class (C,).
        paths: each class and those above it (C, D), -1 where there are no more.
    """

    def __init__(self, parents: list[int]) -> None:
        """
        Args:
            parents: the class above each class, which comes before it; -1: none.
        """
        group = [0] * len(parents)
        paths: list[list[int]] = []
        for c, parent in enumerate(parents):
            if c:
                group[c] = group[c - 1] + (parent != parents[c - 1])
            paths.append([c, *(paths[parent] if parent >= 0 else [])])
        depth = max(map(len, paths))
        self.group = torch.tensor(group)
        self.paths = torch.tensor([path + [-1] * (depth - len(path)) for path in paths])

    def __len__(self) -> int:
        return len(self.group)

    def probabilities(self, scores: Tensor) -> Tensor:
        """The softmax of scores (..., C) within each group."""
        group = self.group.to(scores.device).expand(scores.shape)
        totals = scores.new_zeros(*scores.shape[:-1], int(self.group[-1]) + 1)
        largest = totals.scatter_reduce(-1, group, scores, "amax", include_self=False)
        powers = (scores - largest.gather(-1, group)).exp()
        return powers / totals.scatter_add(-1, group, powers).gather(-1, group)

    def of_class(self, probabilities: Tensor, label: int) -> Tensor:
        """The probability of a class (...): its own in its group times those of all above it."""
        path = self.paths[label]
        return probabilities[..., path[path >= 0].to(probabilities.device)].prod(-1)

    def deltas(self, scores: Tensor, label: Tensor, place: tuple[Tensor, ...]) -> Tensor:
        """Softmax minus one-hot in the groups of the true classes and of all above them, else 0.

        Args:
            scores: (N, A, H, W, C).
            label, place: of true boxes (K,); of several at one place the last decides in a group.
        """
        paths = self.paths.to(label.device)[label]
        which, level = (paths >= 0).nonzero().T
        on = paths[which, level]
        group = self.group.to(label.device)
        where = flat_index(place, scores.shape[:-1])[which] * len(self) + group[on]
        _, key = torch.unique(where, return_inverse=True)
        order = which.argsort(stable=True)
        which, on, key = which[order], on[order], key[order]
        last = last_of(key, len(key))
        which, on = which[last], on[last]
        at = tuple(index[which] for index in place)
        own = torch.nn.functional.one_hot(on, len(self))
        found = (self.probabilities(scores[at]) - own) * (group == group[on][:, None])
        return torch.zeros_like(scores).index_put_(at, found, accumulate=True)


def read_tree(path: str, classes: int) -> ClassTree:
    """The tree of a file that has a name and the number of the class above on each line.

    Raises:
        NetError: another number of classes, or a class above that does not come before.
    """
    lines = [line.split() for line in read_text_file(path).splitlines() if line.strip()]
    parents = []
    for number, words in enumerate(lines):
        try:
            parents.append(int(words[1]))
        except (IndexError, ValueError):
            parents.append(number)
        if not -1 <= parents[-1] < number:
            raise NetError(
                f"{path}: a line is a name and the class above it, -1 to {number - 1} here, got"
                f' "{" ".join(words)}".'
            )
    if len(parents) != classes:
        raise NetError(f"{path} is a tree of {len(parents)} classes, num_class is {classes}.")
    return ClassTree(parents)


def split_named(objects: Objects) -> tuple[Objects, Objects]:
    """Boxes that only name a class of their image, the first of each, and the boxes of others."""
    far = (objects.center > FAR).all(1)
    index = far.nonzero()[:, 0]
    image = objects.image[index]
    first = last_of(image.flip(0), int(objects.image.max()) + 1 if len(far) else 0).flip(0)
    rest = ~torch.isin(objects.image, image)
    return (
        Objects(*(values[index[first]] for values in objects)),
        Objects(*(values[rest] for values in objects)),
    )


def name_images(
    deltas: Cells, cells: Cells, named: Objects, tree: ClassTree, of_object: float, of_class: float
) -> None:
    """Write the deltas of images with a class and no boxes: see RegionLoss.

    Args:
        named: a row for each such image.
        of_object, of_class: the scales of these deltas.
    """
    for image, label in zip(named.image.tolist(), named.label, strict=True):
        objectness = cells.objectness[image].sigmoid()
        probability = tree.of_class(tree.probabilities(cells.classes[image]), int(label))
        best = int((objectness * probability).argmax())
        where = torch.unravel_index(torch.tensor([best], device=label.device), objectness.shape)
        place = (named.image.new_tensor([image]), *where)
        found = tree.deltas(cells.classes, label[None], place)
        deltas.classes[place] = of_class * found[place]
        o = objectness.flatten()[best]
        wrong = of_object * (o - LEAST_OBJECTNESS) * o * (1 - o)
        deltas.objectness[place] = wrong.where(o < LEAST_OBJECTNESS, 0)

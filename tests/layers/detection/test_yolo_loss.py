from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

ANCHORS = [(1.0, 2.0), (3.0, 1.5)]
FIELDS = "num_class: 3 num: 2 biases: 1 biases: 2 biases: 3 biases: 1.5"
SHAPE = (2, 16, 4, 5)


def problem(seed: int = 0) -> tuple[Array, Array]:
    """A map and true boxes; two of them lie at the same place."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((2, 4, 5))
    for image, count in ((0, 3), (1, 1)):
        labels[image, :count, 0] = rng.integers(0, 3, count)
        labels[image, :count, 1:3] = rng.uniform(0.05, 0.95, (count, 2))
        labels[image, :count, 3:] = rng.uniform(0.1, 0.7, (count, 2))
    labels[0, 1] = labels[0, 0] + [0, 1e-3, 1e-3, 1e-3, 2e-3]
    labels[0, 1, 0] = (labels[0, 0, 0] + 1) % 3
    return rng.normal(size=SHAPE), labels


def slow_deltas(x: Array, labels: Array, o: dict[str, Any], *, warm_up: bool) -> Array:
    """The docstring, one number at a time."""
    n, _, h, w = x.shape
    parts = x.reshape(n, 2, 8, h, w)
    d = np.zeros_like(parts)
    sizes = [(a / w, b / h) for a, b in ANCHORS]

    def place(v: Array, out: Array, target: Any, scale: float) -> None:
        for k in (0, 1):
            s = slow.sigmoid(v[k])
            out[k] = scale * (s - target[k]) * s * (1 - s)
        for k in (2, 3):
            out[k] = scale * (v[k] - target[k])

    for b, a, row, column in np.ndindex(n, 2, h, w):
        v, out = parts[b, a, :, row, column], d[b, a, :, row, column]
        box = slow.box_at(v, row, column, sizes[a], (h, w))
        true = [tuple(t[1:]) for t in labels[b] if t[3]]
        s = slow.sigmoid(v[4])
        if max((slow.overlap(box, t) for t in true), default=0) <= o["thresh"]:
            out[4] = o["noobject_scale"] * s * s * (1 - s)
        if warm_up:
            place(v, out, (0.5, 0.5, 0, 0), 0.01)
    for b in range(n):
        for label, cx, cy, tw, th in labels[b][labels[b][:, 3] > 0]:
            row, column = int(cy * h), int(cx * w)
            shapes = sizes
            if not o["bias_match"]:
                shapes = [
                    slow.box_at(parts[b, a, :, row, column], row, column, sizes[a], (h, w))[2:]
                    for a in (0, 1)
                ]
            match = [slow.overlap((0, 0, *size), (0, 0, tw, th)) for size in shapes]
            a = int(np.argmax(match))
            v, out = parts[b, a, :, row, column], d[b, a, :, row, column]
            target = (
                cx * w - column,
                cy * h - row,
                np.log(tw / sizes[a][0]),
                np.log(th / sizes[a][1]),
            )
            scale = o["coord_scale"] * (1 if o["rescore"] else 2 - tw * th)
            place(v, out, target, scale)
            s = slow.sigmoid(v[4])
            box = slow.box_at(v, row, column, sizes[a], (h, w))
            goal = slow.overlap(box, (cx, cy, tw, th)) if o["rescore"] else 1
            out[4] = o["object_scale"] * (s - goal) * s * (1 - s)
            for c, p in enumerate(slow.softmax(v[5:])):
                out[5 + c] = o["class_scale"] * (p - (c == label))
    return d.reshape(x.shape)


DEFAULTS: dict[str, Any] = {
    "object_scale": 1,
    "noobject_scale": 0.5,
    "class_scale": 1,
    "coord_scale": 5,
    "thresh": 0.2,
    "rescore": 1,
    "bias_match": 1,
}


@pytest.mark.parametrize(
    "changed",
    [{}, {"rescore": 0}, {"bias_match": 0}, {"object_scale": 5, "class_scale": 2, "thresh": 0.05}],
    ids=str,
)
@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("ssd", [False, True], ids=["five", "ssd"])
def test_deltas(
    make_layer: LayerMaker, changed: dict[str, Any], *, warm_up: bool, ssd: bool
) -> None:
    x, labels = problem()
    fields = " ".join(f"{name}: {value}" for name, value in changed.items())
    given = as_ssd(labels) if ssd else labels.reshape(2, 20)
    layer = make_layer(
        f'type: "RegionLoss" region_loss_param {{ {FIELDS} {fields} }}', SHAPE, given.shape
    ).double()
    if not warm_up:
        layer.load_run_state([torch.tensor([6400])])
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(given))
    (loss * 3).backward()
    want = slow_deltas(x, labels, DEFAULTS | changed, warm_up=warm_up)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), 3 * want / 2, atol=1e-12)
    assert float(loss.detach()) == pytest.approx((want**2).sum() / 2)


def as_ssd(labels: Array) -> Array:
    """The same boxes as rows of image, label from 1 on, instance, corners, difficult."""
    rows = [
        [image, label + 1, 0, x - w / 2, y - h / 2, x + w / 2, y + h / 2, 0]
        for image, boxes in enumerate(labels)
        for label, x, y, w, h in boxes
        if w
    ]
    return np.array(rows)[None, None]


def test_the_first_12800_images_draw_boxes_to_their_anchors(make_layer: LayerMaker) -> None:
    x, labels = torch.randn(2, 16, 4, 5), torch.zeros(2, 5)
    layer = make_layer(f'type: "RegionLoss" region_loss_param {{ {FIELDS} }}', SHAPE, (2, 5))
    layer.load_run_state([torch.tensor([6399])])
    with_anchors = layer(x, labels)
    again = layer.again(x, labels)
    assert isinstance(again, torch.Tensor)
    assert torch.equal(again, with_anchors)
    assert layer(x, labels) < with_anchors
    assert layer.run_state()[0].tolist() == [6401]


def test_a_class_map(
    make_layer: LayerMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("map").write_text("2\n0\n1\n0\n")
    x, labels = problem()
    mapped = labels.copy()
    labels[..., 0] = [[3, 0, 2, 0], [1, 0, 0, 0]]
    mapped[..., 0] = [[0, 2, 1, 0], [0, 0, 0, 0]]
    text = f'type: "RegionLoss" region_loss_param {{ {FIELDS}'
    have = make_layer(f'{text} class_map: "map" }}', SHAPE, (2, 20)).double()
    want = make_layer(f"{text} }}", SHAPE, (2, 20)).double()
    bottom = torch.tensor(x)
    assert torch.equal(
        have(bottom, torch.tensor(labels.reshape(2, 20))),
        want(bottom, torch.tensor(mapped.reshape(2, 20))),
    )
    Path("map").write_text("2\n3\n")
    with pytest.raises(NetError, match=r"map: a class map holds a class a line, 0 to 2, found 3"):
        make_layer(f'{text} class_map: "map" }}', SHAPE, (2, 20))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        (FIELDS, [(2, 15, 4, 5), (2, 5)], "need a bottom of 16 channels"),
        (FIELDS, [SHAPE, (2, 6)], "true boxes are 5 numbers each"),
        ("num_class: 3 num: 2 biases: [1, 2]", [SHAPE, (2, 5)], "4 values; got 2"),
    ],
)
def test_bad_options(make_layer: LayerMaker, fields: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f'type: "RegionLoss" region_loss_param {{ {fields} }}', *shapes)

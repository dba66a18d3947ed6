from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.detection.output import DetectionOutput

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers.conftest import LayerMaker

    from moka.types import Array

N, P, C = 2, 30, 3


def output(fields: str = "") -> str:
    return f'type: "DetectionOutput" detection_output_param {{ num_classes: {C} {fields} }}'


def blobs(shared: bool = True) -> list[Array]:
    """Offsets, scores, prior boxes of many near each other."""
    rng = np.random.default_rng(2)
    offsets = rng.normal(0, 0.5, (N, P * 4 * (1 if shared else C)))
    scores = rng.uniform(size=(N, P, C))
    scores /= scores.sum(2, keepdims=True)
    corner = rng.uniform(0, 0.6, (P, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.4, (P, 2))], 1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (P, 1))
    priors = np.stack([boxes.ravel(), variances.ravel()])[None]
    return [offsets, scores.reshape(N, -1), priors]


def decoded(offsets: Array, prior: Array, variance: Array, code: str) -> Array:
    d = offsets * variance
    w, h = prior[2:] - prior[:2]
    if code == "CORNER":
        return prior + d
    if code == "CORNER_SIZE":
        return prior + d * np.array([w, h, w, h])
    cx, cy = (prior[:2] + prior[2:]) / 2 + d[:2] * [w, h]
    w, h = np.exp(d[2:]) * [w, h]
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    if (high <= low).any():
        return 0
    shared = np.prod(high - low)
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


def slow_output(
    bottoms: list[Array],
    code: str = "CORNER",
    background: int = 0,
    threshold: float = -1.0,
    nms: float = 0.3,
    top_k: int = P,
    keep: int = 1000,
    eta: float = 1.0,
    encoded: bool = False,
    shared: bool = True,
    clip: bool = False,
) -> Array:
    """SSD's code, a box at a time."""
    offsets = bottoms[0].reshape(N, P, 1 if shared else C, 4)
    scores = bottoms[1].reshape(N, P, C)
    priors, variances = bottoms[2].reshape(2, P, 4)
    variances = np.ones_like(variances) if encoded else variances
    rows = []
    for image in range(N):
        found = []
        for label in range(C):
            if label == background:
                continue
            place = 0 if shared else label
            order = sorted(range(P), key=lambda p: -scores[image, p, label])
            order = [p for p in order if scores[image, p, label] > threshold][:top_k]
            kept: list[tuple[float, Array]] = []
            limit = nms
            for p in order:
                box = decoded(offsets[image, p, place], priors[p], variances[p], code)
                if clip:
                    box = np.clip(box, 0, 1)
                if all(overlap(box, other) <= limit for _, other in kept):
                    kept.append((scores[image, p, label], box))
                    if eta < 1 and limit > 0.5:
                        limit *= eta
            found += [(label, score, box) for score, box in kept]
        best = sorted(found, key=lambda hit: -hit[1])[:keep]
        best.sort(key=lambda hit: hit[0])
        rows += [[image, label, score, *box] for label, score, box in best]
    return np.array(rows)


FORMS = {
    "plain": ("", {}),
    "limits": (
        "confidence_threshold: 0.3 keep_top_k: 7",
        {"threshold": 0.3, "keep": 7},
    ),
    "top_k": ("nms_param { nms_threshold: 0.45 top_k: 5 }", {"nms": 0.45, "top_k": 5}),
    "eta": (
        "nms_param { nms_threshold: 0.9 eta: 0.9 }",
        {"nms": 0.9, "eta": 0.9},
    ),
    "center": ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    "corner size": ("code_type: CORNER_SIZE", {"code": "CORNER_SIZE"}),
    "encoded": (
        "code_type: CENTER_SIZE variance_encoded_in_target: true",
        {"code": "CENTER_SIZE", "encoded": True},
    ),
    "clip": ("code_type: CENTER_SIZE clip: true", {"code": "CENTER_SIZE", "clip": True}),
    "no background": ("background_label_id: -1", {"background": -1}),
    "other background": ("background_label_id: 2", {"background": 2}),
    "a location for each class": ("share_location: false", {"shared": False}),
}


@pytest.mark.parametrize(("fields", "form"), FORMS.values(), ids=FORMS)
def test_detections(make_layer: LayerMaker, fields: str, form: dict[str, object]) -> None:
    bottoms = blobs(form.get("shared") is not False)
    layer = make_layer(output(fields), *(b.shape for b in bottoms))
    want = slow_output(bottoms, **form)  # type: ignore[arg-type]
    assert len(want) > 4
    np.testing.assert_allclose(rows_of(layer, bottoms), want, rtol=1e-9, atol=1e-12)


def rows_of(layer: object, bottoms: list[Array]) -> Array:
    assert isinstance(layer, DetectionOutput)
    top = layer.double()(*(torch.from_numpy(b) for b in bottoms))
    assert top.shape[:2] == (1, 1)
    assert top.shape[3] == 7
    return top[0, 0].numpy()


def test_nothing_found(make_layer: LayerMaker) -> None:
    bottoms = blobs()
    layer = make_layer(output("confidence_threshold: 0.99"), *(b.shape for b in bottoms))
    want = [[0, *[-1] * 6], [1, *[-1] * 6]]
    np.testing.assert_array_equal(rows_of(layer, bottoms), want)


def test_a_batch_of_none(make_layer: LayerMaker) -> None:
    bottoms = blobs()
    bottoms = [bottoms[0][:0], bottoms[1][:0], bottoms[2]]
    layer = make_layer(output(), *(b.shape for b in bottoms))
    assert rows_of(layer, bottoms).shape == (0, 7)


def test_a_score_that_is_nan_is_no_detection(make_layer: LayerMaker) -> None:
    bottoms = blobs()
    bottoms[1][:] = np.nan
    bottoms[1][0, 1] = 0.5
    layer = make_layer(output(), *(b.shape for b in bottoms))
    found = rows_of(layer, bottoms)
    assert found[:, :3].tolist() == [[0, 1, 0.5]]


@pytest.mark.parametrize("both", [False, True])
def test_first_stage_of_refinedet(make_layer: LayerMaker, both: bool) -> None:
    bottoms = blobs()
    rng = np.random.default_rng(9)
    is_object = rng.uniform(size=(N, P, 2))
    moves = rng.normal(0, 0.3, (N, P, 4))
    fields = "code_type: CENTER_SIZE objectness_score: 0.5 confidence_threshold: 0.1"
    first = [is_object.reshape(N, -1), moves.reshape(N, -1)][: 1 + both]
    layer = make_layer(output(fields), *(b.shape for b in bottoms + first))
    have = rows_of(layer, bottoms + first)
    masked = bottoms[1].reshape(N, P, C) * (is_object[..., 1:] >= 0.5)
    boxes, variances = bottoms[2].reshape(2, P, 4)
    want = []
    for image in range(N):
        moved = boxes
        if both:
            pairs = zip(moves[image], boxes, variances, strict=True)
            moved = np.stack([decoded(*triple, "CENTER_SIZE") for triple in pairs])
        priors = np.stack([moved.ravel(), variances.ravel()])[None]
        rows = slow_output(
            [bottoms[0], masked.reshape(N, -1), priors], "CENTER_SIZE", threshold=0.1
        )
        want += [row for row in rows if row[0] == image]
    np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12)


def test_what_is_no_object_is_class_0(make_layer: LayerMaker) -> None:
    """It has the score 1, which only shows if another class is the background."""
    bottoms = blobs()
    is_object = np.full((N, P, 2), 0.5)
    is_object[0, 7, 1] = 0.4
    layer = make_layer(
        output("objectness_score: 0.5 background_label_id: 2 confidence_threshold: 0.99"),
        *(b.shape for b in bottoms),
        (N, 2 * P),
    )
    (row,) = rows_of(layer, [*bottoms, is_object.reshape(N, -1)])
    assert row[:3].tolist() == [0, 0, 1]


S = 4


def with_states(fields: str = "", background: int = 0) -> str:
    return output(
        f"do_state_prediction: true num_states: {S} background_label_id: {background} {fields}"
    )


@pytest.mark.parametrize(
    ("fields", "background", "threshold", "top_k", "keep"),
    [
        ("", 0, -1, 10**6, 10**6),
        ("confidence_threshold: 0.3 keep_top_k: 7", 0, 0.3, 10**6, 7),
        ("nms_param { top_k: 9 }", -1, -1, 9, 10**6),
    ],
)
def test_states(
    make_layer: LayerMaker, fields: str, background: int, threshold: float, top_k: int, keep: int
) -> None:
    """tl_ssd: the best boxes of all classes suppress each other, and rows have states too."""
    bottoms = blobs()
    states = np.random.default_rng(8).normal(size=(N, P, S))
    layer = make_layer(
        with_states(fields, background), *(b.shape for b in bottoms), (N, P * S)
    ).double()
    given = (*bottoms, states.reshape(N, -1))
    have = layer(*map(torch.from_numpy, given))[0, 0].numpy()
    scores = bottoms[1].reshape(N, P, C)
    priors, variances = bottoms[2].reshape(2, P, 4)
    want = []
    for image in range(N):
        hits = [
            (-scores[image, p, label], label, p)
            for label in range(C)
            for p in range(P)
            if label != background and scores[image, p, label] > threshold
        ]
        kept: list[tuple[float, int, int, Array]] = []
        for score, label, p in sorted(hits)[:top_k]:
            offset = bottoms[0].reshape(N, P, 4)[image, p]
            box = decoded(offset, priors[p], variances[p], "CORNER")
            if all(overlap(box, other[3]) <= 0.3 for other in kept):
                kept.append((score, label, p, box))
        kept = sorted(kept[:keep], key=lambda hit: (hit[1], hit[0]))
        want += [[image, k, -score, *states[image, p], *box] for score, k, p, box in kept]
    assert len({row[1] for row in want}) > 1
    np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12)


def test_no_box_with_a_state(make_layer: LayerMaker) -> None:
    bottoms = blobs()
    shapes = [*(b.shape for b in bottoms), (N, P * S)]
    layer = make_layer(with_states("confidence_threshold: 1"), *shapes)
    top = layer(*(torch.from_numpy(b).float() for b in bottoms), torch.zeros(shapes[3]))
    np.testing.assert_array_equal(top[0, 0], [[k, *[-1] * (6 + S)] for k in range(N)])


def test_files_hold_boxes_not_states(make_layer: LayerMaker, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('item { name: "a" label: 1 } item { name: "b" label: 2 }')
    (tmp_path / "sizes").write_text("one 100 80\n")
    save = (
        f'output_directory: "{tmp_path}/out" label_map_file: "{tmp_path}/labels"'
        f' name_size_file: "{tmp_path}/sizes" output_format: "ILSVRC"'
    )
    shapes = (1, 4), (1, 3), (1, 2, 4), (1, S)
    layer = make_layer(with_states(f"save_output_param {{ {save} }}"), *shapes)
    scores = torch.tensor([[0, 0.5, 0.25]])
    priors = torch.tensor([[[0.25, 0.5, 0.5, 0.75], [0.1] * 4]])
    layer(torch.zeros(1, 4), scores, priors, torch.full((1, S), 9.0))
    assert (tmp_path / "out/.txt").read_text() == "one 1 0.5 20 50 40 75\n"


@pytest.mark.parametrize(
    ("fields", "first", "words"),
    [
        ("", [], "needs four bottoms, .*; got 3"),
        ("", [(2, 12), (2, 24)], "needs four bottoms, .*; got 5"),
        ("", [(2, 12)], "6 prior boxes need 4 values each from this bottom"),
        ("share_location: false", [(2, 24)], "needs share_location: true"),
    ],
)
def test_faults_of_states(
    make_layer: LayerMaker, fields: str, first: list[tuple[int, ...]], words: str
) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(with_states(fields), (2, 24), (2, 18), (1, 2, 24), *first)


@pytest.mark.parametrize(
    ("fields", "shapes", "words"),
    [
        ("", ((2, 24), (2, 18), (2, 2, 24)), "prior boxes are a blob of shape 1 2 4P"),
        ("", ((2, 20), (2, 18), (1, 2, 24)), "must match number of location predictions"),
        ("", ((2, 24), (2, 12), (1, 2, 24)), "must match number of confidence predictions"),
        ("", ((3, 24), (2, 18), (1, 2, 24)), "different batches"),
        ("", ((2, 24), (2, 18), (1, 2, 24), (2, 6)), "6 prior boxes need 2 values each"),
        ("nms_param { eta: 0 }", ((2, 24), (2, 18), (1, 2, 24)), "nms_param.eta"),
        ("nms_param { nms_threshold: -1 }", ((2, 24), (2, 18), (1, 2, 24)), "nms_threshold"),
    ],
)
def test_faults(
    make_layer: LayerMaker, fields: str, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(output(fields), *shapes)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_quadrilaterals(make_layer: LayerMaker, shared: bool, encoded: bool) -> None:
    offsets, scores, priors = blobs(shared)
    labels = 1 if shared else C
    moves = np.random.default_rng(4).normal(0, 0.5, (N, P, labels, 8))
    both = np.concatenate([offsets.reshape(N, P, labels, 4), moves], 3).reshape(N, -1)
    options = f"code_type: CENTER_SIZE keep_top_k: 9 share_location: {str(shared).lower()}"
    options += f" variance_encoded_in_target: {str(encoded).lower()}"
    layer = make_layer(
        output(f"{options} use_polygon: true"), both.shape, scores.shape, priors.shape
    ).double()
    plain = make_layer(output(options), offsets.shape, scores.shape, priors.shape)
    (rows,) = layer(*map(torch.from_numpy, (both, scores, priors)))[0].numpy()
    np.testing.assert_allclose(rows[:, :7], rows_of(plain, [offsets, scores, priors]), rtol=1e-12)
    boxes, variances = priors.reshape(2, P, 4)
    for image, label, score, *rest in rows.tolist():
        n, c = int(image), int(label)
        prior = int(np.abs(scores.reshape(N, P, C)[n, :, c] - score).argmin())
        x1, y1, x2, y2 = boxes[prior]
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        scale = np.ones(2) if encoded else variances[prior, :2]
        move = moves[n, prior, 0 if shared else c].reshape(4, 2) * scale * [x2 - x1, y2 - y1]
        np.testing.assert_allclose(rest[4:], (corners + move).ravel(), rtol=1e-9, atol=1e-12)


def test_no_quadrilateral_found(make_layer: LayerMaker) -> None:
    offsets, scores, priors = blobs()
    shapes = ((N, P * 12), scores.shape, priors.shape)
    layer = make_layer(output("use_polygon: true confidence_threshold: 1"), *shapes)
    top = layer(torch.zeros(shapes[0]), *map(torch.from_numpy, (scores, priors)))
    np.testing.assert_array_equal(top[0, 0], [[k, *[-1] * 14] for k in range(N)])
    with pytest.raises(NetError, match="30 prior boxes need 360 values an image"):
        make_layer(output("use_polygon: true"), offsets.shape, *shapes[1:])

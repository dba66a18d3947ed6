from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.detection.match import match_boxes

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.types import Array

N, P, C = 3, 24, 3
TRUTH = np.array(
    [
        [0, 1, 0, 0.1, 0.1, 0.4, 0.45, 0],
        [0, 2, 0, 0.5, 0.4, 0.9, 0.9, 1],
        [2, 1, 0, 0.2, 0.3, 0.7, 0.8, 0],
        [-1, 0, 0, 0, 0, 0, 0, 0],
    ]
).reshape(1, 1, 4, 8)


def multibox(fields: str = "", loss: str = "") -> str:
    return (
        f'type: "MultiBoxLoss" multibox_loss_param {{ num_classes: {C} {fields} }}'
        f" loss_param {{ {loss} }}"
    )


def blobs(places: int = 1, priors: int = P) -> list[Array]:
    rng = np.random.default_rng(4)
    corner = rng.uniform(-0.05, 0.6, (priors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.45, (priors, 2))], 1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (priors, 1))
    return [
        rng.normal(0, 1, (N, priors * places * 4)),
        rng.normal(0, 2, (N, priors * C)),
        np.stack([boxes.ravel(), variances.ravel()])[None],
        TRUTH,
    ]


def encoded(box: Array, prior: Array) -> Array:
    size = prior[2:] - prior[:2]
    center = ((box[:2] + box[2:]) - (prior[:2] + prior[2:])) / 2 / size
    return np.concatenate([center, np.log((box[2:] - box[:2]) / size)]) / [0.1, 0.1, 0.2, 0.2]


def slow_loss(
    bottoms: list[Array],
    mining: str = "MAX_NEGATIVE",
    weight: float = 1,
    ratio: float = 3,
    neg_overlap: float = 0.5,
    sample: int = 64,
    per_prediction: bool = True,
    difficult: bool = True,
    logistic: bool = False,
    square: bool = False,
    divide: float | None = None,
) -> float:
    """SSD's loss of boxes of the code CENTER_SIZE, a box at a time."""
    offsets, scores = bottoms[0].reshape(N, P, 4), bottoms[1].reshape(N, P, C)
    priors = bottoms[2][0, 0].reshape(P, 4)
    rows = bottoms[3].reshape(-1, 8)

    def of_class(image: int, p: int, label: int) -> float:
        s = scores[image, p]
        if logistic:
            return float(sum(np.log1p(np.exp(-s[c] if c == label else s[c])) for c in range(C)))
        return float(np.log(np.exp(s).sum()) - s[label])

    def of_box(image: int, p: int, box: Array) -> float:
        d = offsets[image, p] - encoded(box, priors[p])
        small = 0.5 * d * d
        return float((small if square else np.where(abs(d) < 1, small, abs(d) - 0.5)).sum())

    boxes_loss = classes_loss = 0.0
    matches = 0
    for image in range(N):
        mine = rows[rows[:, 0] == image]
        mine = mine if difficult else mine[mine[:, 7] == 0]
        if not len(mine):
            if mining == "NONE":
                classes_loss += sum(of_class(image, p, 0) for p in range(P))
            continue
        index, shared = match_boxes(
            torch.from_numpy(priors),
            torch.from_numpy(mine[:, 3:7]),
            0.5,
            per_prediction=per_prediction,
        )
        match = {p: g for p, g in enumerate(index.tolist()) if g >= 0}
        labels = {p: int(mine[match[p], 1]) if p in match else 0 for p in range(P)}
        losses = {p: of_class(image, p, labels[p]) for p in range(P)}
        negatives = [p for p in range(P) if p not in match]
        if mining == "MAX_NEGATIVE":
            negatives = [p for p in negatives if shared[p] < neg_overlap]
            negatives = sorted(negatives, key=lambda p: -losses[p])[: int(len(match) * ratio)]
        elif mining == "HARD_EXAMPLE":
            for p, g in match.items():
                losses[p] += of_box(image, p, mine[g, 3:7])
            hard = sorted(range(P), key=lambda p: -losses[p])[:sample]
            negatives = [p for p in hard if p not in match]
            match = {p: g for p, g in match.items() if p in hard}
        matches += len(match)
        for p, g in match.items():
            boxes_loss += of_box(image, p, mine[g, 3:7])
            classes_loss += of_class(image, p, labels[p])
        classes_loss += sum(of_class(image, p, 0) for p in negatives)
    return (weight * boxes_loss + classes_loss) / (divide or max(1, matches))


FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("", "", {}),
    "ratio": ("neg_pos_ratio: 1.5 neg_overlap: 0.3", "", {"ratio": 1.5, "neg_overlap": 0.3}),
    "hard examples": (
        "mining_type: HARD_EXAMPLE sample_size: 5",
        "",
        {"mining": "HARD_EXAMPLE", "sample": 5},
    ),
    "no mining": ("mining_type: NONE", "", {"mining": "NONE"}),
    "older form": ("do_neg_mining: false", "", {"mining": "NONE"}),
    "bipartite": ("match_type: BIPARTITE", "", {"per_prediction": False}),
    "not difficult": ("use_difficult_gt: false", "", {"difficult": False}),
    "logistic": ("conf_loss_type: LOGISTIC", "", {"logistic": True}),
    "L2": ("loc_loss_type: L2 loc_weight: 0.25", "", {"square": True, "weight": 0.25}),
    "by batch": ("", "normalization: BATCH_SIZE", {"divide": N}),
    "by all": ("", "normalization: FULL", {"divide": N * P}),
    "not divided": ("", "normalization: NONE", {"divide": 1}),
}


@pytest.mark.parametrize(("fields", "loss", "form"), FORMS.values(), ids=FORMS)
def test_value(
    make_layer: LayerMaker, run: Runner, fields: str, loss: str, form: dict[str, Any]
) -> None:
    bottoms = blobs()
    if form.get("logistic"):  # then the background may be a class like others
        fields += " background_label_id: 0"
    layer = make_layer(
        multibox(f"code_type: CENTER_SIZE {fields}", loss), *(b.shape for b in bottoms)
    )
    (have,) = run(layer, *bottoms)
    np.testing.assert_allclose(have, slow_loss(bottoms, **form), rtol=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "code_type: CENTER_SIZE",
        "code_type: CORNER_SIZE encode_variance_in_target: true",
        "mining_type: NONE share_location: false",
        "conf_loss_type: LOGISTIC",
        "mining_type: HARD_EXAMPLE sample_size: 10 bp_inside: true",
        "nms_param { nms_threshold: 0.5 top_k: 20 } ignore_cross_boundary_bbox: true",
        "ignore_difficult_gt: true",
    ],
)
def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck, fields: str) -> None:
    bottoms = blobs(C if "share_location: false" in fields else 1, priors=P // 2)
    layer = make_layer(multibox(fields), *(b.shape for b in bottoms))
    check_gradient(layer, *bottoms)
    offsets = torch.from_numpy(bottoms[0]).requires_grad_()
    layer(offsets, *map(torch.from_numpy, bottoms[1:])).backward()
    assert offsets.grad is not None
    assert offsets.grad.any()  # some box is one that an object was matched with


def value(make_layer: LayerMaker, run: Runner, fields: str, bottoms: list[Array]) -> float:
    (loss,) = run(make_layer(multibox(fields), *(b.shape for b in bottoms)), *bottoms)
    return float(loss)


def test_batch_without_true_boxes(make_layer: LayerMaker, run: Runner) -> None:
    bottoms = blobs()
    bottoms[3] = np.full((1, 1, 1, 8), -1.0)
    assert value(make_layer, run, "", bottoms) == 0
    p = bottoms[1].reshape(-1, C)
    want = (np.log(np.exp(p).sum(1)) - p[:, 0]).sum()
    np.testing.assert_allclose(value(make_layer, run, "mining_type: NONE", bottoms), want)


def test_decoded_boxes_may_be_matched(make_layer: LayerMaker, run: Runner) -> None:
    """With offsets of 0 the decoded boxes are the prior boxes."""
    bottoms = blobs()
    bottoms[0][:] = 0
    want = value(make_layer, run, "", bottoms)
    have = value(make_layer, run, "use_prior_for_matching: false", bottoms)
    np.testing.assert_allclose(have, want)


def test_each_class_may_have_its_own_boxes(make_layer: LayerMaker, run: Runner) -> None:
    """A prior box is moved by the offsets of the label that it is matched to."""
    bottoms = blobs()
    want = value(make_layer, run, "mining_type: NONE", bottoms)
    own = np.random.default_rng(5).normal(0, 1, (N, P, C, 4))
    priors, rows = torch.from_numpy(bottoms[2][0, 0].reshape(P, 4)), TRUTH.reshape(-1, 8)
    for image in range(N):
        mine = rows[rows[:, 0] == image]
        index, _ = match_boxes(priors, torch.from_numpy(mine[:, 3:7]), 0.5, per_prediction=True)
        for p, g in enumerate(index.tolist()):
            if g >= 0:
                own[image, p, int(mine[g, 1])] = bottoms[0].reshape(N, P, 4)[image, p]
    bottoms[0] = own.reshape(N, -1)
    have = value(make_layer, run, "mining_type: NONE share_location: false", bottoms)
    np.testing.assert_allclose(have, want)


def test_decoded_boxes_of_each_class_may_be_matched(make_layer: LayerMaker, run: Runner) -> None:
    """With offsets of 0 all classes have the prior boxes."""
    bottoms, own = blobs(), blobs(C)
    bottoms[0][:] = own[0][:] = 0
    truth = TRUTH.copy()
    truth[..., :3, 1] = 2
    bottoms[3], own[1:] = truth, [*bottoms[1:3], truth]
    want = value(make_layer, run, "mining_type: NONE", bottoms)
    fields = "mining_type: NONE use_prior_for_matching: false share_location: false"
    np.testing.assert_allclose(value(make_layer, run, fields, own), want)


def test_all_objects_may_be_one_class(make_layer: LayerMaker, run: Runner) -> None:
    bottoms = blobs()
    bottoms[1] = bottoms[1].reshape(N, P, C)[..., :2].reshape(N, -1)
    text = multibox("num_classes: 2 map_object_to_agnostic: true").replace("num_classes: 3 ", "")
    shapes = [b.shape for b in bottoms]
    one = run(make_layer(text, *shapes), *bottoms)
    bottoms[3] = TRUTH.copy()
    bottoms[3][..., :3, 1] = 1
    again = run(make_layer(text.replace("map_object_to_agnostic: true", ""), *shapes), *bottoms)
    np.testing.assert_allclose(one, again)


def test_the_first_stage_has_values_for_each_prior_box(make_layer: LayerMaker) -> None:
    shapes = [b.shape for b in blobs()]
    for first, each in (([(N, P * 3)], 2), ([(N + 1, P * 2)], 2), ([(N, P * 2), (N, P)], 4)):
        with pytest.raises(NetError, match=f"{P} prior boxes need {each} values each from the f"):
            make_layer(multibox(), *shapes, *first)


def test_first_stage_of_refinedet(make_layer: LayerMaker, run: Runner) -> None:
    """Moves of 0 and sure objects change nothing; what is surely none is not mined."""
    bottoms = blobs()
    want = value(make_layer, run, "", bottoms)
    first = np.zeros((N, P, 2))
    first[..., 1] = 1
    more = [first.reshape(N, -1), np.zeros((N, P * 4))]
    np.testing.assert_allclose(value(make_layer, run, "", bottoms + more), want)
    nothing = [np.zeros((N, P * 2)), more[1]]
    few = value(make_layer, run, "", bottoms + nothing)
    np.testing.assert_allclose(few, value(make_layer, run, "neg_pos_ratio: 0", bottoms))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("share_location: false", "share_location: true"),
        ("background_label_id: 3", "background_label_id"),
        ("map_object_to_agnostic: true", "num_classes: 2"),
        ("do_neg_mining: true mining_type: NONE", "do_neg_mining"),
    ],
)
def test_options_that_do_not_fit(make_layer: LayerMaker, fields: str, words: str) -> None:
    shapes = [b.shape for b in blobs(C if "share" in fields else 1)]
    with pytest.raises(NetError, match=words):
        make_layer(multibox(fields), *shapes)


def test_a_true_box_without_area_matches_nothing(make_layer: LayerMaker, run: Runner) -> None:
    bottoms = blobs()
    bottoms[3] = TRUTH.copy()
    bottoms[3][0, 0, 0, 5] = 0.1
    have = value(make_layer, run, "", bottoms)
    bottoms[3] = TRUTH[:, :, 1:]
    np.testing.assert_allclose(have, value(make_layer, run, "", bottoms))

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
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
    moved: Array | None = None,
) -> float:
    """SSD's loss of boxes of the code CENTER_SIZE, a box at a time; RefineDet's if the first stage
    has moved the prior boxes of each image."""
    offsets, scores = bottoms[0].reshape(N, P, 4), bottoms[1].reshape(N, P, C)
    priors = np.tile(bottoms[2][0, 0].reshape(P, 4), (N, 1, 1))
    moved = priors if moved is None else moved
    rows = bottoms[3].reshape(-1, 8)
    nothing = C if logistic and mining == "NONE" else 0

    def of_class(image: int, p: int, label: int) -> float:
        s = scores[image, p]
        if logistic:
            return float(sum(np.log1p(np.exp(-s[c] if c == label else s[c])) for c in range(C)))
        return float(np.log(np.exp(s).sum()) - s[label])

    def of_box(image: int, p: int, box: Array, priors: Array) -> float:
        d = offsets[image, p] - encoded(box, priors[image, p])
        small = 0.5 * d * d
        return float((small if square else np.where(abs(d) < 1, small, abs(d) - 0.5)).sum())

    boxes_loss = classes_loss = 0.0
    matches = 0
    for image in range(N):
        mine = rows[rows[:, 0] == image]
        mine = mine if difficult else mine[mine[:, 7] == 0]
        if not len(mine):
            if mining == "NONE":
                classes_loss += sum(of_class(image, p, nothing) for p in range(P))
            continue
        index, shared = match_boxes(
            torch.from_numpy(moved[image]),
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
                losses[p] += of_box(image, p, mine[g, 3:7], priors)
            hard = sorted(range(P), key=lambda p: -losses[p])[:sample]
            negatives = [p for p in hard if p not in match]
            match = {p: g for p, g in match.items() if p in hard}
        matches += len(match)
        for p, g in match.items():
            boxes_loss += of_box(image, p, mine[g, 3:7], moved)
            classes_loss += of_class(image, p, labels[p])
        classes_loss += sum(of_class(image, p, nothing) for p in negatives)
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
    "logistic, no mining": (
        "conf_loss_type: LOGISTIC mining_type: NONE",
        "",
        {"logistic": True, "mining": "NONE"},
    ),
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
        "code_type: CORNER_SIZE",
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


def test_variances_in_the_target_are_left_out_of_the_gradient(make_layer: LayerMaker) -> None:
    """As in SSD. With L2 the gradient would else be divided by the variances twice."""
    bottoms = blobs()
    layer = make_layer(
        multibox("encode_variance_in_target: true loc_loss_type: L2"), *(b.shape for b in bottoms)
    )
    offsets = torch.from_numpy(bottoms[0]).requires_grad_()
    layer(offsets, *map(torch.from_numpy, bottoms[1:])).backward()
    assert offsets.grad is not None
    image, box = 2, TRUTH[0, 0, 2, 3:7]
    priors, variances = bottoms[2][0].reshape(2, P, 4)
    index, _ = match_boxes(torch.from_numpy(priors), torch.from_numpy(box[None]), 0.5)
    rows = np.flatnonzero(index.numpy() == 0)
    mine = bottoms[0].reshape(N, P, 4)[image, rows]
    scaled = (mine - (box - priors[rows])) / variances[rows]
    have = offsets.grad.numpy().reshape(N, P, 4)
    matches = int(have.any(2).sum())
    np.testing.assert_allclose(have[image, rows], scaled / matches)


def test_number_of_negatives_is_counted_in_single_precision(make_layer: LayerMaker) -> None:
    """5 * 1.8 is 9 in single precision; 1.8, rounded to it, is less in double precision."""
    bottoms = blobs()
    priors = bottoms[2][0, 0].reshape(P, 4)
    bottoms[3] = np.zeros((1, 1, 5, 8))
    bottoms[3][0, 0, :, 1], bottoms[3][0, 0, :, 3:7] = 1, priors[:5]
    fields = "match_type: BIPARTITE neg_pos_ratio: 1.8 neg_overlap: 1"
    layer = make_layer(multibox(fields), *(b.shape for b in bottoms))
    scores = torch.from_numpy(bottoms[1]).requires_grad_()
    layer(torch.from_numpy(bottoms[0]), scores, *map(torch.from_numpy, bottoms[2:])).backward()
    assert scores.grad is not None
    assert int(scores.grad.reshape(-1, C).any(1).sum()) == 5 + 9


def test_a_prior_box_may_be_of_several_classes(make_layer: LayerMaker, run: Runner) -> None:
    """Where classes have boxes of their own and a prior box matches one of each."""
    bottoms = blobs(C)
    bottoms[0][:] = 0
    bottoms[3] = TRUTH[:, :, :1].repeat(2, 2)
    bottoms[3][0, 0, :, 1] = 1, 2
    fields = "use_prior_for_matching: false share_location: false mining_type: NONE loc_weight: 0"
    have = value(make_layer, run, f"{fields} conf_loss_type: LOGISTIC", bottoms)
    priors = torch.from_numpy(bottoms[2][0, 0].reshape(P, 4))
    index, _ = match_boxes(priors, torch.from_numpy(TRUTH[0, 0, :1, 3:7]), 0.5)
    scores = bottoms[1].reshape(N, P, C)
    wanted = np.zeros_like(scores)
    wanted[0, index.numpy() == 0, 1:] = 1
    losses = np.log1p(np.exp(np.where(wanted, -scores, scores)))
    np.testing.assert_allclose(have, losses.sum() / wanted.sum())


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
        with pytest.raises(NetError, match=f"{P} prior boxes need {each} values each from this"):
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


def test_refinedet_mines_by_the_prior_boxes_before_they_are_moved(
    make_layer: LayerMaker, run: Runner
) -> None:
    bottoms = blobs()
    moves = np.random.default_rng(9).normal(0, 1, (N, P, 4))
    priors = bottoms[2][0, 0].reshape(P, 4)
    size = priors[:, 2:] - priors[:, :2]
    center = (priors[:, :2] + priors[:, 2:]) / 2 + 0.1 * moves[..., :2] * size
    half = np.exp(0.2 * moves[..., 2:]) * size / 2
    moved = np.concatenate([center - half, center + half], 2)
    more = [np.ones((N, P * 2)), moves.reshape(N, -1)]
    fields = "code_type: CENTER_SIZE mining_type: HARD_EXAMPLE sample_size: 6"
    want = slow_loss(bottoms, "HARD_EXAMPLE", sample=6, moved=moved)
    np.testing.assert_allclose(value(make_layer, run, fields, bottoms + more), want)


def test_suppression_without_top_k_mines_nothing(make_layer: LayerMaker, run: Runner) -> None:
    """An unset top_k is 0 for SSD's loss."""
    bottoms = blobs()
    want = value(make_layer, run, "neg_pos_ratio: 0", bottoms)
    have = value(make_layer, run, "nms_param { nms_threshold: 0.6 }", bottoms)
    np.testing.assert_allclose(have, want)
    every = value(make_layer, run, "nms_param { nms_threshold: 0.6 top_k: -1 }", bottoms)
    assert every > have


def test_difficult_boxes_may_be_ignored(make_layer: LayerMaker, run: Runner) -> None:
    """NVCaffe: a prior box that overlaps a difficult box is neither object nor background."""
    bottoms = blobs()
    priors, rows = bottoms[2][0, 0].reshape(P, 4), TRUTH.reshape(-1, 8)
    truth = torch.from_numpy(rows[:2, 3:7])
    index, _ = match_boxes(torch.from_numpy(priors), truth, 0.5, hard=torch.tensor([False, True]))
    assert (index == -2).sum() > 5
    scores = bottoms[1].reshape(N, P, C)
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    want = 0.0
    last, _ = match_boxes(torch.from_numpy(priors), torch.from_numpy(rows[2:3, 3:7]), 0.5)
    for image, found in ((0, index), (1, torch.full_like(index, -1)), (2, last)):
        for k in range(P):
            g = int(found[k])
            if g >= 0:
                label = int(rows[g if image == 0 else 2, 1])
                want -= np.log(p[image, k, label])
            else:  # without mining an ignored one counts as background
                want -= np.log(p[image, k, 0])
    fields = "ignore_difficult_gt: true mining_type: NONE loc_weight: 0"
    have = value(make_layer, run, fields, bottoms)
    matches = int((index >= 0).sum() + (last >= 0).sum())
    np.testing.assert_allclose(have, want / matches)


def with_states(seed: int = 3, states: int = 4) -> list[Array]:
    """Bottoms of two classes, with labels such as 12031, whose fifth digit is the state."""
    bottoms = blobs()
    bottoms[1] = bottoms[1].reshape(N, P, C)[..., :2].reshape(N, -1)
    bottoms[3] = TRUTH.copy()
    bottoms[3][0, 0, :3, 1] = [12031, 905527, 10001]  # states 1, 2, 1
    return [*bottoms, np.random.default_rng(seed).normal(0, 1, (N, P * states))]


@pytest.mark.parametrize("kind", ["SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("mining", ["NONE", "MAX_NEGATIVE"])
def test_states(make_layer: LayerMaker, run: Runner, kind: str, mining: str) -> None:
    bottoms = with_states()
    common = f"num_classes: 2 mining_type: {mining} loc_weight: 0 background_state_id: 3"
    fields = f"{common} do_state_prediction: true num_states: 4 state_loss_type: {kind}"
    text = multibox(f"{fields} state_weight: 0.5").replace(f"num_classes: {C} ", "", 1)
    (have,) = run(make_layer(text, *(b.shape for b in bottoms)), *bottoms)

    scores, values = bottoms[1].reshape(N, P, 2), bottoms[4].reshape(N, P, 4)
    priors, rows = bottoms[2][0, 0].reshape(P, 4), TRUTH.reshape(-1, 8)
    states = {0: [1, 2], 2: [1]}
    of_classes = of_states = 0.0
    matches = 0
    for image in range(N):
        match = np.full(P, -1)
        shared = np.zeros(P)
        if image in states:
            mine = torch.from_numpy(rows[rows[:, 0] == image, 3:7])
            match, shared = (t.numpy() for t in match_boxes(torch.from_numpy(priors), mine, 0.5))
        own = scores[image]
        lost = np.log(np.exp(own).sum(1)) - own[np.arange(P), (match >= 0).astype(int)]
        rest = np.flatnonzero(match < 0)
        if mining == "MAX_NEGATIVE":
            rest = rest[shared[rest] < 0.5]
            rest = rest[np.argsort(-lost[rest], kind="stable")][: 3 * int((match >= 0).sum())]
        for k in [*np.flatnonzero(match >= 0), *rest]:
            of_classes += lost[k]
            s = values[image, k]
            state = states[image][match[k]] if match[k] >= 0 else 3
            if kind == "SOFTMAX":
                of_states += np.log(np.exp(s).sum()) - s[state]
                continue
            if match[k] < 0 and mining == "NONE":
                state = 4  # nothing is wanted
            of_states += np.log1p(np.exp(np.where(np.arange(4) == state, -s, s))).sum()
        matches += int((match >= 0).sum())
    np.testing.assert_allclose(have, (of_classes + 0.5 * of_states) / matches)


def test_gradient_of_states(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    bottoms = with_states()
    fields = "do_state_prediction: true num_states: 4 num_classes: 2"
    text = multibox(fields).replace(f"num_classes: {C} ", "", 1)
    check_gradient(make_layer(text, *(b.shape for b in bottoms)), *bottoms)
    weighted = make_layer(text.replace("do_s", "state_weight: 7 do_s"), *(b.shape for b in bottoms))
    plain = make_layer(text, *(b.shape for b in bottoms))
    found = []
    for layer in (plain, weighted):
        states = torch.from_numpy(bottoms[4]).requires_grad_()
        layer(*map(torch.from_numpy, bottoms[:4]), states).backward()
        assert states.grad is not None
        found.append(states.grad)
    assert torch.equal(*found)  # as in the fork


@pytest.mark.parametrize(
    ("label", "words"),
    [(2031, "fifth digit is its state; a true box has label 2031"), (10009, "state 9, which")],
)
def test_labels_without_a_state(
    make_layer: LayerMaker, run: Runner, label: int, words: str
) -> None:
    bottoms = with_states()
    bottoms[3][0, 0, 1, 1] = label
    text = multibox("do_state_prediction: true num_states: 4")
    text = text.replace(f"num_classes: {C}", "num_classes: 2")
    with pytest.raises(DataError, match=words):
        run(make_layer(text, *(b.shape for b in bottoms)), *bottoms)


@pytest.mark.parametrize(
    ("fields", "count", "words"),
    [
        ("num_states: 4", 4, "needs five bottoms, the last with num_states scores"),
        ("", 5, "needs num_states"),
        ("num_states: 3", 5, "24 prior boxes need 3 values each"),
        ("num_states: 4 state_loss_type: SOFTMAX background_state_id: 4", 5, "background_state_id"),
    ],
)
def test_what_states_need(make_layer: LayerMaker, fields: str, count: int, words: str) -> None:
    shapes = [b.shape for b in (*blobs(), with_states()[4])][:count]
    with pytest.raises(NetError, match=words):
        make_layer(multibox(f"do_state_prediction: true {fields}"), *shapes)


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

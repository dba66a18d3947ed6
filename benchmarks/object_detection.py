"""Detection: what SSD's last step costs beside its net, and the parts of R-CNN beside plain loops.

    python benchmarks/object_detection.py [--rounds N] [--threads N]

Post-processing: DetectionOutput on scores as a trained net makes them (a few objects, whose prior
boxes have high scores for one class; the rest is background), beside the net up to there with
weights by chance. Regions: pooling of 300 of them from 512 (or 7 x 7 x 21) channels of 38 x 50,
beside a loop over regions and bins. Contenders take turns in one process; medians are compared.
With one thread they are of processor time, so that other programs on the machine hardly count; with
more threads they are of time that passes, which only a quiet machine tells.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, floor
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor

import caffe
import moka
from moka.layers import REGISTRY, Layer
from moka.schema import caffe_pb2, parse_text

CLASSES = 21
Head = tuple[str, float, float, tuple[float, ...]]  # blob, min_size, max_size, aspect ratios

VGG_HEADS: tuple[Head, ...] = (
    ("conv4_3", 30, 60, (2,)),
    ("fc7", 60, 111, (2, 3)),
    ("conv6_2", 111, 162, (2, 3)),
    ("conv7_2", 162, 213, (2, 3)),
    ("conv8_2", 213, 264, (2,)),
    ("conv9_2", 264, 315, (2,)),
)
MOBILENET_HEADS: tuple[Head, ...] = (
    ("conv11", 60, 0, (2,)),
    ("conv13", 105, 150, (2, 3)),
    ("conv14_2", 150, 195, (2, 3)),
    ("conv15_2", 195, 240, (2, 3)),
    ("conv16_2", 240, 285, (2, 3)),
    ("conv17_2", 285, 300, (2, 3)),
)


class Text:
    """Builds a net layer by layer; `last` is the newest blob."""

    def __init__(self) -> None:
        self.last = "data"
        self.parts = [
            'layer { name: "data" type: "Input" top: "data"'
            " input_param { shape { dim: 1 dim: 3 dim: 300 dim: 300 } } }"
        ]

    def add(self, name: str, kind: str, fields: str = "", bottoms: tuple[str, ...] = ()) -> None:
        given = " ".join(f'bottom: "{b}"' for b in bottoms or (self.last,))
        self.parts.append(
            f'layer {{ name: "{name}" type: "{kind}" {given} top: "{name}" {fields} }}'
        )
        self.last = name

    def conv(self, name: str, channels: int, kernel: int, fields: str = "", group: int = 1) -> None:
        """A convolution and its ReLU."""
        pad = "" if "pad" in fields else f"pad: {kernel // 2}"
        self.add(
            name,
            "Convolution",
            f"convolution_param {{ num_output: {channels} kernel_size: {kernel} {pad} {fields}"
            f' group: {group} weight_filler {{ type: "xavier" }} }}',
        )
        self.parts.append(
            f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'
        )

    def pool(self, name: str, kernel: int, stride: int, pad: int = 0) -> None:
        self.add(
            name,
            "Pooling",
            f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}",
        )

    def heads(self, heads: tuple[Head, ...]) -> None:
        """Offsets, scores and prior boxes of some blobs, and the softmax."""
        ends: dict[str, list[str]] = {"loc": [], "conf": [], "prior": []}
        for blob, low, high, ratios in heads:
            boxes = 1 + (high > 0) + 2 * len(ratios)
            for kind, count in (("loc", 4), ("conf", CLASSES)):
                name = f"{blob}_{kind}"
                self.last = blob
                self.add(
                    name,
                    "Convolution",
                    f"convolution_param {{ num_output: {count * boxes} kernel_size: 3 pad: 1"
                    ' weight_filler { type: "xavier" } }',
                )
                self.add(f"{name}_perm", "Permute", "permute_param { order: [0, 2, 3, 1] }")
                self.add(f"{name}_flat", "Flatten")
                ends[kind].append(self.last)
            most = f"max_size: {high}" if high else ""
            listed = " ".join(f"aspect_ratio: {ratio}" for ratio in ratios)
            self.add(
                f"{blob}_prior",
                "PriorBox",
                f"prior_box_param {{ min_size: {low} {most} {listed} }}",
                (blob, "data"),
            )
            ends["prior"].append(self.last)
        self.add("loc", "Concat", "concat_param { axis: 1 }", tuple(ends["loc"]))
        self.add("prior", "Concat", "concat_param { axis: 2 }", tuple(ends["prior"]))
        self.add("conf", "Concat", "concat_param { axis: 1 }", tuple(ends["conf"]))
        self.add("by_box", "Reshape", f"reshape_param {{ shape {{ dim: [0, -1, {CLASSES}] }} }}")
        self.add("softmax", "Softmax", "softmax_param { axis: 2 }")
        self.add("scores", "Flatten")


def ssd_vgg() -> str:
    """SSD 300 on VGG 16: 8,732 prior boxes."""
    net = Text()
    for stage, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for k in range(1, count + 1):
            net.conv(f"conv{stage}_{k}", channels, 3)
        net.pool(f"pool{stage}", *((2, 2) if stage < 5 else (3, 1, 1)))
    net.conv("fc6", 1024, 3, "pad: 6 dilation: 6")
    net.conv("fc7", 1024, 1)
    for stage, channels, fields in (
        (6, 512, "pad: 1 stride: 2"),
        (7, 256, "pad: 1 stride: 2"),
        (8, 256, "pad: 0"),
        (9, 256, "pad: 0"),
    ):
        net.conv(f"conv{stage}_1", channels // 2, 1)
        net.conv(f"conv{stage}_2", channels, 3, fields)
    net.heads(VGG_HEADS)
    return "\n".join(net.parts)


def ssd_mobilenet() -> str:
    """MobileNet-SSD: 1,917 prior boxes."""
    net = Text()
    net.conv("conv0", 32, 3, "stride: 2")
    channels = 32
    plan = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for k, wide in enumerate(plan, 1):
        stride = 2 if k in (2, 4, 6, 12) else 1
        net.conv(f"conv{k}_dw", channels, 3, f"stride: {stride}", group=channels)
        net.conv(f"conv{k}", wide, 1)
        channels = wide
    for stage, wide in ((14, 512), (15, 256), (16, 256), (17, 128)):
        net.conv(f"conv{stage}_1", wide // 2, 1)
        net.conv(f"conv{stage}_2", wide, 3, "stride: 2")
    net.heads(MOBILENET_HEADS)
    return "\n".join(net.parts)


def make(text: str, *bottoms: Tensor) -> Layer:
    """One layer for bottoms of these shapes."""
    config = parse_text(text, caffe_pb2.LayerParameter)
    config.phase = caffe_pb2.TEST
    if not config.top:
        config.top.append("top")
    return REGISTRY[config.type].make(config, *(tuple(b.shape) for b in bottoms))


def likely_scores(priors: Tensor, objects: int = 12) -> Tensor:
    """Scores (1, P C): prior boxes near one of some objects belong to its class, more or less."""
    generator = torch.Generator().manual_seed(0)
    boxes = priors.view(2, -1, 4)[0]
    logits = torch.randn(len(boxes), CLASSES, generator=generator)
    logits[:, 0] += 8
    for index in torch.randint(len(boxes), (objects,), generator=generator).tolist():
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        near = (center - center[index]).norm(dim=1)
        label = 1 + index % (CLASSES - 1)
        logits[:, label] += 11 * torch.exp(-((near / 0.08) ** 2))
    return logits.softmax(1).view(1, -1)


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each: of processor time, or of time that passes with more threads."""
    now = process_time if torch.get_num_threads() == 1 else perf_counter
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for k in range(rounds + 2):
        for name, run in contenders.items():
            start = now()
            run()
            if k > 1:  # the first two warm up
                times[name].append((now() - start) * 1e3)
    return {name: median(each) for name, each in times.items()}


def post_processing(title: str, text: str, rounds: int) -> None:
    """The net up to its scores beside DetectionOutput at two thresholds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(text)
        net = caffe.Net(str(path), caffe.TEST)
    net.forward()
    priors = torch.tensor(net.blobs["prior"].data)
    offsets = 0.3 * torch.randn(1, priors.shape[2], generator=torch.Generator().manual_seed(1))
    scores = likely_scores(priors)
    contenders: dict[str, Callable[[], object]] = {"net": net.forward}
    for threshold in (0.25, 0.01):
        fields = (
            f"num_classes: {CLASSES} code_type: CENTER_SIZE keep_top_k: 200"
            f" confidence_threshold: {threshold} nms_param {{ nms_threshold: 0.45 top_k: 400 }}"
        )
        layer = make(
            f'type: "DetectionOutput" detection_output_param {{ {fields} }}',
            offsets,
            scores,
            priors,
        )
        contenders[f"above {threshold}"] = partial(layer, offsets, scores, priors)
    found = in_turns(contenders, rounds)
    print(f"{title}, {priors.shape[2] // 4} prior boxes: net {found['net']:.0f} ms")
    for name, ms in found.items():
        if name != "net":
            share = 100 * ms / found["net"]
            print(f"  DetectionOutput, scores {name}: {ms:.1f} ms, {share:.1f} % of the net")


def bins(low: float, high: float, count: int, size: int) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each bin between two places of a map."""
    step = (high - low) / count
    edges = [(floor(low + k * step), ceil(low + (k + 1) * step)) for k in range(count)]
    return [(min(max(a, 0), size), min(max(b, 0), size)) for a, b in edges]


def loop_of_roi_pooling(x: Tensor, rois: Tensor, pooled: int, scale: float) -> Tensor:
    """The largest value of each bin, one bin after another."""
    top = x.new_zeros(len(rois), x.shape[1], pooled, pooled)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (round(v * scale) for v in corners)
        rows = bins(y1, max(y2, y1) + 1, pooled, x.shape[2])
        columns = bins(x1, max(x2, x1) + 1, pooled, x.shape[3])
        for i, (top_row, end_row) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if end_row > top_row and right > left:
                    top[k, :, i, j] = x[int(image), :, top_row:end_row, left:right].amax((1, 2))
    return top


def loop_of_psroi_pooling(x: Tensor, rois: Tensor, group: int, scale: float) -> Tensor:
    """The mean of each bin in its own channel of each output, one bin after another."""
    outputs = x.shape[1] // group**2
    maps = x.view(len(x), outputs, group, group, *x.shape[2:])
    top = x.new_zeros(len(rois), outputs, group, group)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1 = (round(v) * scale for v in corners[:2])
        x2, y2 = ((round(v) + 1) * scale for v in corners[2:])
        rows = bins(y1, max(y2, y1 + 0.1), group, x.shape[2])
        columns = bins(x1, max(x2, x1 + 0.1), group, x.shape[3])
        for i, (top_row, end_row) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if end_row > top_row and right > left:
                    mine = maps[int(image), :, i, j, top_row:end_row, left:right]
                    top[k, :, i, j] = mine.mean((1, 2))
    return top


def regions(rounds: int) -> None:
    """Pooling of 300 regions beside loops; proposals; prior boxes the first time and later."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * torch.tensor([600.0, 400])
    size = 30 + torch.rand(300, 2, generator=generator) * torch.tensor([350.0, 300])
    limit = torch.tensor([799.0, 607])
    rois = torch.cat([torch.zeros(300, 1), corner, (corner + size).minimum(limit)], 1)
    x = torch.randn(1, 512, 38, 50, generator=generator)
    maps = torch.randn(1, 49 * CLASSES, 38, 50, generator=generator)
    pooling = make(
        'type: "ROIPooling" roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625 }',
        x,
        rois,
    )
    sensitive = make(
        'type: "PSROIPooling" psroi_pooling_param'
        f" {{ spatial_scale: 0.0625 output_dim: {CLASSES} group_size: 7 }}",
        maps,
        rois,
    )
    with torch.no_grad():
        for name, layer, given, loop in (
            ("ROIPooling", pooling, x, loop_of_roi_pooling),
            ("PSROIPooling", sensitive, maps, loop_of_psroi_pooling),
        ):
            torch.testing.assert_close(layer(given, rois), loop(given, rois, 7, 1 / 16))
            found = in_turns(
                {
                    "layer": partial(layer, given, rois),
                    "loop": partial(loop, given, rois, 7, 1 / 16),
                },
                rounds,
            )
            print(
                f"{name}, 300 regions: {found['layer']:.1f} ms,"
                f" 1/{found['loop'] / found['layer']:.0f} of a loop over bins"
            )
        bottoms = (
            torch.rand(1, 18, 38, 50, generator=generator),
            0.3 * torch.randn(1, 36, 38, 50, generator=generator),
            torch.tensor([[608.0, 800, 1]]),
        )
        proposal = make('type: "Proposal"', *bottoms)
        found = in_turns({"proposal": lambda: proposal(*bottoms)}, rounds)
        print(f"Proposal, 6,000 of 17,100 anchors to 300 regions: {found['proposal']:.1f} ms")
        blobs = torch.zeros(1, 512, 38, 38), torch.zeros(1, 3, 300, 300)
        text = 'type: "PriorBox" prior_box_param { min_size: 30 max_size: 60 aspect_ratio: 2 }'
        prior = make(text, *blobs)
        found = in_turns(
            {
                "first": lambda: make(text, *blobs)(*blobs),
                "later": lambda: prior(*blobs),
            },
            rounds,
        )
        print(f"PriorBox of 38 x 38 cells: first {found['first']:.2f} ms, then"
              f" {found['later']:.2f} ms")  # fmt: skip


def main() -> None:
    """Print all ratios."""
    parser = argparse.ArgumentParser(description="Ratios of detection's parts.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    moka.keep_freed_memory()
    torch.set_num_threads(args.threads)
    caffe.init_log(1)
    post_processing("SSD 300, VGG 16", ssd_vgg(), args.rounds)
    post_processing("MobileNet-SSD 300", ssd_mobilenet(), args.rounds)
    regions(args.rounds)


if __name__ == "__main__":
    main()

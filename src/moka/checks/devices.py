"""Devices that are not here: their peak figures, and what an iteration of a net takes on them.

Peaks are those of NVIDIA's data sheets (V100 SXM2, A100 SXM4 80 GB, H100 and H200 SXM): products
of float32 matrices as cuDNN makes them by default (TF32 from the A100 on), of bfloat16 (float16 on
the V100), without sparsity; the memory's bandwidth; NVLink in one direction. SHARE_OF_PEAK says how
much of them is taken as reached; these shares are assumed, not measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from moka.checks.scaling import Bucket, Step
from moka.net import Net
from moka.net.memory import FLOAT_BYTES
from moka.parallel.reduce import buckets

SHARE_OF_PEAK = {"products": 0.5, "memory": 0.8, "link": 0.8}
LAUNCH_S = 5e-6  # of a kernel
UPDATE_PASSES = 5  # over the parameters: read w, g, h; write w, h


@dataclass(frozen=True)
class Device:
    """Peak figures of a GPU: operations, bytes, and bytes a second."""

    float32_s: float
    bfloat16_s: float
    memory: float
    memory_s: float
    link_s: float

    def seconds(self, multiply_adds: float, size: float, *, bfloat16: bool) -> float:
        """Of a kernel that multiplies, and reads and writes so many bytes: the slower counts."""
        peak = self.bfloat16_s if bfloat16 else self.float32_s
        products = 2 * multiply_adds / (SHARE_OF_PEAK["products"] * peak)
        return LAUNCH_S + max(products, size / (SHARE_OF_PEAK["memory"] * self.memory_s))


DEVICES = {
    "v100": Device(15.7e12, 125e12, 32e9, 0.9e12, 150e9),
    "a100": Device(156e12, 312e12, 80e9, 2.04e12, 300e9),
    "h100": Device(495e12, 989e12, 80e9, 3.35e12, 450e9),
    "h200": Device(495e12, 989e12, 141e9, 4.8e12, 450e9),
}


def timed_buckets(net: Net, left_s: Mapping[int, float]) -> tuple[Bucket, ...]:
    """The buckets of a net, given how long the backward pass goes on after each parameter's
    gradient, by the parameter's id; one without a gradient is not waited for."""
    return tuple(
        Bucket(
            size=sum(p.numel() * p.element_size() for p in bucket),
            left_s=min((left_s[id(p)] for p in bucket if id(p) in left_s), default=0.0),
        )
        for bucket in buckets(net)
    )


def estimated_step(net: Net, device: Device, *, bfloat16: bool, share: float = 1.0) -> Step:
    """An iteration of a net on a device: each layer forward, and backward with twice the work.

    Args:
        share: of the batch.
    """
    whole_s, left_s = 0.0, 0.0
    left: dict[int, float] = {}
    for place in net.places:
        bottoms = [tuple(net.blobs[name].shape) for name in place.node.bottoms]
        tops = [tuple(net.blobs[name].shape) for name in place.node.tops]
        if not bottoms:
            continue
        work = place.layer.multiply_adds(bottoms, tops) * share
        size = FLOAT_BYTES * sum(map(prod, bottoms + tops)) * share
        size += FLOAT_BYTES * sum(w.numel() for w in place.layer.weights_unseen())
        whole_s += device.seconds(work, size, bfloat16=bfloat16)
        for weight in place.layer.weights_unseen():  # the first layer's come last
            left.setdefault(id(weight), left_s)
        if place.marks.layer:
            left_s += device.seconds(2 * work, 2 * size, bfloat16=bfloat16)
    update_s = UPDATE_PASSES * net.memory.parameters / (SHARE_OF_PEAK["memory"] * device.memory_s)
    return Step(whole_s + left_s + update_s, timed_buckets(net, left))

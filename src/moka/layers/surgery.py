"""Layers whose weights are cut out and put back while they learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from moka.layers.base import BlobSpec, Layer
from moka.layers.binary import refuse_options_of_others
from moka.layers.conv import Convolution, convolution_layer
from moka.layers.gradient import with_gradient_of
from moka.layers.linear import InnerProduct
from moka.layers.options import option
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Array, Shape

CUT, GROWN = 0.9, 1.1  # times the threshold: where weights are cut out, and put back
MASKS = {"weight_mask": "weight_mask_filler", "bias_mask": "bias_mask_filler"}


def _masks(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    """The indices of the masks: they lie behind weight and bias."""
    is_product = config.type == "CInnerProduct"
    param = config.inner_product_param if is_product else config.convolution_param
    return (2, 3) if param.bias_term else (1,)


class Surgery(Layer):
    """Mixin for layers whose weight and bias are multiplied by masks.

    Attributes:
        passes: how many passes in training there have been.
        threshold: of the absolute values of weights; it is found in the first pass.
    """

    passes = 0
    threshold = 0.0

    gamma: float
    power: float
    iter_stop: float
    c_rate: float

    def with_masks(self, specs: Iterable[BlobSpec]) -> Iterable[BlobSpec]:
        """Weight and bias, and a mask for each."""
        learned = list(specs)
        yield from learned
        for spec, (name, filler) in zip(learned, MASKS.items(), strict=False):
            yield BlobSpec(spec.shape, getattr(self, filler), name)

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """The masks of their fillers, for a model without masks."""
        weights, learned = self.weights_unseen(), len(self.state_blobs)
        if set(stored) != set(range(learned)):
            return stored
        masks = {k: weights[k].detach().cpu().numpy() for k in self.state_blobs}
        return {**stored, **masks}

    def multiplied(self, *given: Tensor) -> list[Tensor]:
        """Weight and bias times their masks; the gradient passes these by."""
        blobs = self.blobs
        learned = blobs[: len(self.state_blobs)]
        masks = blobs[len(self.state_blobs) :]
        return [
            with_gradient_of((blob * mask).detach(), blob)
            for blob, mask in zip(learned, masks, strict=True)
        ]

    @property
    def is_pure(self) -> bool:
        return not self.training

    def forward(self, *bottoms: Any) -> Any:
        if self.training:
            self._operate()
        return super().forward(*bottoms)

    def again(self, *bottoms: Any) -> Any:
        return super().forward(*bottoms)

    def _operate(self) -> None:
        """Cut out small weights and put large ones back, by chance."""
        with torch.no_grad():
            if self.passes == 0:
                self.threshold = self._found_threshold()
            chance = (1 + self.gamma * self.passes) ** -self.power
            if self.passes < self.iter_stop and float(torch.rand(())) < chance:
                self._change_masks()
        self.passes += 1

    def _found_threshold(self) -> float:
        """c_rate deviations above the mean of the absolute values that are not 0."""
        values = torch.cat([blob.detach().flatten() for blob in self.multiplied()]).double().abs()
        count = int(values.count_nonzero())
        if not count:
            return 0.0
        mean = float(values.sum()) / count
        variance = max(float(values.square().sum()) / count - mean**2, 0.0)
        return max(mean + self.c_rate * variance**0.5, 0.0)

    def _change_masks(self) -> None:
        blobs, learned = self.blobs, len(self.state_blobs)
        for blob, mask in zip(blobs[:learned], blobs[learned:], strict=True):
            size = blob.detach().abs()
            cut = (mask == 1) & (size <= CUT * self.threshold)
            grown = (mask == 0) & (size > GROWN * self.threshold)
            mask.copy_(mask.masked_fill(cut, 0).masked_fill(grown, 1))

    def run_state(self) -> list[Tensor]:
        return [torch.tensor([self.passes, self.threshold])]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.passes, self.threshold = int(tensors[0][0]), float(tensors[0][1])


@convolution_layer(
    "CConvolution",
    bfloat16="float32",
    state_blobs=_masks,
    fork="Dynamic Network Surgery",
)
class CConvolution(Surgery, Convolution):
    """A Convolution whose weights and biases are multiplied by masks of 0 and 1, which change while
    it learns.

    The first pass in TRAIN finds the threshold t, c_rate standard deviations above the mean of the
    absolute weights and biases that are not 0, at least 0. In each of the first iter_stop passes
    masks change with the probability (1 + gamma p)^-power, p the number of passes before: what is
    not above 0.9 t is cut out, what is above 1.1 t put back. The gradient passes the masks by, so
    what is cut out goes on learning. In TEST masks stay.

    Bottoms, tops and errors: those of Convolution. Blobs: those of Convolution, then a mask for
    each, which no solver trains. A model without masks loads; then they are those of the fillers,
    weight_mask_filler and bias_mask_filler, which give 0 unless the net says otherwise: value: 1.
    Messages: convolution_param, cconvolution_param. Guo et al., 2016.

    The fork counts a solver's iterations, which are fewer than passes where iter_size is above 1.
    """

    gamma: float = option(of="cconvolution_param")
    power: float = option(of="cconvolution_param")
    iter_stop: float = option(of="cconvolution_param")
    c_rate: float = option(of="cconvolution_param")
    weight_mask_filler: caffe_pb2.FillerParameter = option(of="cconvolution_param")
    bias_mask_filler: caffe_pb2.FillerParameter = option(of="cconvolution_param")

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        return self.with_masks(super().blob_specs(*bottom_shapes))


@layer(
    "CInnerProduct",
    bottoms=1,
    tops=1,
    message="inner_product_param",
    bfloat16="float32",
    state_blobs=_masks,
    fork="Dynamic Network Surgery",
    drawn=DrawStyle("#CC33FF", edge="{num_output}", rates=True),
)
class CInnerProduct(Surgery, InnerProduct):
    """An InnerProduct whose weights and biases are multiplied by masks, see CConvolution.

    Bottom and top: those of InnerProduct. Blobs: those of InnerProduct, then a mask for each.
    Messages: inner_product_param, cinner_product_param. Guo et al., 2016.

    Errors: those of InnerProduct; transpose, relu or normalize, which the fork does not have.
    """

    gamma: float = option(of="cinner_product_param")
    power: float = option(of="cinner_product_param")
    iter_stop: float = option(of="cinner_product_param")
    c_rate: float = option(of="cinner_product_param")
    weight_mask_filler: caffe_pb2.FillerParameter = option(of="cinner_product_param")
    bias_mask_filler: caffe_pb2.FillerParameter = option(of="cinner_product_param")

    def setup(self, x: Shape, *given: Shape) -> None:
        super().setup(x, *given)
        refuse_options_of_others(self)

    def blob_specs(self, x: Shape, *given: Shape) -> Iterable[BlobSpec]:
        return self.with_masks(super().blob_specs(x, *given))

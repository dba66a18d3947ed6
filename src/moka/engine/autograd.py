"""The whole net forward and backward as one differentiable function.

Images travel channels-last, which the convolutions and above all the max pooling of a CPU prefer;
their shape stays N, C, H, W, so nobody sees a difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from moka.engine.captured import WARM_UPS
from moka.engine.channels_last import (
    as_they_are,
    by_pixel,
    lay_out_kernels,
    prefers_channels_last,
)
from moka.engine.debug_info import log_all_parameters
from moka.engine.layerwise import Layerwise
from moka.engine.pass_start import PassStart, pass_start
from moka.engine.precision import in_half, in_tensor_float_32
from moka.engine.promised import NOTHING_LEFT_OUT, Plan, Promises, See, tell_diff
from moka.engine.recorded import RecordedPasses
from moka.engine.segments import marked_ends, propagate_in_segments
from moka.engine.sources import Sources
from moka.engine.ways import Ways
from moka.layers.late_checks import collecting_checks
from moka.net import Net


class Autograd:
    """Runs a net forward and backward by autograd; parameters' gradients add up in their `grad`.

    A pass goes layer by layer instead, with the same numbers, whenever `layerwise` has callbacks
    or logs `debug_info`. NumPy arrays of parameters that users hold are not looked at: whoever
    runs this engine does so inside of `net.parameters_in_use()`.

    Args:
        net: the net.
        keep_blobs: leave every blob's data in `net.blobs`, not only the outputs', and after a
            backward pass its diff too. Both are the tensors of the pass itself, which then live
            until the next one; of a large net those that nobody reads are promised
            (`moka.engine.promised`).
        half: the type of products in mixed precision (`moka.engine.precision`); None: float32.
        tensor_float_32: a GPU may multiply in TF32.
        replayable: keep in `start` what each pass began with.

    Attributes:
        layerwise: an engine for the same blobs, for passes that go layer by layer; a user's own
            passes over some of the layers have to use this one.
        start: what the last pass began with.
        segment_ends: where a training pass cuts the net to keep less (`moka.engine.segments`);
            empty: nowhere; at first behind the layers marked `checkpoint: true`. Passes that keep
            blobs, or go layer by layer, keep all.
        results: the outputs and all blobs of the loss.
        recorded: what runs training passes from a recording (`record`); None: nothing does.
    """

    def __init__(
        self,
        net: Net,
        *,
        keep_blobs: bool = False,
        half: torch.dtype | None = None,
        tensor_float_32: bool = False,
        replayable: bool = False,
    ) -> None:
        self.net = net
        self.layerwise = Layerwise(net)
        self.keep_blobs = keep_blobs
        self.half = half
        self.tensor_float_32 = tensor_float_32
        self.replayable = replayable or keep_blobs
        self.start: PassStart | None = None
        self.segment_ends: Sequence[int] = marked_ends(net)
        runs_channels_last = prefers_channels_last(net.device, half)
        self._sources = Sources(net, by_pixel if runs_channels_last else as_they_are)
        if runs_channels_last and not keep_blobs:  # whose readers want row-major parameters
            lay_out_kernels(net)
        self._driven = _driven_inputs(net)
        self._losses = net.loss_tops
        self.results = frozenset({*net.graph.outputs, *(name for name, _ in self._losses)})
        self._promises = Promises(net, self.results, self._repeat) if keep_blobs else None
        self._ways = Ways(net, in_half=half is not None)
        self.recorded: RecordedPasses | None = None

    def record(self, warm_ups: int = WARM_UPS) -> None:
        """Let training passes on the CPU be recorded from now on, where they can be.

        Args:
            warm_ups: passes before the recording.
        """
        self.recorded = RecordedPasses(
            self.net,
            self._seen_pass,
            keeps_diffs=self.keep_blobs,
            warm_ups=warm_ups,
        )

    @property
    def in_view(self) -> frozenset[str]:
        return frozenset(self.net.blobs) if self.keep_blobs else self.results

    def prepare(self) -> None:
        self.net.prepare()

    def forward(self) -> Tensor:
        batch = self.next_batch()
        if self.goes_layer_by_layer:
            return self.layerwise.forward(given=batch)
        with torch.no_grad(), self._checked():
            blobs = self._run(batch)
            self.show(_numbers_of(blobs))
            return self._loss(blobs)

    def forward_backward(self) -> Tensor:
        batch = self.next_batch()
        if self.goes_layer_by_layer:
            return self._layer_by_layer(batch)
        plan = None if self._promises is None else self._promises.plan()
        recorded = None if plan or self.segment_ends else self.recorded
        if recorded is not None and (made := recorded(batch)) is not None:
            loss, blobs = made
            self.show(blobs)
            return loss
        with self._checked():
            if plan is None:
                loss, blobs = self.pass_over(batch)
            else:
                loss, blobs = self.pass_over(batch, None, self._seeing(plan), plan)
        self.show(blobs)
        if self._promises is not None and plan is not None:
            assert self.start is not None
            self._promises.promise(plan, self.start)
        return loss

    def _seeing(self, plan: Plan) -> See:
        def see(name: str, top: Tensor) -> None:
            plan.note(name, top)
            if name not in plan.diffs:
                self._keep_diff(name, top)

        return see

    def pass_over(
        self,
        batch: Mapping[str, Tensor],
        scale: Tensor | None = None,
        see: See | None = None,
        plan: Plan = NOTHING_LEFT_OUT,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A pass and its gradients, all of it work for the device: nothing is read back.

        Args:
            batch: as `next_batch` returns it.
            scale: multiplies the loss before the backward pass (`LossScale`).
            see: called with each top, when a layer has made it; None: what keeps the diffs of blobs
                that are kept.
            plan: what is not kept, of blobs that are kept.

        Returns:
            the loss, a scalar without a graph; the blobs to `show`.
        """
        if see is None and self.keep_blobs:
            see = self._keep_diff
        with in_tensor_float_32() if self.tensor_float_32 else nullcontext():
            blobs = self._run(dict(batch), see, plan)
            loss = self._loss(blobs)
            if loss.requires_grad:
                scaled = loss if scale is None else loss * scale
                scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), _numbers_of(blobs)

    def _seen_pass(self, batch: Mapping[str, Tensor], see: See) -> tuple[Tensor, dict[str, Tensor]]:
        return self.pass_over(batch, see=see)

    def show(self, blobs: Mapping[str, Tensor]) -> None:
        """Let `net.blobs` show what a pass has made, as `pass_over` returns it."""
        for name, tensor in blobs.items():
            self.net.blobs[name].data_memory.put(tensor)

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Have labels on a GPU checked at the end of a pass, all at once."""
        if self.net.device.type == "cpu":
            yield
            return
        with collecting_checks() as checks:
            yield
        checks.raise_first()

    def _repeat(self, batch: dict[str, Tensor], see: See) -> dict[str, Tensor]:
        """A pass whose blobs are returned, not shown."""
        return self._seen_pass(batch, see)[1]

    @property
    def goes_layer_by_layer(self) -> bool:
        """Whether the next pass goes layer by layer."""
        return self.layerwise.debug_info or bool(self.layerwise.callbacks)

    def _layer_by_layer(self, batch: Mapping[str, Tensor]) -> Tensor:
        loss = self.layerwise.forward(given=batch)
        self.layerwise.backward()
        if self.layerwise.debug_info:
            log_all_parameters(self.net)
        return loss

    def next_batch(self) -> dict[str, Tensor]:
        """The tops of the layers without bottoms, for the next pass; `start` is noted."""
        self.start = None  # frees the last batch before the next one comes
        self.layerwise.forget()
        batch = self._sources.next_batch()
        if self.replayable:
            self.start = pass_start(self.net, batch)
        return batch

    def _run(
        self, batch: dict[str, Tensor], see: See | None = None, plan: Plan = NOTHING_LEFT_OUT
    ) -> dict[str, Tensor]:
        if see and self.keep_blobs:
            for name in self._driven:
                batch[name] = _with_own_gradient(batch[name])
                see(name, batch[name])
        return self._compute(batch, see, plan)

    def _compute(
        self, batch: Mapping[str, Tensor], see: See | None, plan: Plan = NOTHING_LEFT_OUT
    ) -> dict[str, Tensor]:
        with in_half(self.net, self.half):
            ends = () if self.keep_blobs or not torch.is_grad_enabled() else self.segment_ends
            seen = self._all_but(plan.unseen) if self.keep_blobs else self.results
            ways = self._ways.of_pass(seen, ends)
            if ends:
                return propagate_in_segments(self.net, batch, self.results, ends, ways)
            keep = self._all_but(plan.data) if self.keep_blobs else self.results
            return self.net.propagate(batch, keep, see, ways=ways)

    def _all_but(self, names: frozenset[str]) -> Collection[str] | None:
        """All other blobs; None: all."""
        return self.net.blobs.keys() - names if names else None

    def _keep_diff(self, name: str, top: Tensor) -> None:
        tell_diff(top, self.net.blobs[name].diff_memory.put)

    def _loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        terms = [
            _total(blobs[name]) if weight == 1 else weight * _total(blobs[name])
            for name, weight in self._losses
        ]
        return sum(terms[1:], terms[0]) if terms else torch.zeros((), device=self.net.device)


def _numbers_of(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blobs without their graph, in single precision."""
    return {name: tensor.detach().float() for name, tensor in blobs.items()}


def _total(loss: Tensor) -> Tensor:
    found = loss.float()
    return found.sum() if found.dim() else found


def _driven_inputs(net: Net) -> frozenset[str]:
    """Tops of layers without bottoms whose gradient is asked for (`force_backward`)."""
    made: set[str] = set()
    found: set[str] = set()
    for place in net.places:
        node, marks = place.node, place.marks
        wanted = {name for name, asked in zip(node.bottoms, marks.bottoms, strict=True) if asked}
        if marks.layer:  # else its backward pass does not run
            found |= wanted & made
        made.difference_update(node.tops)  # an in-place layer's is another tensor
        if not node.bottoms:
            made.update(node.tops)
    return frozenset(found)


def _with_own_gradient(tensor: Tensor) -> Tensor:
    """The same values as a tensor of this pass alone, whose gradient can be seen."""
    if tensor.requires_grad:  # a parameter, which outlives the pass
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_()

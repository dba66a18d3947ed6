"""Layers of detectors that only training and testing need."""

from __future__ import annotations

from moka.export.onnx.table import leave_out, refuse
from moka.layers.detection.evaluate import DetectionEvaluate
from moka.layers.detection.field_loss import DetectionAccuracy
from moka.layers.detection.group_loss import DetectionGroupAccuracy
from moka.layers.detection.proposal_target import ProposalTarget
from moka.layers.detection.stages import BboxAccuracy, HardMining
from moka.layers.loss.hard_examples import BoxAnnotatorOHEM

leave_out(BboxAccuracy, DetectionAccuracy, DetectionEvaluate, DetectionGroupAccuracy)
refuse("it chooses what a net learns from.", BoxAnnotatorOHEM, HardMining, ProposalTarget)

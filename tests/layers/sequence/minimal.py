"""The least that each layer type for sequences needs; see tests/layers/one_layer.py."""

from __future__ import annotations

from typing import Any

SCORES = "3 2 4"  # three timesteps, two sequences, four classes

MINIMAL: dict[str, dict[str, Any]] = {
    "CTCGreedyDecoder": {"bottoms": (SCORES, "3 2")},
    "CTCLoss": {"bottoms": (SCORES, "3 2", "1 2"), "least": 0.6},
    "ContinuationIndicator": {
        "bottoms": (),
        "fields": "continuation_indicator_param { time_step: 3 batch_size: 2 }",
    },
    "CtcLoss": {"bottoms": (SCORES, "2 2")},
    "LabelsequenceAccuracy": {"bottoms": ("2 3 4", "2 2")},
    "Lstm": {
        "bottoms": ("2 4", "2"),
        "fields": 'lstm_param { num_output: 2 weight_filler { type: "gaussian" }'
        ' bias_filler { type: "gaussian" } }',
    },
    "WarpCTCLoss": {"bottoms": (SCORES, "2", "2", "2 2")},
}

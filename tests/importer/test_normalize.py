from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.importer.onnx_models import imported, random, types

from moka.errors import NetError

FOUR = {name: random(4) for name in "smb"} | {"v": np.abs(random(4)) + np.float32(0.1)}


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 6, 5), (1, 4, 3)])
def test_batch_norm(shape: tuple[int, ...], tmp_path: Path) -> None:
    node = ("BatchNormalization", "x s b m v", "y", {"epsilon": 0.001, "momentum": 0.8})
    found = imported(tmp_path, [node], FOUR, shape=shape)
    assert types(found) == "BatchNorm Scale"
    options = found.net.layer[1].batch_norm_param
    assert options.eps == pytest.approx(0.001)
    assert options.moving_average_fraction == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("node", "opset", "constants"),
    [
        (("InstanceNormalization", "x s b", "y", {}), 17, FOUR),
        (("LayerNormalization", "x f f", "y", {}), 17, {"f": random(5)}),
        (("LayerNormalization", "x f", "y", {"axis": 1}), 17, {"f": random(4, 6, 5)}),
        (("GroupNormalization", "x s b", "y", {"num_groups": 2}), 21, FOUR),
        (("LRN", "x", "y", {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}), 17, {}),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_forms(
    node: Any, opset: int, constants: dict[str, Any], batch: int, tmp_path: Path
) -> None:
    imported(tmp_path, [node], constants, shape=(batch, 4, 6, 5), opset=opset)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (("BatchNormalization", "x s b m v", "y p q", {"training_mode": 1}),
         "(BatchNormalization, opset 17) has no form in Caffe: it normalizes with the statistics"
         " of the batch. Export the model for inference."),
        (("LRN", "x", "y", {"size": 4}), "local_size"),
    ],
)  # fmt: skip
def test_refusals(node: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], FOUR)
    assert says in str(error.value)

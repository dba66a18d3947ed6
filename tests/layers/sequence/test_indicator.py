from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

KIND = 'type: "ContinuationIndicator" continuation_indicator_param'


def test_the_first_step_starts_a_sequence(make_layer: LayerMaker) -> None:
    layer = make_layer(f"{KIND} {{ time_step: 3 batch_size: 2 }}")
    assert layer.first_top_shapes == [(3, 2)]
    assert layer()[0].tolist() == [[0, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize("missing", ["time_step: 3", "batch_size: 2"])
def test_both_numbers_are_needed(make_layer: LayerMaker, missing: str) -> None:
    with pytest.raises(NetError, match="must be > 0, got 0"):
        make_layer(f"{KIND} {{ {missing} }}")

from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

SUM = 'layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "more" top: "z" }'


def test_constants(export: Export) -> None:
    text = (
        one_layer('type: "ReLU"', "2 3")
        + """
    layer { name: "more" type: "DummyData" top: "more"
      dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "constant" value: 3 } } }
    """
    )
    done = export(text + SUM)
    assert done.inputs == {"x0": "(2, 3)"}  # the constant fixes the batch


def test_random_numbers_are_refused(export: Export) -> None:
    text = (
        one_layer('type: "ReLU"', "2 3")
        + """
    layer { name: "more" type: "DummyData" top: "more"
      dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } } }
    """
    )
    with pytest.raises(NetError, match=r'layer "more" .*its fillers draw new values'):
        export(text + SUM)


def test_parameters(export: Export) -> None:
    text = (
        one_layer('type: "ReLU"', "2 3")
        + """
    layer { name: "more" type: "Parameter" top: "more"
      parameter_param { shape { dim: 2 dim: 3 } } }
    """
    )
    assert list(export(text + SUM).inputs) == ["x0"]

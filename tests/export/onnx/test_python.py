from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

MODULE = """
import moka


class Twice(moka.Layer):
    def forward(self, x):
        return 2 * x
"""


def test_python_layers_are_refused_by_name(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twice_layer.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    layer = 'type: "Python" python_param { module: "twice_layer" layer: "Twice" }'
    with pytest.raises(NetError, match=r'layer "it" \(Python\): cannot be exported: it runs Py'):
        export(one_layer(layer, "2 3"))
    sys.modules.pop("twice_layer", None)
    assert not (tmp_path / "net.onnx").exists()

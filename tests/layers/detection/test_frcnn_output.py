from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

SHAPES = (3, 3), (3, 12), (3, 5), (1, 2)
SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]])
ROIS = torch.tensor([[0, 0, 0, 19, 19], [0, 0, 0, 19, 17], [0, 30, 30, 49, 59.0]])
SIZE = torch.tensor([[50.0, 40]])


def output(fields: str = "conf_thr: 0.25", more: str = "") -> str:
    return f'type: "FrcnnOutput" frcnn_output_param {{ {fields} }} {more}'


def rows(
    make_layer: LayerMaker, text: str, deltas: torch.Tensor | None = None
) -> list[list[float]]:
    deltas = torch.zeros(SHAPES[1]) if deltas is None else deltas
    layer = make_layer(text, SHAPES[0], tuple(deltas.shape), *SHAPES[2:])
    top = layer(SCORES, deltas, ROIS, SIZE)
    assert isinstance(top, torch.Tensor)
    assert top.shape[1:] == (7, 1, 1)
    return [[round(v, 4) for v in row] for row in top[..., 0, 0].tolist()]


NONE = [0, -1, -1, -1, -1, -1, -1]
CUT = [0, 30, 30, 40, 50]


def test_detections_by_class(make_layer: LayerMaker) -> None:
    """Of the first two only the better one stays; the third is cut to the image."""
    assert rows(make_layer, output()) == [
        NONE,
        [0, 0, 0, 19, 19, 1, 0.7],
        [*CUT, 1, 0.3],
        [*CUT, 2, 0.5],
        [0, 0, 0, 19, 17, 2, 0.3],
    ]


def test_the_best_of_all_classes(make_layer: LayerMaker) -> None:
    want = [NONE, [0, 0, 0, 19, 19, 1, 0.7], [*CUT, 2, 0.5]]
    assert rows(make_layer, output("conf_thr: 0.25 max_det_num: 2")) == want


def test_nothing_found(make_layer: LayerMaker) -> None:
    assert rows(make_layer, output("conf_thr: 0.9")) == [NONE]


@pytest.mark.parametrize("aware", [True, False])
def test_regions_are_moved(make_layer: LayerMaker, aware: bool) -> None:
    deltas = torch.zeros(3, 12 if aware else 8)
    deltas[0, 4] = 0.5
    text = output("conf_thr: 0.65", "" if aware else "bbox_reg_param { cls_aware: false }")
    assert rows(make_layer, text, deltas)[1:] == [[0, 10, 0, 29, 19, 1, 0.7]]


def test_results_in_a_file(make_layer: LayerMaker, tmp_path: Path) -> None:
    """In pixels of the original image, here twice as large."""
    (tmp_path / "labels").write_text('item { name: "a" label: 1 } item { name: "b" label: 2 }')
    (tmp_path / "sizes").write_text("one 100 80\n")
    save = (
        f'output_directory: "{tmp_path}/out" label_map_file: "{tmp_path}/labels"'
        f' name_size_file: "{tmp_path}/sizes" output_format: "ILSVRC"'
    )
    rows(make_layer, output(f"conf_thr: 0.4 save_output_param {{ {save} }}"))
    want = "one 1 0.7 0 0 38 38\none 2 0.5 60 60 80 100\n"
    assert (tmp_path / "out/.txt").read_text() == want


def test_files_that_will_not_be_written_are_logged(
    make_layer: LayerMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_layer(output('save_output_param { output_directory: "out" }'), *SHAPES)
    assert "Provide label_map_file and name_size_file" in caplog.text


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="nms_type must be one of"):
        make_layer(output('nms_type: "x"'), *SHAPES)
    with pytest.raises(NetError, match="height and width of one image"):
        make_layer(output(), *SHAPES[:3], (2, 2))
    with pytest.raises(NetError, match="different numbers of rows: 3, 4, 3"):
        make_layer(output(), (3, 3), (4, 12), (3, 5), (1, 2))
    layer = make_layer(output(), *SHAPES)
    rois = ROIS.clone()
    rois[1, 0] = 1
    with pytest.raises(DataError, match="one image at a time"):
        layer(SCORES, torch.zeros(SHAPES[1]), rois, SIZE)

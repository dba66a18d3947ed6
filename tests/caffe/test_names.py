"""Nothing of pycaffe's public face is missing: names as BVLC Caffe 1.0 has them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import caffe

NAMES = {
    "caffe": """__version__ TRAIN TEST Net Layer SGDSolver NesterovSolver AdaGradSolver
        RMSPropSolver AdaDeltaSolver AdamSolver NCCL Timer get_solver layer_type_list init_log log
        set_mode_cpu set_mode_gpu set_device set_random_seed solver_count set_solver_count
        solver_rank set_solver_rank set_multiprocess has_nccl Classifier Detector io layers params
        NetSpec to_proto net_spec pycaffe classifier detector proto""",
    "caffe._caffe": """Net Blob Layer Solver SGDSolver NesterovSolver AdaGradSolver RMSPropSolver
        AdaDeltaSolver AdamSolver SolverParameter LayerParameter BlobVec RawBlobVec LayerVec
        StringVec IntVec DtypeVec NetVec BoolVec NCCL Timer get_solver layer_type_list init_log log
        set_mode_cpu set_mode_gpu set_device set_random_seed solver_count set_solver_count
        solver_rank set_solver_rank set_multiprocess has_nccl __version__""",
    "caffe.pycaffe": """Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver
        AdamSolver NCCL Timer""",
    "caffe._caffe:Net": """blobs params layers layer_dict blob_loss_weights inputs outputs top_names
        bottom_names _layer_names _blob_names _blobs _blob_loss_weights _inputs _outputs _top_ids
        _bottom_ids _forward _backward _set_input_arrays _batch forward backward forward_all
        forward_backward_all set_input_arrays reshape copy_from share_with clear_param_diffs save
        save_hdf5 load_hdf5 before_forward after_forward before_backward after_backward""",
    "caffe._caffe:Blob": """data diff shape num channels height width count reshape _gpu_data_ptr
        _gpu_diff_ptr""",
    "caffe._caffe:BlobVec": "add_blob append extend",
    "caffe._caffe:Layer": "setup reshape forward backward param_str phase blobs type",
    "caffe._caffe:SGDSolver": """net test_nets iter lr param solve step restore snapshot
        apply_update share_weights add_callback""",
    "caffe._caffe:NCCL": "new_uid bcast",
    "caffe._caffe:Timer": "start stop ms",
    "caffe.io": """blobproto_to_array array_to_blobproto arraylist_to_blobprotovector_str
        blobprotovector_str_to_arraylist array_to_datum datum_to_array Transformer load_image
        resize_image oversample""",
    "caffe.io:Transformer": """preprocess deprocess set_transpose set_channel_swap set_raw_scale
        set_mean set_input_scale""",
    "caffe.net_spec": """layers params NetSpec to_proto Top Function assign_proto param_name_dict
        Layers Parameters""",
    "caffe.classifier:Classifier": "predict",
    "caffe.detector:Detector": """detect_windows detect_selective_search crop configure_crop""",
    "caffe.draw": """get_pooling_types_dict get_edge_label get_layer_lr_mult get_layer_label
        choose_color_by_layertype get_pydot_graph draw_net draw_net_to_file LAYER_STYLE_DEFAULT
        NEURON_LAYER_STYLE BLOB_STYLE""",
    "caffe.coord_map": """coord_map coord_map_from_to crop compose inverse conv_params crop_params
        PASS_THROUGH_LAYERS UndefinedMapException AxisMismatchException""",
    "caffe.proto.caffe_pb2": "NetParameter LayerParameter SolverParameter Datum BlobProto",
}


@pytest.mark.parametrize("where", NAMES)
def test_no_name_is_missing(where: str) -> None:
    module, _, of = where.partition(":")
    place: Any = importlib.import_module(module)
    if of:
        place = getattr(place, of)
    assert [name for name in NAMES[where].split() if not hasattr(place, name)] == []


def test_constants() -> None:
    assert (caffe.__version__, caffe.TRAIN, caffe.TEST) == ("1.0.0", 0, 1)


def test_what_is_exported_is_there() -> None:
    assert [name for name in caffe.__all__ if not hasattr(caffe, name)] == []


@pytest.mark.parametrize(
    "name", ["NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver", "AdamSolver"]
)
def test_every_solver_is_an_sgd_solver(name: str) -> None:
    assert issubclass(getattr(caffe, name), caffe.SGDSolver)
    native: Any = importlib.import_module("caffe._caffe")
    assert issubclass(caffe.SGDSolver, native.Solver)
    assert native.Net is caffe.Net


@pytest.mark.parametrize(
    ("name", "what_to_write"),
    [
        ("set_phase_test", "caffe.Net(file, weights, caffe.TEST)."),
        ("set_logging_disabled", "Set the variable GLOG_minloglevel=2 before caffe is imported."),
        ("SGDSolvr", 'Did you mean "SGDSolver"?'),
        ("nothing_like_it", "'nothing_like_it'."),
    ],
)
def test_names_that_are_not_there(name: str, what_to_write: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(caffe, name)
    assert str(caught.value).startswith(f"module 'caffe' has no attribute '{name}'.")
    assert str(caught.value).endswith(what_to_write)


def test_a_module_that_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("caffe.draw", raising=False)
    with pytest.raises(AttributeError, match=r"Import it first: import caffe\.draw\.$"):
        caffe.draw  # noqa: B018 - the attribute is asked for

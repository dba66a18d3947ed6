"""The least net of each layer type, as text: the layer itself and its inputs.

The tables of the forks' types lie in modules `minimal` of the folders.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.layers import fork_minimal as single
from tests.layers import minimal as others
from tests.layers.detection import minimal as detection
from tests.layers.detection import yolo_minimal as yolo
from tests.layers.metric_learning import minimal as metric_learning
from tests.layers.segmentation import minimal as segmentation
from tests.layers.sequence import minimal as sequence
from tests.layers.video import minimal as video

IMAGE, ROWS, LABELS = "2 3 4 4", "2 6", "2"


@dataclass(frozen=True)
class Minimal:
    """The least a layer needs: shapes of its bottoms, number of tops, its fields."""

    bottoms: tuple[str, ...] = (IMAGE,)
    tops: int = 1
    fields: str = ""
    least: float = 0.1  # of the values put into the bottoms
    most: float = 0.9


RECURRENT = (
    'recurrent_param { num_output: 2 weight_filler { type: "gaussian" }'
    ' bias_filler { type: "gaussian" } }'
)
MINIMAL = {
    "AbsVal": Minimal(),
    "Accum": Minimal((IMAGE, "2 2 3 4")),
    "Accuracy": Minimal((ROWS, LABELS)),
    "ArgMax": Minimal(),
    "Axpy": Minimal(("2 3", IMAGE, IMAGE)),
    "BlackHole": Minimal(tops=0),
    "BN": Minimal(),
    "BNLL": Minimal(),
    "BatchNorm": Minimal(),
    "BatchReindex": Minimal((IMAGE, LABELS)),
    "Bias": Minimal(),
    "ChannelScale": Minimal((IMAGE, "2 1 4 4")),
    "Clip": Minimal(fields="clip_param { min: 0.2 max: 0.8 }"),
    "Concat": Minimal((ROWS, ROWS)),
    "ContrastiveLoss": Minimal((ROWS, ROWS, LABELS)),
    "Convolution": Minimal(
        fields="convolution_param { num_output: 2 kernel_size: 3"
        ' weight_filler { type: "gaussian" } }'
    ),
    "ConvolutionDepthwise": Minimal(
        fields="convolution_param { num_output: 3 kernel_size: 3"
        ' weight_filler { type: "gaussian" } }'
    ),
    "AutoCrop": Minimal((IMAGE, "2 3 2 2"), fields="crop_param { offset: 1 }"),
    "Crop": Minimal((IMAGE, "2 3 2 2")),
    "Data": Minimal((), 2, 'data_param { source: "images.lmdb" batch_size: 2 backend: LMDB }'),
    "Deconvolution": Minimal(
        fields="convolution_param { num_output: 2 kernel_size: 3"
        ' weight_filler { type: "gaussian" } }'
    ),
    "DepthwiseConvolution": Minimal(
        fields="convolution_param { num_output: 3 kernel_size: 3"
        ' weight_filler { type: "gaussian" } }'
    ),
    "Downsample": Minimal(fields="downsample_param { top_height: 2 top_width: 3 }"),
    "Dropout": Minimal(),
    "DummyData": Minimal((), 1, "dummy_data_param { shape { dim: 2 } }"),
    "ELU": Minimal(),
    "Eltwise": Minimal((ROWS, ROWS)),
    "Embed": Minimal(
        (LABELS,),
        fields='embed_param { num_output: 2 input_dim: 3 weight_filler { type: "gaussian" } }',
    ),
    "EuclideanLoss": Minimal((ROWS, ROWS)),
    "Exp": Minimal(),
    "Filter": Minimal((IMAGE, LABELS)),
    "Flatten": Minimal(),
    "Flip": Minimal(),
    "GRN": Minimal(),
    "HDF5Data": Minimal((), 2, 'hdf5_data_param { source: "rows.txt" batch_size: 2 }'),
    "HDF5Output": Minimal(("2 3", LABELS), 0, 'hdf5_output_param { file_name: "written.h5" }'),
    "HingeLoss": Minimal((ROWS, LABELS)),
    "Im2col": Minimal(fields="convolution_param { kernel_size: 3 }"),
    "ImageData": Minimal((), 2, 'image_data_param { source: "images.txt" batch_size: 2 }'),
    "InfogainLoss": Minimal((ROWS, LABELS, "1 1 6 6")),
    "InnerProduct": Minimal(
        fields='inner_product_param { num_output: 2 weight_filler { type: "gaussian" } }'
    ),
    "Input": Minimal((), 1, "input_param { shape { dim: 2 } }"),
    "Interp": Minimal(fields="interp_param { zoom_factor: 2 }"),
    "L2Normalize": Minimal(),
    "LibDNNConvolution": Minimal(
        fields="convolution_param { num_output: 2 kernel_size: 3"
        ' weight_filler { type: "gaussian" } }'
    ),
    "LibDNNPooling": Minimal(fields="pooling_param { kernel_size: 2 }"),
    "LRN": Minimal(),
    "LSTM": Minimal(("3 2 4", "3 2"), fields=RECURRENT),
    "LSTMUnit": Minimal(("1 2 3", "1 2 12", "1 2"), 2),
    "Log": Minimal(),
    "MKLBatchNorm": Minimal(),
    "MVN": Minimal(),
    "MemoryData": Minimal(
        (), 2, "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 4 }"
    ),
    "MultinomialLogisticLoss": Minimal((ROWS, LABELS)),
    "NegReLU": Minimal(least=-0.9),
    "PReLU": Minimal(least=-0.9),
    "Parameter": Minimal((), 1, "parameter_param { shape { dim: 2 } }"),
    "Pooling": Minimal(fields="pooling_param { kernel_size: 2 }"),
    "Power": Minimal(fields="power_param { scale: 2 }"),
    "Python": Minimal(fields='python_param { module: "own_layers" layer: "Double" }'),
    "ReLU6": Minimal(),
    "Resample": Minimal(fields="resample_param { height: 3 width: 6 }"),
    "Reverse": Minimal(),
    "RNN": Minimal(("3 2 4", "3 2"), fields=RECURRENT),
    "ReLU": Minimal(),
    "Reduction": Minimal(),
    "Reshape": Minimal(fields="reshape_param { shape { dim: 0 dim: -1 } }"),
    "ShuffleChannel": Minimal(),
    "SoftTruncation": Minimal(),
    "SpatialDropout": Minimal(),
    "SPP": Minimal(fields="spp_param { pyramid_height: 2 }"),
    "Scale": Minimal(),
    "Sigmoid": Minimal(),
    "SigmoidCrossEntropyLoss": Minimal((ROWS, ROWS)),
    "Silence": Minimal(tops=0),
    "Slice": Minimal(tops=3),
    "Softmax": Minimal(),
    "SoftmaxWithLoss": Minimal((ROWS, LABELS)),
    "Split": Minimal(tops=2),
    "Swish": Minimal(),
    "SyncBN": Minimal(),
    "TanH": Minimal(),
    "Threshold": Minimal(),
    "Tile": Minimal(fields="tile_param { tiles: 2 }"),
    "Transpose": Minimal(fields="transpose_param { dim: 0 dim: 3 dim: 1 dim: 2 }"),
    "Truncation": Minimal(),
    "UnPooling": Minimal(fields="unpooling_param { out_kernel_size: 3 out_stride: 2 }"),
    "Upsample": Minimal(fields="upsample_param { scale: 2 }"),
    "WindowData": Minimal(
        (),
        2,
        'window_data_param { source: "windows.txt" batch_size: 2 }'
        " transform_param { crop_size: 2 }",
    ),
}

FORKS = (detection, yolo, metric_learning, others, segmentation, sequence, single, video)
for of_forks in FORKS:
    MINIMAL |= {kind: Minimal(**facts) for kind, facts in of_forks.MINIMAL.items()}

# Fields of a layer's own message that its class does not declare, and why.
TRANSFORMS = dict.fromkeys(
    ("scale", "mean_file", "crop_size", "mirror"), "belong to transform_param now"
)
UNREAD = {
    "Data": TRANSFORMS | {"force_encoded_color": "belongs to transform_param now"},
    "ImageData": TRANSFORMS,
    "WindowData": {name: why for name, why in TRANSFORMS.items() if name != "scale"},
    "Im2col": dict.fromkeys(
        (
            "num_output",
            "bias_term",
            "group",
            "weight_filler",
            "bias_filler",
            "engine",
        ),
        "belongs to Convolution, whose message it uses",
    ),
}
UNREAD |= detection.UNREAD | yolo.UNREAD | video.UNREAD | single.UNREAD


def text_of(kind: str) -> str:
    if kind not in MINIMAL:
        pytest.fail(f"add a minimal prototxt for {kind} to MINIMAL")
    case = MINIMAL[kind]
    lines = ["force_backward: true"]
    for k, shape in enumerate(case.bottoms):
        dims = " ".join(f"dim: {n}" for n in shape.split())
        lines.append(
            f'layer {{ name: "in{k}" type: "Input" top: "bottom{k}"'
            f" input_param {{ shape {{ {dims} }} }} }}"
        )
    blobs = [f'bottom: "bottom{k}"' for k in range(len(case.bottoms))]
    blobs += [f'top: "top{k}"' for k in range(case.tops)]
    lines.append(f'layer {{ name: "it" type: "{kind}" {" ".join(blobs)} {case.fields} }}')
    return "\n".join(lines)

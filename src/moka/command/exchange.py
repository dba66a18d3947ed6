"""The commands that exchange models with other programs: `export` and `import`."""

from __future__ import annotations

from moka.command.commands import tool
from moka.command.flags import Flag

EXPORT = tool(
    "export",
    "export",
    "write a model for other programs: ONNX, PyTorch",
    "",
    (
        Flag("model", "", "The net, a deploy.prototxt."),
        Flag("weights", "", "Its weights, a .caffemodel."),
        Flag("output", "", "The file to write, such as net.onnx.", short="o"),
        Flag(
            "format",
            "",
            "By default that of the output's ending.",
            choices=("onnx", "torch", "safetensors"),
        ),
        Flag("opset", 17, "The version of ONNX's operators, 13 or newer."),
        Flag("batch", "dynamic", "How many items a pass takes: a number, or any (dynamic)."),
        Flag(
            "input_shape",
            "",
            "Another shape of the first input, 1,3,224,224, or of inputs by name,"
            " data:1,3,224,224;rois:10,5.",
        ),
        Flag("outputs", "", "The blobs to give out, joined by commas; by default the net's."),
        Flag("fold", True, "Fold BatchNorm and Scale into the layers before them."),
        Flag("half", False, "Store weights as float16."),
        Flag(
            "bytes",
            False,
            "The model takes the bytes of images (N, H, W, C), RGB. Each of the five flags that"
            " follow turns this on.",
        ),
        Flag(
            "mean",
            "",
            "Subtract a mean: a value for each channel of the blob, 104,117,123, or a file"
            " (.npy, .binaryproto).",
        ),
        Flag("scale", 1.0, "Multiply by this after the mean is subtracted."),
        Flag("raw_scale", 255.0, "What the byte 255 becomes before the mean is subtracted."),
        Flag("channel_swap", "", "Order of the channels in the blob: 2,1,0 makes BGR."),
        Flag("resize", False, "Take images of any size."),
        Flag("labels", "", "Names of the classes, one a line, to keep in the file."),
        Flag("check", True, "Compare ONNX Runtime's outputs with Moka's."),
        Flag("check_image", "", "An image to compare them on, too."),
    ),
    programs={},
    description="Write a model for other programs, and check that it computes the same.\n"
    "net.onnx is an ONNX model; net.py the source of a PyTorch module with its weights beside"
    " it,\nnet.pt, or net.safetensors with --format safetensors. The flags after input_shape"
    " are ONNX's.\n"
    "Weights as safetensors need the package safetensors.",
)

IMPORT = tool(
    "import",
    "import_model",
    "make a net of an ONNX model, or weights of PyTorch's",
    "FILE",
    (
        Flag(
            "output",
            "",
            "The net to write, .prototxt; its .caffemodel is written beside it. With --model:"
            " the .caffemodel",
            short="o",
        ),
        Flag(
            "input_shape",
            "",
            "The shape of the input, where the file leaves sizes open: 1,3,224,224; of"
            " several: NAME:1,3,224,224;NAME:1,4",
        ),
        Flag("extra_layers", False, "Allow layers that only forks of Caffe have"),
        Flag(
            "only_ceil",
            False,
            "Let pooling always round sizes up, and cut: older readers know no round_mode",
        ),
        Flag("model", "", "The net, .prototxt, that takes weights of PyTorch's"),
        Flag("map", "", "With --model: a file of lines LAYER NAME; by default equal names"),
    ),
    programs={},
    description="Make a Caffe net of an ONNX model, with its weights, and check it against ONNX"
    " Runtime:\n    caffe import x.onnx -o net.prototxt\nOr give the weights in a .safetensors"
    " file or a state_dict to a net:\n    caffe import x.safetensors --model net.prototxt --map"
    " names.txt -o net.caffemodel",
)

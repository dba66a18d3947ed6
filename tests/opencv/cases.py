"""Small nets, and what a program sees of them through `cv2.dnn` or `moka.opencv`.

Only cv2 and NumPy are needed, so that OpenCV 4 runs the same code (observe.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Seen = dict[str, Any]

CHAIN = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "x"
        convolution_param { num_output: 4 kernel_size: 3 group: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "x" top: "x" relu_param { negative_slope: 0.1 } }
layer { name: "max" type: "Pooling" bottom: "x" top: "max"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "max" top: "max" }
layer { name: "ave" type: "Pooling" bottom: "x" top: "ave"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "max" top: "scores"
        inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "scores" top: "prob" }
"""
MANY = """
input: "data" input_dim: 1 input_dim: 6 input_dim: 5 input_dim: 4
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 pad: 2 dilation: 2 group: 2
                            bias_term: false } }
layer { name: "prelu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "up" type: "Deconvolution" bottom: "conv" top: "up"
        convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 } }
layer { name: "elu" type: "ELU" bottom: "up" top: "elu" }
layer { name: "cut" type: "Crop" bottom: "elu" bottom: "conv" top: "cut"
        crop_param { axis: 2 offset: 3 offset: 2 } }
layer { name: "both" type: "Concat" bottom: "cut" bottom: "conv" top: "both" }
layer { name: "lrn" type: "LRN" bottom: "both" top: "lrn" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "near" type: "LRN" bottom: "both" top: "near"
        lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL } }
layer { name: "sum" type: "Eltwise" bottom: "lrn" bottom: "near" top: "sum"
        eltwise_param { coeff: 2 coeff: -1 } }
layer { name: "tanh" type: "TanH" bottom: "sum" top: "tanh" }
layer { name: "power" type: "Power" bottom: "tanh" top: "power"
        power_param { power: 2 scale: 3 shift: 1 } }
layer { name: "parts" type: "Slice" bottom: "power" top: "a" top: "b" }
layer { name: "times" type: "Eltwise" bottom: "a" bottom: "b" top: "times"
        eltwise_param { operation: PROD } }
layer { name: "sig" type: "Sigmoid" bottom: "times" top: "times" }
layer { name: "turn" type: "Permute" bottom: "times" top: "turn"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "rows" type: "Reshape" bottom: "turn" top: "rows"
        reshape_param { shape { dim: 0 dim: -1 dim: 5 } } }
layer { name: "soft" type: "Softmax" bottom: "rows" top: "soft" softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "soft" top: "flat" }
"""
SSD = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "norm" type: "Normalize" bottom: "c1" top: "norm"
        norm_param { across_spatial: false channel_shared: false } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf"
        convolution_param { num_output: 12 kernel_size: 3 pad: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_perm" top: "conf_rows"
        reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_soft"
        softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_soft" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "norm" bottom: "data" top: "prior"
        prior_box_param { min_size: 4 max_size: 7 aspect_ratio: 2 flip: true variance: 0.1
                          variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior"
        top: "found" detection_output_param { num_classes: 3 share_location: true
          background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.75
          nms_param { nms_threshold: 0.45 top_k: 50 } } }
"""
TWO = """
layer { name: "image" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "info" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "same" type: "Power" bottom: "data" top: "image_out" }
layer { name: "size" type: "Power" bottom: "im_info" top: "info_out" power_param { scale: 2 } }
"""
BOXES = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 2 dim: 8 } } }
layer { name: "parts" type: "Slice" bottom: "data" top: "a" top: "b" top: "c"
        slice_param { axis: 1 } }
layer { name: "loc" type: "Reshape" bottom: "a" top: "loc"
        reshape_param { shape { dim: 1 dim: 16 } } }
layer { name: "halves" type: "Slice" bottom: "b" top: "b1" top: "b2" slice_param { axis: 2 } }
layer { name: "conf" type: "Flatten" bottom: "b1" top: "conf" }
layer { name: "rest" type: "Silence" bottom: "b2" }
layer { name: "half" type: "Reshape" bottom: "c" top: "half"
        reshape_param { shape { dim: 1 dim: 2 dim: -1 } } }
layer { name: "prior" type: "Concat" bottom: "half" bottom: "half" top: "prior"
        concat_param { axis: 2 } }
layer { name: "det" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "det"
        detection_output_param { num_classes: 2 share_location: true
          background_label_id: 0 code_type: CORNER keep_top_k: 5
          confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 10 } } }
"""
TWICE = """
input: "data" input_shape { dim: 2 dim: 3 }
layers { name: "act" type: RELU bottom: "data" top: "y" }
layers { name: "act" type: SIGMOID bottom: "y" top: "y" }
layers { name: "last" type: POWER bottom: "y" top: "z" power_param { shift: 1 } }
"""
NETS = {"chain": CHAIN, "many": MANY, "ssd": SSD, "two": TWO, "boxes": BOXES, "twice": TWICE}


def numbers(*shape: int, seed: int = 1) -> Any:
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def photo(height: int, width: int) -> Any:
    return np.random.RandomState(3).randint(0, 256, (height, width, 3)).astype(np.uint8)


def read(dnn: Any, folder: Path, name: str) -> Any:
    model = folder / f"{name}.caffemodel"
    net = dnn.readNetFromCaffe(
        str(folder / f"{name}.prototxt"), str(model) if model.exists() else ""
    )
    net.enableFusion(False)  # with fusion, OpenCV returns wrong arrays inside a fused chain
    net.enableWinograd(False)
    return net


def structure(net: Any, shape: tuple[int, ...]) -> Seen:
    """What can be asked without running it."""
    ids = range(len(net.getLayerNames()) + 1)
    _, taken, made = net.getLayersShapes(shape)
    return {
        "names": net.getLayerNames(),
        "types": net.getLayerTypes(),
        "ends": net.getUnconnectedOutLayersNames(),
        "end numbers": net.getUnconnectedOutLayers(),
        "ids": [net.getLayerId(name) for name in ("_input", *net.getLayerNames(), "nobody")],
        "of each layer": [f"{net.getLayer(i).name} {net.getLayer(i).type}" for i in ids],
        "counts": [net.getLayersCount(kind) for kind in ("Convolution", "ReLU", "Nothing")],
        "flops": [net.getFLOPS(shape), *(net.getFLOPS(i, shape) for i in ids)],
        "memory": [
            list(net.getMemoryConsumption(shape)),
            *(list(net.getMemoryConsumption(i, shape)) for i in ids),
        ],
        "shapes": [
            str([tuple(int(n) for n in shape) for shape in shapes]) for shapes in (*taken, *made)
        ],
        **{f"blob {i} {k}": blob for i in ids for k, blob in enumerate(net.getLayer(i).blobs)},
    }


def see_chain(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "chain")
    x = numbers(1, 3, 9, 9)
    seen = structure(net, (1, 3, 9, 9))
    net.setInput(x)
    seen["out"] = net.forward()
    seen.update({name: net.forward(name) for name in net.getLayerNames()})
    seen["kinds"] = [
        str(type(value))
        for value in (
            net.forward("fc"), net.forward(["fc"]), net.forward(["prob", "ave"]),
            net.forward(None, "fc"), net.forwardAndRetrieve(["fc"])[0],
            net.forward(outputName="fc"), net.forward(outBlobNames=["fc"]), net.empty(),
            net.getPerfProfile()[0],
        )
    ]  # fmt: skip
    seen["several 0"], seen["several 1"] = net.forward(["ave", "prob"])
    seen["ticks"] = net.getPerfProfile()[1].shape
    net.setInput(numbers(3, 3, 9, 9))
    seen["batch"] = net.forward()
    net.setInput(numbers(2, 3, 15, 12))
    seen["other size"] = net.forward("ave")
    net.setInput(photo(9, 9).transpose(2, 0, 1)[None], "data", 0.02, (104, 117, 123))
    seen["bytes"] = net.forward()
    seen["one mean"] = one_mean(read(dnn, folder, "chain"), x)
    fresh = read(dnn, folder, "chain")
    fresh.setParam("x", 1, np.ones((4, 1), np.float32))
    seen["param"] = fresh.getParam(1, 1)
    blobs = list(fresh.getLayer("scale").blobs)
    fresh.getLayer("scale").blobs = [np.full((1, 4), 2.5, np.float32), blobs[1]]
    fresh.setInput(x)
    seen["new bias"] = fresh.forward("x")
    seen["new scale"] = fresh.forward("scale")
    return seen


def one_mean(net: Any, x: Any) -> Any:
    net.setInput(x.astype(np.float64), "", 2.0, 1.5)
    return net.forward("max")


def see_many(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "many")
    net.setInput(numbers(2, 6, 5, 4))
    seen = {name: net.forward(name) for name in net.getLayerNames()}
    parts = net.forwardAndRetrieve(["parts", "up"])
    seen.update({"part 0": parts[0][0], "part 1": parts[0][1], "of up": parts[1][0]})
    return {**structure(net, (1, 6, 5, 4)), **seen}


def see_ssd(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "ssd")
    net.setInput(numbers(1, 3, 16, 16))
    seen = {"one": net.forward(), "prior": net.forward("prior"), "norm": net.forward("norm")}
    net.setInput(numbers(2, 3, 16, 16, seed=5))
    seen["batch"] = net.forward("found")
    net.setInput(np.zeros((2, 3, 16, 16), np.float32))
    seen["nothing"] = net.forward()
    model = dnn.DetectionModel(net)
    model.setInputParams(1 / 64, (16, 16), (127, 127, 127), swapRB=True)
    frame = photo(30, 40)
    seen["predicted"] = model.predict(frame)[0]
    for least in (0.1, 0.8):
        for k, values in enumerate(model.detect(frame, least)):
            seen[f"detected {least} {k}"] = values
    seen["above all"] = [len(values) for values in model.detect(frame, 1.1)]
    return {**structure(net, (1, 3, 16, 16)), **seen}


def see_two(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "two")
    seen: Seen = {"ends": net.getUnconnectedOutLayersNames()}
    seen["inputs"] = [net.getLayer(0).outputNameToIndex(n) for n in ("data", "im_info", "info")]
    seen["flops"] = net.getFLOPS([(1, 3, 4, 4), (1, 3)])
    model = dnn.Model(net)
    frame = photo(6, 5)
    seen["own size"] = model.predict(frame)[0]
    model.setInputScale(0.5)
    seen["scaled"] = model.predict(frame)[0]
    model.setInputScale((1, 10, 100))
    model.setInputSwapRB(True)
    seen["scale each"] = model.predict(frame)[0]
    model.setInputParams(0.5, (4, 3), (1, 2, 3), True, True)
    seen["params 0"], seen["params 1"] = model.predict(frame)
    model.setInputMean(7)
    model.setOutputNames(["same"])
    seen["mean"] = model.predict(frame)[0]
    classes = dnn.ClassificationModel(net)
    classes.setInputSize(3, 2)
    classes.setOutputNames(["size"])
    seen["best"] = classes.classify(frame)
    classes.setEnableSoftmaxPostProcessing(True)
    seen["softmax"] = classes.classify(frame)
    return seen


def see_boxes(dnn: Any, folder: Path) -> Seen:
    image = np.zeros((2, 8, 3), np.float32)
    corners = [.1, .1, .5, .6, 1, 1, 3, 4, .2, .2, .9, 2.5, -2, 1, 2.4, 1.2]  # fmt: skip
    image[:, :, 0] = np.reshape(corners, (2, 8))
    image[0, :, 1] = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
    image[1, :, 2] = 1
    model = dnn.DetectionModel(read(dnn, folder, "boxes"))
    model.setOutputNames(["det"])
    seen: Seen = {"rows": model.predict(image)[0]}
    for least in (0.1, 0.75):
        for k, values in enumerate(model.detect(image, least)):
            seen[f"detected {least} {k}"] = values
    return seen


def see_twice(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "twice")
    net.setInput(numbers(2, 3))
    return {name: net.forward(name) for name in ("", "act", "act_1", "last")}


SEE: dict[str, Callable[[Any, Path], Seen]] = {
    "chain": see_chain,
    "many": see_many,
    "ssd": see_ssd,
    "two": see_two,
    "boxes": see_boxes,
    "twice": see_twice,
}

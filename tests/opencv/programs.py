"""What programs do with `readNetFromCaffe`: the lines that their authors wrote around nets, on the
small ones of program_nets.py. Like cases.py, for `cv2.dnn` and `moka.opencv` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from tests.opencv.cases import Seen, numbers, photo
from tests.opencv.program_nets import PLATES


def read(dnn: Any, folder: Path, name: str) -> Any:
    file = str(folder / name)
    return dnn.readNetFromCaffe(f"{file}.prototxt", f"{file}.caffemodel")


def see_faces(dnn: Any, folder: Path) -> Seen:
    """OpenCV's face detector, in the lines of a thousand webcam programs."""
    net = read(dnn, folder, "faces")
    frame = photo(90, 120)
    h, w = frame.shape[:2]
    blob = dnn.blobFromImage(cv2.resize(frame, (300, 300)), 1 / 64, (300, 300), (104, 177, 123))
    net.setInput(blob)
    detections = net.forward()
    boxes = []
    for i in range(detections.shape[2]):
        confidence = detections[0, 0, i, 2]
        if confidence < 0.6:
            continue
        box = detections[0, 0, i, 3:7] * np.array([w, h, w, h])
        boxes.append(box.astype(int))
    masked = detections[0, 0, detections[0, 0, :, 2] > 0.6, 3:7]
    return {"rows": detections, "boxes": np.array(boxes), "masked": masked}


def see_mobilenet_ssd(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "mobilenet_ssd")
    frame = photo(100, 80)
    blob = dnn.blobFromImage(cv2.resize(frame, (300, 300)), 0.007843, (300, 300), 127.5)
    net.setInput(blob)
    detections = net.forward()
    swapped = cv2.dnn.blobFromImage(
        frame, scalefactor=0.007843, size=(300, 300), mean=(127.5, 127.5, 127.5), swapRB=True
    )
    net.setInput(swapped)
    names = net.getUnconnectedOutLayersNames()
    model = dnn.DetectionModel(net)
    model.setInputSize(300, 300)
    model.setInputScale(1.0 / 127.5)
    model.setInputMean((127.5, 127.5, 127.5))
    model.setInputSwapRB(True)
    classes, scores, boxes = model.detect(frame, confThreshold=0.3)
    return {
        "rows": detections, "again": net.forward(names)[0], "classes": classes, "scores": scores,
        "boxes": boxes,
    }  # fmt: skip


def see_pose(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "pose")
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    frame = photo(60, 80)
    height = 46
    width = int(height / frame.shape[0] * frame.shape[1])
    blob = dnn.blobFromImage(frame, 1.0 / 255, (width, height), (0, 0, 0), swapRB=False, crop=False)
    net.setInput(blob)
    output = net.forward()
    points = []
    for i in range(2):
        heat = cv2.resize(output[0, i, :, :], (frame.shape[1], frame.shape[0]))
        _, prob, _, point = cv2.minMaxLoc(heat)
        points.append((*point, round(prob, 3)))
    model = dnn.KeypointsModel(net)
    model.setInputParams(1 / 255, (width, height))
    few = dnn.KeypointsModel(net)
    few.setInputParams(1 / 255, (width, height))
    return {
        "output": output, "points": np.array(points, float), "estimated": model.estimate(frame),
        "above": few.estimate(frame, 1.6), "branch": net.forward("Mconv1_stage2_L1"),
    }  # fmt: skip


def see_ages(dnn: Any, folder: Path) -> Seen:
    net = dnn.readNet(str(folder / "ages.caffemodel"), str(folder / "ages.prototxt"))
    face = photo(50, 40)
    means = (78.4263377603, 87.7689143744, 114.895847746)
    blob = dnn.blobFromImage(face, 1.0, (227, 227), means, swapRB=False)
    net.setInput(blob)
    guesses = net.forward()
    several = dnn.blobFromImages([face, face[::-1]], 1 / 255, (227, 227), means)
    net.setInput(several)
    return {"guesses": guesses, "best": guesses[0].argmax(), "several": net.forward()}


def see_colors(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "colors")
    pts = numbers(2, 7, seed=4).reshape(2, 7, 1, 1)
    class8 = net.getLayerId("class8_ab")
    conv8 = net.getLayerId("conv8_313_rh")
    net.getLayer(class8).blobs = [pts.astype("float32")]
    net.getLayer(conv8).blobs = [np.full([1, 7], 2.606, dtype="float32")]
    scaled = photo(40, 60).astype("float32") / 255.0
    lab = cv2.cvtColor(scaled, cv2.COLOR_BGR2LAB)
    lightness = cv2.split(cv2.resize(lab, (224, 224)))[0] - 50
    net.setInput(dnn.blobFromImage(lightness / 50))
    ab = net.forward()[0, :, :, :].transpose((1, 2, 0))
    return {"ab": ab, "again": net.forward("class8_ab"), "ids": [class8, conv8],
            "blobs": net.getLayer("class8_ab").blobs[0]}  # fmt: skip


class CropLayer:
    """The layer that programs with HED's net register."""

    def __init__(self, params: Any, blobs: Any) -> None:
        self.xstart = self.xend = self.ystart = self.yend = 0

    def getMemoryShapes(self, inputs: Any) -> Any:
        given, target = inputs[0], inputs[1]
        batch, channels = given[0], given[1]
        height, width = target[2], target[3]
        self.ystart = (given[2] - target[2]) // 2
        self.xstart = (given[3] - target[3]) // 2
        self.yend = self.ystart + height
        self.xend = self.xstart + width
        return [[batch, channels, height, width]]

    def forward(self, inputs: Any) -> Any:
        return [inputs[0][:, :, self.ystart : self.yend, self.xstart : self.xend]]


@contextmanager
def registered(dnn: Any, kind: str, layer: Any) -> Iterator[None]:
    """The class computes layers of this type for a while."""
    home = dnn if hasattr(dnn, "dnn_registerLayer") else cv2
    home.dnn_registerLayer(kind, layer)
    yield
    home.dnn_unregisterLayer(kind)


def see_edges(dnn: Any, folder: Path) -> Seen:
    seen: Seen = {}
    frame = photo(36, 50)
    blob = dnn.blobFromImage(
        frame, scalefactor=1.0 / 255, size=(50, 36),
        mean=(104.00698793, 116.66876762, 122.67891434), swapRB=False, crop=False,
    )  # fmt: skip
    with registered(dnn, "Crop", CropLayer):
        net = read(dnn, folder, "edges")
        net.setInput(blob)
        out = net.forward()
        seen["edges"] = out
        seen["picture"] = (255 * cv2.resize(out[0, 0], (50, 36))).round()
        net.setInput(blob[:, :, :20, :31])
        seen["smaller"] = net.forward()
        seen["side"] = net.forward("sigmoid-dsn1")
    late = read(dnn, folder, "edges")
    with registered(dnn, "Crop", CropLayer):
        late.setInput(blob)
        seen["registered late"] = late.forward()
    native = read(dnn, folder, "edges")
    native.setInput(blob)
    seen["without"] = native.forward()
    return seen


class Weighted:
    """A layer with options and learned arrays, which tells what it is given."""

    seen: ClassVar[Seen] = {}

    def __init__(self, params: Any, blobs: Any) -> None:
        self.blobs = blobs
        Weighted.seen = {
            "params": str(sorted(params.items())),
            "blob shapes": str([tuple(blob.shape) for blob in blobs]),
        }

    def getMemoryShapes(self, inputs: Any) -> Any:
        return [[inputs[0][0], self.blobs[0].shape[0]]]

    def forward(self, inputs: Any) -> Any:
        x = inputs[0].reshape(len(inputs[0]), -1)
        return [x @ self.blobs[0].T - self.blobs[1].reshape(1, -1)]


def see_own_layer(dnn: Any, folder: Path) -> Seen:
    blob = numbers(2, 3, 224, 224)
    with registered(dnn, "InnerProduct", Weighted):
        net = read(dnn, folder, "inception")
        net.setInput(blob)
        seen = {"scores": net.forward("loss3/classifier"), **Weighted.seen}
    with registered(dnn, "Pooling", Pooled):
        net = read(dnn, folder, "mtcnn")
        net.setInput(numbers(1, 3, 20, 24))
        seen |= {"pooled": net.forward("pool1"), "pooling params": Pooled.seen}
    return seen


class Pooled:
    """The maximum of squares, by an option of the prototxt."""

    seen = ""

    def __init__(self, params: Any, blobs: Any) -> None:
        self.size = params["kernel_size"]
        Pooled.seen = str(sorted(params.items()))

    def getMemoryShapes(self, inputs: Any) -> Any:
        n, c, h, w = inputs[0]
        return [(n, c, h // self.size, w // self.size)]

    def forward(self, inputs: Any) -> Any:
        n, c, h, w = inputs[0].shape
        s = self.size
        cut = inputs[0][:, :, : h // s * s, : w // s * s]
        return [cut.reshape(n, c, h // s, s, w // s, s).max((3, 5))]


def see_text_boxes(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "text_boxes")
    net.setInput(
        dnn.blobFromImage(photo(64, 64), 1 / 2000, (64, 64), (104, 117, 123), False, False)
    )
    rows = net.forward()
    found = [row for row in rows[0, 0] if row[2] > 0.45]
    boxes = [[*(row[3:5] * 64), *((row[5:7] - row[3:5]) * 64)] for row in found]
    chosen = cv2.dnn.NMSBoxes(boxes, [float(row[2]) for row in found], 0.5, 0.4)
    return {"rows": rows, "boxes": np.array(boxes), "chosen": chosen}


def see_inception(dnn: Any, folder: Path) -> Seen:
    net = dnn.readNetFromCaffe(
        bufferProto=np.fromfile(folder / "inception.prototxt", np.uint8),
        bufferModel=np.fromfile(folder / "inception.caffemodel", np.uint8),
    )
    image = photo(256, 240)
    net.setInput(dnn.blobFromImage(image, 1 / 99, (224, 224), (104, 117, 123)), "data")
    preds = net.forward("prob")
    ticks, _ = net.getPerfProfile()
    idxs = np.argsort(preds[0])[::-1][:5]
    counts = {kind: net.getLayersCount(kind) for kind in net.getLayerTypes()}
    _, ins, outs = net.getLayersShapes([1, 3, 224, 224])
    model = dnn.ClassificationModel(net)
    model.setInputParams(1 / 99, (224, 224), (104, 117, 123), crop=True)
    best, score = model.classify(image)
    return {
        "preds": preds, "best five": idxs, "ticks": ticks > 0, "counts": str(counts),
        "flat": [shape.flatten() for shape in (outs[0][0], outs[1][0], ins[2][0])],
        "class": best, "score": score,
        "flops": net.getFLOPS([1, 3, 224, 224]),
        "memory": net.getMemoryConsumption([1, 3, 224, 224]),
    }  # fmt: skip


def see_srcnn(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "srcnn")
    y = cv2.split(cv2.cvtColor(photo(40, 50), cv2.COLOR_BGR2YCrCb))[0]
    y = cv2.resize(y, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    net.setInput(dnn.blobFromImage(y, 1 / 255.0))
    out = net.forward()
    return {"out": out, "first": net.forward("conv1").shape}


def see_fcn(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "fcn")
    frame = photo(45, 38)
    net.setInput(dnn.blobFromImage(frame, 1 / 64, mean=(104, 117, 123)))
    score = net.forward()
    model = dnn.SegmentationModel(net)
    model.setInputParams(1 / 64, (38, 45), (104, 117, 123))
    mask = model.segment(frame)
    return {"score": score, "mask": mask}


def see_mtcnn(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "mtcnn")
    image = (photo(48, 60).astype(np.float32) - 127.5) * 0.0078125
    seen: Seen = {}
    for scale in (1.0, 0.709, 0.503):
        small = cv2.resize(image, (int(60 * scale), int(48 * scale)))
        net.setInput(np.transpose(small, (2, 1, 0))[np.newaxis])
        out = net.forward(["conv4-2", "prob1"])
        seen[f"boxes {scale}"], seen[f"prob {scale}"] = out
    seen["ends"] = net.forward(net.getUnconnectedOutLayersNames())[1]
    return seen


def see_plates(dnn: Any, folder: Path) -> Seen:
    """An embedding of a face: SphereFace's kind of net, and the cosine of two."""
    net = read(dnn, folder, "plates")
    vectors = []
    for seed in (0, 1):
        image = np.roll(photo(112, 96), seed, 0)
        net.setInput(dnn.blobFromImage(image, 1 / 128, (96, 112), (127.5, 127.5, 127.5), True))
        vectors.append(net.forward("fc5").flatten())
    a, b = (vector / np.linalg.norm(vector) for vector in vectors)
    return {"vectors": np.array(vectors), "cosine": a @ b}


def see_rcnn(dnn: Any, folder: Path) -> Seen:
    net = read(dnn, folder, "rcnn")
    frame = photo(48, 64)
    net.setInput(
        dnn.blobFromImage(frame, 1 / 2000, (64, 48), (102.9801, 115.9465, 122.7717)), "data"
    )
    net.setInput(np.array([[48, 64, 1.6]], np.float32), "im_info")
    assert (
        net.forward("proposal").shape[1] == 5
    )  # OpenCV keeps boxes below min_size, Caffe does not
    return {"scores": net.forward("rpn_cls_prob_reshape"), "boxes": net.forward("rpn_bbox_pred")}


def see_inputs(dnn: Any, folder: Path) -> Seen:
    """Names and shapes of inputs that a program gives itself."""
    text = (folder / "plates.prototxt").read_text().replace(PLATES.split("\n")[1], 'input: "data"')
    net = dnn.readNetFromCaffe(
        bufferProto=np.frombuffer(text.encode(), np.uint8),
        bufferModel=np.fromfile(folder / "plates.caffemodel", np.uint8),
    )
    net.setInputShape("data", (1, 3, 112, 96))
    net.setInputsNames(["picture"])
    net.setInput(numbers(1, 3, 112, 96), "picture")
    seen = {"out": net.forward()}
    net.setInput(numbers(2, 3, 112, 96))
    return {**seen, "two": net.forward()}


SEE: dict[str, Callable[[Any, Path], Seen]] = {
    "faces": see_faces, "mobilenet ssd": see_mobilenet_ssd, "pose": see_pose, "ages": see_ages,
    "colors": see_colors, "edges": see_edges, "own layer": see_own_layer,
    "text boxes": see_text_boxes, "inception": see_inception, "srcnn": see_srcnn, "fcn": see_fcn,
    "mtcnn": see_mtcnn, "plates": see_plates, "rcnn": see_rcnn, "inputs": see_inputs,
}  # fmt: skip

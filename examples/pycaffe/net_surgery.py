#!/usr/bin/env python3
"""Edit a net: write its filters by hand, and cast its inner products into convolutions.

    caffe download bvlc_reference_caffenet              once
    python examples/pycaffe/net_surgery.py [IMAGE]      default: a flower

Draws filtered.png, what three filters written by hand make of the image, and heat_map.png: a net
that was made to classify one crop, cast into a fully convolutional one, looks everywhere on a
larger image in a single pass. The cast net is kept too: full_conv.prototxt, full_conv.caffemodel.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zoo
from google.protobuf import text_format
from numpy.typing import NDArray

import caffe
import moka
from caffe import layers as L
from caffe.proto import caffe_pb2
from moka import viz
from moka.draw.figures import drawing, save

Image = NDArray[np.float32]  # (H, W, 3), RGB, 0 to 1


def filter_by_hand(image: Image, out: Path) -> None:
    """A net of one convolution whose weights are set here: a blur, and edges in two directions."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, *image.shape[:2]]))
    n.conv = L.Convolution(n.data, num_output=3, kernel_size=5, pad=2)
    (out / "filters.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(out / "filters.prototxt"), caffe.TEST)

    weights, bias = (blob.data for blob in net.params["conv"])
    y, x = np.mgrid[-2:3, -2:3]
    blur = np.exp(-(x**2 + y**2) / 2)
    blur /= blur.sum()
    weights[:, 0] = blur, x * blur, y * blur
    bias[:] = 0, 0.5, 0.5  # no edge is gray
    gray = image.mean(2)
    net.blobs["data"].data[0, 0] = gray
    net.forward()
    viz.feature_maps(net.blobs["conv"].data[0], out / "filtered.png", image=gray[None])


def cast(net: caffe.Net, model: str) -> caffe_pb2.NetParameter:
    """The net's description with a convolution for each inner product, named <name>-conv.

    Its kernel is as large as what the inner product sees: that is one place to be, and on a larger
    image there are many.
    """
    description = caffe_pb2.NetParameter()
    text_format.Parse(Path(model).read_text(), description)
    for layer in description.layer:
        if layer.type == "InnerProduct":
            height, width = (*net.blobs[layer.bottom[0]].data.shape[2:], 1, 1)[:2]
            convolution = caffe_pb2.ConvolutionParameter(
                num_output=layer.inner_product_param.num_output, kernel_h=height, kernel_w=width
            )
            layer.name += "-conv"
            layer.type = "Convolution"
            layer.ClearField("inner_product_param")
            layer.convolution_param.CopyFrom(convolution)
    return description


def transplant(net: caffe.Net, full: caffe.Net) -> None:
    """Give the cast net the weights of the other: the same numbers in other shapes."""
    for name, blobs in net.params.items():
        into = full.params.get(f"{name}-conv") or full.params[name]
        for given, taken in zip(blobs, into, strict=True):
            taken.data[...] = given.data.reshape(taken.data.shape)


def fully_convolutional(model: str, weights: str, out: Path) -> caffe.Net:
    """A net cast into convolutions; it is also written to `out`."""
    net = caffe.Net(model, caffe.TEST, weights=weights)
    file = out / "full_conv.prototxt"
    file.write_text(str(cast(net, model)))
    full = caffe.Net(str(file), caffe.TEST)
    transplant(net, full)
    full.save(str(out / "full_conv.caffemodel"))
    return full


def look_everywhere(full: caffe.Net, image: Image) -> NDArray[np.float32]:
    """The probabilities (classes, h, w) of every place of an image: what the original would say of
    a crop there, but that padding lies around the image now, not around each crop."""
    name = full.inputs[0]
    full.blobs[name].reshape(1, 3, *image.shape[:2])  # the size that the transformer is to make
    full.blobs[name].data[0] = zoo.transformer(full).preprocess(name, image)
    return full.forward()[full.outputs[0]][0].copy()


def draw_heat_map(image: Image, heat: NDArray[np.float32], title: str, path: Path) -> None:
    """An image beside the probability (h, w) of one class over it."""
    with drawing(9, 3.6) as figure:
        left, right = figure.subplots(1, 2)
        left.imshow(image)
        left.set_title("image")
        shown = right.imshow(heat, vmin=0, interpolation="nearest")
        right.set_title(title)
        figure.colorbar(shown, ax=right, label="probability", shrink=0.8)
        for ax in (left, right):
            ax.set_axis_off()
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser("net_surgery", __doc__, "bvlc_reference_caffenet/deploy.prototxt")
    parser.add_argument("image", nargs="?", default=zoo.sample_image("flower"))
    parser.add_argument("--side", type=int, default=451, help="of the larger image, in pixels")
    parser.add_argument(
        "--class", type=int, dest="label", metavar="N", help="default: the likeliest"
    )
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        image = caffe.io.load_image(given.image)
        image = caffe.io.resize_image(image, (given.side, given.side))
        filter_by_hand(image, given.out)
        full = fully_convolutional(str(given.model), weights, given.out)
        chances = look_everywhere(full, image)
    except (moka.MokaError, OSError) as error:
        sys.exit(f"net_surgery.py: {error}")
    label = given.label if given.label is not None else int(chances.max((1, 2)).argmax())
    print("The likeliest class of each place:", chances.argmax(0), sep="\n")
    draw_heat_map(image, chances[label], f"class {label}", given.out / "heat_map.png")
    print(f"The pictures are in {given.out}")


if __name__ == "__main__":
    main()

"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012), and Caffe's own CaffeNet with its
relatives: it normalizes after pooling, and begins with larger biases."""

from __future__ import annotations

from typing import Any

from moka.models.model import TRAIN, WEIGHT_AND_BIAS, ReferenceModel, ilsvrc12, nothing
from moka.net.spec import NetSpec, Top, layers, params
from moka.schema import caffe_pb2

MEAN = "data/ilsvrc12/imagenet_mean.binaryproto"
CROP = 227  # pixels


def _filled(std: float, bias: float) -> dict[str, Any]:
    """Gaussian weights, constant biases, both learned."""
    return dict(
        param=WEIGHT_AND_BIAS,
        weight_filler=dict(type="gaussian", std=std),
        bias_filler=dict(type="constant", value=bias),
    )


def _convolution(n: NetSpec, x: Top, i: int, bias: float, **fields: Any) -> Top:
    """conv<i> and relu<i>."""
    n[f"conv{i}"] = layers.Convolution(x, **fields, **_filled(0.01, bias))
    n[f"relu{i}"] = layers.ReLU(n[f"conv{i}"], in_place=True)
    return n[f"relu{i}"]


def pool_and_norm(n: NetSpec, x: Top, i: int, norm_first: bool) -> Top:
    """pool<i> and norm<i>, in this order or the other."""

    def pool(x: Top) -> Top:
        n[f"pool{i}"] = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
        return n[f"pool{i}"]

    def norm(x: Top) -> Top:
        n[f"norm{i}"] = layers.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
        return n[f"norm{i}"]

    return pool(norm(x)) if norm_first else norm(pool(x))


def hidden(n: NetSpec, x: Top, i: int, bias: float) -> Top:
    """fc<i>, relu<i> and drop<i>."""
    n[f"fc{i}"] = layers.InnerProduct(x, num_output=4096, **_filled(0.005, bias))
    n[f"relu{i}"] = layers.ReLU(n[f"fc{i}"], in_place=True)
    n[f"drop{i}"] = layers.Dropout(n[f"relu{i}"], dropout_ratio=0.5, in_place=True)
    return n[f"drop{i}"]


def features(n: NetSpec, *, norm_first: bool, bias: float) -> Top:
    """conv1 to fc7.

    Args:
        bias: what those biases begin with that are to begin above zero.
    """
    x = _convolution(n, n.data, 1, 0, num_output=96, kernel_size=11, stride=4)
    x = pool_and_norm(n, x, 1, norm_first)
    x = _convolution(n, x, 2, bias, num_output=256, pad=2, kernel_size=5, group=2)
    x = pool_and_norm(n, x, 2, norm_first)
    x = _convolution(n, x, 3, 0, num_output=384, pad=1, kernel_size=3)
    x = _convolution(n, x, 4, bias, num_output=384, pad=1, kernel_size=3, group=2)
    x = _convolution(n, x, 5, bias, num_output=256, pad=1, kernel_size=3, group=2)
    n.pool5 = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
    return hidden(n, hidden(n, n.pool5, 6, bias), 7, bias)


def alexnet(n: NetSpec, deploy: bool) -> Top:
    n.fc8 = layers.InnerProduct(
        features(n, norm_first=True, bias=0.1), num_output=1000, **_filled(0.01, 0)
    )
    return n.fc8


def caffenet(n: NetSpec, deploy: bool) -> Top:
    n.fc8 = layers.InnerProduct(
        features(n, norm_first=False, bias=1), num_output=1000, **_filled(0.01, 0)
    )
    return n.fc8


def rcnn(n: NetSpec, deploy: bool) -> Top:
    n["fc-rcnn"] = layers.InnerProduct(features(n, norm_first=False, bias=1), num_output=200)
    return n["fc-rcnn"]


def flickr_style(n: NetSpec, deploy: bool) -> Top:
    """CaffeNet with a new last layer, which learns ten times as fast."""
    fields = _filled(0.01, 0) | dict(
        param=[dict(lr_mult=10, decay_mult=1), dict(lr_mult=20, decay_mult=0)]
    )
    n.fc8_flickr = layers.InnerProduct(
        features(n, norm_first=False, bias=1), num_output=20, **fields
    )
    return n.fc8_flickr


def flickr_images(phase: caffe_pb2.Phase) -> tuple[Top, Top]:
    split = "train" if phase == TRAIN else "test"
    data, label = layers.ImageData(
        ntop=2,
        include=dict(phase=phase),
        transform_param=dict(mirror=phase == TRAIN, crop_size=CROP, mean_file=MEAN),
        source=f"data/flickr_style/{split}.txt",
        batch_size=50,
        new_height=256,
        new_width=256,
    )
    return data, label


SOLVER = dict(
    test_iter=1000,
    test_interval=1000,
    base_lr=0.01,
    lr_policy="step",
    gamma=0.1,
    stepsize=100000,
    display=20,
    max_iter=450000,
    momentum=0.9,
    weight_decay=0.0005,
    snapshot=10000,
)
IMAGENET = ilsvrc12((256, 50), CROP, mean_file=MEAN)
MODELS = (
    ReferenceModel(
        "bvlc_alexnet",
        "AlexNet",
        "alexnet",
        alexnet,
        CROP,
        IMAGENET,
        SOLVER | dict(snapshot_prefix="models/bvlc_alexnet/caffe_alexnet_train"),
    ),
    ReferenceModel(
        "bvlc_reference_caffenet",
        "CaffeNet",
        "alexnet",
        caffenet,
        CROP,
        IMAGENET,
        SOLVER | dict(snapshot_prefix="models/bvlc_reference_caffenet/caffenet_train"),
    ),
    ReferenceModel(
        "bvlc_reference_rcnn_ilsvrc13",
        "R-CNN-ilsvrc13",
        "alexnet",
        rcnn,
        CROP,
        deploy_ending=nothing,
    ),
    ReferenceModel(
        "finetune_flickr_style",
        "FlickrStyleCaffeNet",
        "alexnet",
        flickr_style,
        CROP,
        flickr_images,
        SOLVER
        | dict(
            test_iter=100,
            base_lr=0.001,
            stepsize=20000,
            max_iter=100000,
            snapshot_prefix="models/finetune_flickr_style/finetune_flickr_style",
        ),
    ),
)

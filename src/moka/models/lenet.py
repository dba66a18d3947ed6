"""LeNet for small images (LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998), as
Caffe trains it on MNIST: with max pooling and one ReLU."""

from __future__ import annotations

from moka.models.model import TRAIN, ReferenceModel
from moka.net.spec import NetSpec, Top, layers, params
from moka.schema import caffe_pb2

TRAINED = dict(
    param=[dict(lr_mult=1), dict(lr_mult=2)],
    weight_filler=dict(type="xavier"),
    bias_filler=dict(type="constant"),
)


def mnist(phase: caffe_pb2.Phase) -> tuple[Top, Top]:
    """MNIST's databases, as `create_mnist.sh` of Caffe calls them."""
    split, batch = ("train", 64) if phase == TRAIN else ("test", 100)
    data, label = layers.Data(
        ntop=2,
        include=dict(phase=phase),
        transform_param=dict(scale=1 / 256),
        source=f"examples/mnist/mnist_{split}_lmdb",
        batch_size=batch,
        backend=caffe_pb2.DataParameter.LMDB,
    )
    return data, label


def lenet(n: NetSpec, deploy: bool) -> Top:
    pooled = dict(pool=params.Pooling.MAX, kernel_size=2, stride=2)
    n.conv1 = layers.Convolution(n.data, num_output=20, kernel_size=5, **TRAINED)
    n.pool1 = layers.Pooling(n.conv1, **pooled)
    n.conv2 = layers.Convolution(n.pool1, num_output=50, kernel_size=5, **TRAINED)
    n.pool2 = layers.Pooling(n.conv2, **pooled)
    n.ip1 = layers.InnerProduct(n.pool2, num_output=500, **TRAINED)
    n.relu1 = layers.ReLU(n.ip1, in_place=True)
    n.ip2 = layers.InnerProduct(n.relu1, num_output=10, **TRAINED)
    return n.ip2


MODELS = (
    ReferenceModel(
        "lenet",
        "LeNet",
        "lenet",
        lenet,
        28,
        mnist,
        dict(
            test_iter=100,
            test_interval=500,
            display=100,
            base_lr=0.01,
            lr_policy="inv",
            gamma=0.0001,
            power=0.75,
            max_iter=10000,
            momentum=0.9,
            weight_decay=0.0005,
            snapshot=5000,
            snapshot_prefix="models/lenet/lenet_train",
        ),
        deploy_batch=64,
        channels=1,
    ),
)

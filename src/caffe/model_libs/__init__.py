"""`caffe.model_libs`: the nets and the detection head that SSD's training scripts are made of.

Those scripts begin with `from caffe.model_libs import *`. Arguments, defaults, layers, their names
and their order are those of SSD's Caffe (github.com/weiliu89/caffe, branch ssd), so its prototxts
and models fit. A function adds layers to a `caffe.NetSpec` and is told by name what they stand on;
`net[name]` is the top of the layer `name`. Shapes are for N images of H x W pixels.

    net = caffe.NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer("voc_lmdb", transform_param=augmentation)
    VGGNetBody(net, "data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    loc, conf, priors = CreateMultiBoxHead(
        net, num_classes=21, from_layers=["conv4_3", "fc7"], min_sizes=[30, 60], use_batchnorm=False
    )
    net.mbox_loss = L.MultiBoxLoss(loc, conf, priors, net.label, num_classes=21)
"""

import os

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.model_libs.annotated_data import CreateAnnotatedDataLayer
from caffe.model_libs.convolution import ConvBNLayer, UnpackVariable
from caffe.model_libs.inception import InceptionTower, InceptionV3Body
from caffe.model_libs.multibox import CreateMultiBoxHead
from caffe.model_libs.paths import check_if_exist, make_if_not_exist
from caffe.model_libs.resnet import ResBody, ResNet101Body, ResNet152Body
from caffe.model_libs.vgg import VGGNetBody
from caffe.model_libs.zf import ZFNetBody
from caffe.proto import caffe_pb2

__all__ = [
    "ConvBNLayer",
    "CreateAnnotatedDataLayer",
    "CreateMultiBoxHead",
    "InceptionTower",
    "InceptionV3Body",
    "L",
    "P",
    "ResBody",
    "ResNet101Body",
    "ResNet152Body",
    "UnpackVariable",
    "VGGNetBody",
    "ZFNetBody",
    "caffe",
    "caffe_pb2",
    "check_if_exist",
    "make_if_not_exist",
    "os",
]

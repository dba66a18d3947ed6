"""SSD's head (Liu et al., "SSD: Single shot multibox detector", ECCV 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe import layers as L
from caffe.model_libs.convolution import ConvBNLayer, Options
from caffe.net_spec import NetSpec, Top


def CreateMultiBoxHead(
    net: NetSpec,
    data_layer: str = "data",
    num_classes: int = 0,
    from_layers: Sequence[str] = (),
    use_objectness: bool = False,
    normalizations: Sequence[float] = (),
    use_batchnorm: bool = True,
    lr_mult: float = 1,
    use_scale: bool = True,
    min_sizes: Sequence[Any] = (),
    max_sizes: Sequence[Any] = (),
    prior_variance: Sequence[float] = (0.1,),
    aspect_ratios: Sequence[Any] = (),
    steps: Sequence[float] = (),
    img_height: int = 0,
    img_width: int = 0,
    share_location: bool = True,
    flip: bool = True,
    clip: bool = True,
    offset: float = 0.5,
    inter_layer_depth: Sequence[int] = (),
    kernel_size: int = 1,
    pad: int = 0,
    conf_postfix: str = "",
    loc_postfix: str = "",
    **bn_param: Any,
) -> list[Top]:
    """Add the layers that predict boxes and their classes on several maps.

    Returns the tops mbox_loc (N, 4 P), mbox_conf (N, num_classes P) and mbox_priorbox (1, 2, 4 P)
    for P prior boxes, and mbox_objectness (N, 2 P) if it is asked for.

    Args:
        data_layer: the images, whose size the prior boxes refer to.
        num_classes: classes, the background among them.
        from_layers: the maps. Arguments in the plural are lists with an item for each, or empty.
        use_objectness: predict whether there is an object, too.
        normalizations: the first scale of a Normalize layer on the map (<map>_norm); -1: no layer.
        use_batchnorm, lr_mult: of the convolutions; see `ConvBNLayer`.
        use_scale: changes nothing, as in SSD.
        min_sizes, max_sizes, aspect_ratios: of PriorBox; an item is a number or a list.
        prior_variance, clip, offset, flip: of PriorBox.
        steps: of PriorBox; 0: unset.
        img_height, img_width: the size of the images, if it is not that of `data_layer`.
        share_location: all classes share boxes; else mbox_loc is (N, 4 num_classes P).
        inter_layer_depth: an item: channels of a convolution between map and head (<map>_inter);
            0: no layer.
        kernel_size, pad: of the convolutions that predict.
        conf_postfix, loc_postfix: end the names of these convolutions, so that they start anew.
        bn_param: options of BatchNorm; see `ConvBNLayer`.

    Raises:
        ValueError: num_classes is missing, or a list has not an item for each map.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more, got {num_classes}.")
    _check_lengths(
        from_layers,
        min_sizes,
        max_sizes=max_sizes,
        aspect_ratios=aspect_ratios,
        normalizations=normalizations,
        steps=steps,
        inter_layer_depth=inter_layer_depth,
    )
    trained: Options = dict(use_bn=use_batchnorm, lr_mult=lr_mult, **bn_param)

    def predicted(bottom: str, name: str, num_output: int) -> Top:
        """A convolution's (N, num_output, H, W) as (N, H W num_output)."""
        size: Options = dict(kernel_size=kernel_size, pad=pad, stride=1)
        ConvBNLayer(net, bottom, name, use_relu=False, num_output=num_output, **size, **trained)
        net[f"{name}_perm"] = L.Permute(net[name], order=[0, 2, 3, 1])
        net[f"{name}_flat"] = L.Flatten(net[f"{name}_perm"], axis=1)
        return net[f"{name}_flat"]

    shared: Options = dict(clip=clip, variance=prior_variance, offset=offset)
    shared |= _image_size(img_height, img_width)
    offsets = 4 if share_location else 4 * num_classes
    parts: dict[str, list[Top]] = {"mbox_loc": [], "mbox_conf": [], "mbox_priorbox": []}
    if use_objectness:
        parts["mbox_objectness"] = []
    for i, source in enumerate(from_layers):
        name = source
        if normalizations and normalizations[i] != -1:
            name = f"{source}_norm"
            net[name] = _normalized(net[source], normalizations[i])
        if inter_layer_depth and inter_layer_depth[i] > 0:
            size: Options = dict(num_output=inter_layer_depth[i], kernel_size=3, pad=1, stride=1)
            ConvBNLayer(net, name, f"{name}_inter", use_relu=True, **size, **trained)
            name = f"{name}_inter"
        own = _box_sizes(_item(min_sizes, i), _item(max_sizes, i), _item(aspect_ratios, i), flip)
        boxes = _boxes_of_a_cell(own)
        if steps and steps[i]:
            own["step"] = steps[i]
        loc, conf = f"{name}_mbox_loc{loc_postfix}", f"{name}_mbox_conf{conf_postfix}"
        parts["mbox_loc"].append(predicted(name, loc, offsets * boxes))
        parts["mbox_conf"].append(predicted(name, conf, num_classes * boxes))
        prior = f"{name}_mbox_priorbox"
        net[prior] = L.PriorBox(net[name], net[data_layer], **own, **shared)
        parts["mbox_priorbox"].append(net[prior])
        if use_objectness:
            objectness = predicted(name, f"{name}_mbox_objectness", 2 * boxes)
            parts["mbox_objectness"].append(objectness)
    for part, tops in parts.items():
        net[part] = L.Concat(*tops, axis=2 if part == "mbox_priorbox" else 1)
    return [net[part] for part in parts]


def _check_lengths(
    from_layers: Sequence[str], min_sizes: Sequence[Any], **optional: Sequence[Any]
) -> None:
    given = {name: items for name, items in optional.items() if items}
    for name, items in dict(min_sizes=min_sizes, **given).items():
        if len(items) != len(from_layers):
            raise ValueError(f"{name} has {len(items)} items for {len(from_layers)} from_layers.")


def _normalized(bottom: Top, scale: float) -> Top:
    """A map whose pixels have this L2 norm over their channels, until the scale is trained."""
    filler = dict(type="constant", value=scale)
    return L.Normalize(bottom, scale_filler=filler, across_spatial=False, channel_shared=False)


def _item(values: Sequence[Any], i: int) -> list[Any]:
    """What a list says of a map, as a list; nothing if it is empty."""
    value = values[i] if values else []
    return list(value) if isinstance(value, list | tuple) else [value]


def _box_sizes(
    min_size: list[float], max_size: list[float], aspect_ratio: list[float], flip: bool
) -> Options:
    """The fields of PriorBox for the sizes and shapes of a map's boxes."""
    if max_size and len(max_size) != len(min_size):
        raise ValueError(f"max_sizes has {max_size} where min_sizes has {min_size}.")
    sizes: Options = dict(min_size=min_size)
    if max_size:
        sizes |= dict(max_size=max_size)
    if aspect_ratio:
        sizes |= dict(aspect_ratio=aspect_ratio, flip=flip)
    return sizes


def _boxes_of_a_cell(sizes: Options) -> int:
    """For each min_size a square, one more with max_size, and a box of each shape, or two."""
    squares = 2 if "max_size" in sizes else 1
    shapes = len(sizes.get("aspect_ratio", ())) * (2 if sizes.get("flip") else 1)
    return len(sizes["min_size"]) * (squares + shapes)


def _image_size(height: int, width: int) -> Options:
    """The fields of PriorBox for the size of the images, unless a side is 0."""
    if not (height and width):
        return {}
    return dict(img_size=height) if height == width else dict(img_h=height, img_w=width)

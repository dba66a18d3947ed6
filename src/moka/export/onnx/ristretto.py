"""Layers that compute with few bits: their rounding as nodes, around the usual operators."""

from __future__ import annotations

from collections.abc import Sequence

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.conv import over_batch_axes, slid
from moka.export.onnx.linear import product
from moka.export.onnx.table import exports
from moka.layers.conv import Convolution
from moka.layers.ristretto import (
    FRACTION,
    ConvolutionRistretto,
    DeconvolutionRistretto,
    FcRistretto,
    Quantized,
)


@exports(ConvolutionRistretto)
def export_convolution_ristretto(
    site: Site, layer: ConvolutionRistretto, *bottoms: Value
) -> list[str]:
    return _slid(site, layer, "Conv", bottoms)


@exports(DeconvolutionRistretto)
def export_deconvolution_ristretto(
    site: Site, layer: DeconvolutionRistretto, *bottoms: Value
) -> list[str]:
    return _slid(site, layer, "ConvTranspose", bottoms)


def _slid(
    site: Site,
    layer: ConvolutionRistretto | DeconvolutionRistretto,
    op: str,
    bottoms: Sequence[Value],
) -> list[str]:
    _check(layer)
    blobs = layer.quantize_parameters(layer.blobs)
    plain: Convolution = layer

    def compute(x: str) -> str:
        return _rounded_output(
            site, layer, slid(site, plain, op, _rounded(site, layer, x), blobs, layer.windows)
        )

    return [
        over_batch_axes(site, x, top, layer.channel_axis, compute)
        for x, top in zip(bottoms, site.tops, strict=True)
    ]


@exports(FcRistretto)
def export_fc_ristretto(site: Site, layer: FcRistretto, x: Value) -> str:
    _check(layer)
    x = x._replace(name=_rounded(site, layer, x.name))
    y = product(site, layer, x, layer.quantize_parameters(layer.blobs))
    return site.reshape(y._replace(name=_rounded_output(site, layer, y.name)), site.tops[0])


def _check(layer: Quantized) -> None:
    """Raise NetError if a layer's rounding has no form."""
    param = layer.config.quantization_param
    if param.precision == param.MINIFLOAT:
        raise NetError("cannot be exported: ONNX has no operator that makes floats of few bits.")
    if param.rounding_scheme == param.STOCHASTIC:
        raise NetError("cannot be exported: it rounds by chance, in testing too.")


def _rounded(site: Site, layer: Quantized, x: str) -> str:
    """A bottom as it is multiplied."""
    param = layer.config.quantization_param
    return _fixed_point(site, layer, x, param.bw_layer_in, param.fl_layer_in)


def _rounded_output(site: Site, layer: Quantized, y: str) -> str:
    param = layer.config.quantization_param
    return _fixed_point(site, layer, y, param.bw_layer_out, param.fl_layer_out)


def _fixed_point(site: Site, layer: Quantized, x: str, bits: int, fraction: Sequence[int]) -> str:
    """A multiple of 2^-fraction in so many bits; halves are rounded away from 0."""
    param = layer.config.quantization_param
    if param.precision == param.INTEGER_POWER_OF_2_WEIGHTS:
        return x
    unit, most = 2.0 ** -(fraction[0] if fraction else FRACTION), 2.0 ** (bits - 1)
    bounds = site.number(-most * unit), site.number((most - 1) * unit)
    steps = site.scaled(site.add("Clip", x, *bounds), 1 / unit)
    size = site.add("Floor", site.scaled(site.add("Abs", steps), 1.0, 0.5))
    return site.scaled(site.add("Mul", site.add("Sign", steps), size), unit)

"""Small nets of the families that people import, written in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def export(net: nn.Module, x: Tensor, file: Path, *, free_batch: bool = True) -> None:
    """Write a net as ONNX, for inference. A net so small is random in its statistics too."""
    torch.onnx.export(
        net.eval(),
        (x,),
        str(file),
        input_names=["data"],
        output_names=["out"],
        dynamic_axes={"data": {0: "batch"}} if free_batch else None,
        opset_version=17,
        dynamo=False,
    )


def with_random_statistics(net: nn.Module) -> nn.Module:
    """The net with means and variances as training leaves them."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def conv_bn(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(o),
    ]


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *inner: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.shortcut(x)


def resnet() -> nn.Module:
    def block(i: int, o: int, stride: int) -> list[nn.Module]:
        shortcut = nn.Sequential(*conv_bn(i, o, 1, stride)) if stride > 1 else None
        inner = [*conv_bn(i, o, 3, stride), nn.ReLU(), *conv_bn(o, o)]
        return [Residual(*inner, shortcut=shortcut), nn.ReLU()]

    return nn.Sequential(
        *conv_bn(3, 8, 7, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *block(8, 8, 1),
        *block(8, 12, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def resnext() -> nn.Module:
    """Bottlenecks with groups, and a stem without pooling."""
    inner = [*conv_bn(8, 8, 1), nn.ReLU(), *conv_bn(8, 8, groups=4), nn.ReLU(), *conv_bn(8, 8, 1)]
    return nn.Sequential(
        *conv_bn(3, 8, 3, 2), nn.ReLU(), Residual(*inner), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def mobilenet_v2() -> nn.Module:
    def block(i: int, o: int, stride: int) -> nn.Module:
        inner = [
            *conv_bn(i, 3 * i, 1), nn.ReLU6(), *conv_bn(3 * i, 3 * i, 3, stride, 3 * i),
            nn.ReLU6(), *conv_bn(3 * i, o, 1),
        ]  # fmt: skip
        return Residual(*inner) if stride == 1 and i == o else nn.Sequential(*inner)

    return nn.Sequential(
        *conv_bn(3, 8, 3, 2), nn.ReLU6(), block(8, 12, 2), block(12, 12, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, 5),
    )  # fmt: skip


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(),
            nn.Conv2d(4, channels, 1), nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.inner(x)


def mobilenet_v3() -> nn.Module:
    inner = [*conv_bn(8, 24, 1), nn.Hardswish(), *conv_bn(24, 24, 5, 1, 24), nn.Hardswish(),
             SqueezeExcite(24), *conv_bn(24, 8, 1)]  # fmt: skip
    return nn.Sequential(
        *conv_bn(3, 8, 3, 2), nn.Hardswish(), Residual(*inner), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 16), nn.Hardswish(), nn.Linear(16, 5),
    )  # fmt: skip


class EfficientBlock(nn.Module):
    """SiLU, and gates by a mean over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(*conv_bn(8, 16, 1), nn.SiLU())
        self.gate = nn.Sequential(nn.Linear(16, 4), nn.SiLU(), nn.Linear(4, 16), nn.Sigmoid())
        self.project = nn.Sequential(*conv_bn(16, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        return x + self.project(y * self.gate(y.mean((2, 3)))[:, :, None, None])


def efficientnet() -> nn.Module:
    """With the padding of TensorFlow: only at the end of each axis."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.SiLU(), EfficientBlock(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((3, 3)), nn.Flatten(),
        nn.Linear(8 * 3 * 3, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5),
    )  # fmt: skip


class Dense(nn.Module):
    """Its input and what it makes of that."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


def densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Dense(8), Dense(12), nn.BatchNorm2d(16),
        nn.ReLU(), nn.Conv2d(16, 8, 1), nn.AvgPool2d(2), Dense(8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


class Fire(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 4, 1)
        self.one, self.three = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(y)), F.relu(self.three(y))], 1)


def squeezenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8), Fire(16),
        nn.Dropout(), nn.Conv2d(16, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class Inception(nn.Module):
    """Branches, one with an average that leaves the padding out."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(8, 4, 1)
        self.b = nn.Conv2d(8, 4, (1, 3), padding=(0, 1))
        self.pool = nn.Sequential(
            nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Conv2d(8, 4, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.pool(x)], 1)


def inception() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), Inception(), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


class Shuffle(nn.Module):
    """Half of the channels goes through; then the halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(*conv_bn(4, 4, 1), nn.ReLU(), *conv_bn(4, 4, 3, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([a, self.inner(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v2() -> nn.Module:
    return nn.Sequential(
        *conv_bn(3, 8, 3, 2), nn.ReLU(), Shuffle(), Shuffle(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


class UNet(nn.Module):
    """Down, up by a transposed convolution and by interpolation, joined with what was before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(0.1))
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.PReLU(8))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.down(a)
        c = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(torch.cat([a, self.up(b), c], 1))


class SuperResolution(nn.Module):
    """ESPCN: the image beside the features, enlarged by moving channels into space."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 27, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        small = F.interpolate(x, scale_factor=3, mode="nearest")
        return F.pixel_shuffle(self.inner(x), 3) + small


class ConvNext(nn.Module):
    """Instance and layer norms, layer scale, a tanh GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.InstanceNorm2d(8, affine=True))
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.group = nn.GroupNorm(2, 8)
        self.out = nn.Sequential(nn.Conv2d(8, 16, 1), nn.GELU("tanh"), nn.Conv2d(16, 8, 1))
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y + self.scale * self.out(self.group(self.depthwise(y)))
        return self.head(self.norm(y.mean((2, 3))))


class Mixer(nn.Module):
    """ConvNeXt's norm of channels-last images, exact GELUs, MLP-Mixer's product over places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6)
        self.places = nn.Sequential(nn.Linear(9, 12), nn.GELU(), nn.Linear(12, 9))
        self.mix = nn.Parameter(torch.randn(9, 9) / 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x).permute(0, 2, 3, 1)).flatten(1, 2)
        y = y + self.places(y.transpose(1, 2)).transpose(1, 2)
        return self.head((self.mix @ y).mean(1))


class Attention(nn.Module):
    """A block of a vision transformer: products of two blobs, and a batch that changes places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(y)).reshape(x.shape[0], 9, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
        return self.head((y + self.out((weights @ v).transpose(1, 2).flatten(2))).mean(1))


class Gates(nn.Module):
    """Gates of channels and places (CBAM), a norm of channels, coordinates, PyTorch's LRN."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lrn = nn.Conv2d(5, 8, 3, 2), nn.LocalResponseNorm(5, 0.1)
        self.gate = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid())
        self.places = nn.Conv2d(2, 1, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.linspace(-1, 1, 24)[:, None].expand(x.shape[0], 1, 24, 24)
        y = self.lrn(self.stem(torch.cat([x, rows, rows.transpose(2, 3)], 1)))
        y = y + y * self.gate(F.adaptive_avg_pool2d(y, 1))
        seen = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        y = F.normalize(y * torch.sigmoid(self.places(seen)), dim=1)
        return self.head(torch.where(y > 0.1, y, y * 0.5).amax((2, 3)))


class Video(nn.Module):
    """Convolutions and poolings over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool3d((2, 2, 2), (1, 2, 2)),
            nn.AvgPool3d(2, padding=1), nn.AdaptiveAvgPool3d(1),
        )  # fmt: skip
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unsqueeze(1)
        return self.head(self.layers(clips).flatten(1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "resnext": resnext,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "vgg": vgg,
    "densenet": densenet,
    "squeezenet": squeezenet,
    "inception": inception,
    "shufflenet_v2": shufflenet_v2,
    "unet": UNet,
    "super_resolution": SuperResolution,
    "convnext": ConvNext,
    "mixer": Mixer,
    "gates": Gates,
    "video": Video,
}

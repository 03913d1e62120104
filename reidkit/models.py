"""Backbones, necks, and the model that joins them.

A backbone maps images (N, 3, H, W) to feature maps (N, C, h, w) and says C in `.channels`; a neck maps pooled
vectors (N, C) to features (N, d) and says d in `.dim`. Any module that keeps to this can stand in for ours.
Weights are drawn from a stream keyed by the constructor's `seed`: building a model neither reads nor moves
torch's global random state.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class Output(NamedTuple):
    """What `ReID` returns for N images."""

    maps: Tensor  #           (N, C, h, w)  last feature maps of the backbone
    pooled: Tensor  #         (N, C)        maps pooled over space, g in the papers
    features: Tensor  #       (N, d)        after the neck, f in the papers: what is compared at test time
    logits: Tensor | None  #  (N, num_ids)  identity scores; None for a model without classifier


class ReID(nn.Module):
    """Images -> `Output`: backbone, pooling, neck and, unless `num_ids` is None, an identity classifier.

    `pooling` is "average" (all five papers) or "max" (MAC, Zheng et al. on Oxford5k); no neck is `PlainNeck`.
    A neck's dropout acts on the classifier's input only: `features` leave without it, because two independent
    masks would dominate any comparison of two of them. A neck that sets `classifier_std` has the classifier's
    weights drawn from N(0, std^2); otherwise they are PyTorch's default.

    Images are float (N, 3, H, W), as `loading.normalise` makes them; anything else is a ValueError.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        num_ids: int | None = None,
        *,
        pooling: str = "average",
        classifier_bias: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        neck = PlainNeck(backbone.channels) if neck is None else neck
        if getattr(neck, "channels", backbone.channels) != backbone.channels:
            raise ValueError(f"the backbone gives {backbone.channels} channels, the neck takes {neck.channels}")
        if pooling not in _POOLING:
            raise ValueError(f"unknown pooling {pooling!r}: expected one of {', '.join(_POOLING)}")
        if num_ids is not None and num_ids < 1:
            raise ValueError(f"num_ids is {num_ids}: give the number of training identities, or None for no classifier")
        self.backbone, self.neck, self.pooling = backbone, neck, pooling
        self.dropout = nn.Dropout(getattr(neck, "dropout", 0.0))
        self.classifier = None
        if num_ids is not None:
            with _stream(seed, "classifier"):
                self.classifier = nn.Linear(neck.dim, num_ids, bias=classifier_bias)
                if getattr(neck, "classifier_std", None) is not None:
                    nn.init.normal_(self.classifier.weight, std=neck.classifier_std)
                    if classifier_bias:
                        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Output:
        _check_images(images)
        maps = self.backbone(images)  # (N, C, h, w)
        if maps.ndim != 4:
            raise ValueError(f"the backbone gives {tuple(maps.shape)}: expected maps (N, C, h, w), before any pooling")
        pooled = _POOLING[self.pooling](maps, (2, 3))  # (N, C)
        features = self.neck(pooled)  # (N, d)
        logits = None if self.classifier is None else self.classifier(self.dropout(features))  # (N, num_ids)
        return Output(maps, pooled, features, logits)


_POOLING: dict[str, Callable] = {"average": torch.mean, "max": torch.amax}


# --- necks


class PlainNeck(nn.Module):
    """f = g: the pooled vector itself (Zheng et al.: `dropout` 0.9 in their code, before the classifier)."""

    def __init__(self, channels: int, *, dropout: float = 0.0):
        super().__init__()
        self.channels, self.dim, self.dropout = channels, channels, dropout

    def forward(self, pooled: Tensor) -> Tensor:
        return pooled


class BNNeck(nn.Module):
    """f = BatchNorm(g), its bias frozen at 0 (Luo et al., "Bag of Tricks", 2019).

    There the triplet loss acts on g, identity loss and test on f; the classifier starts from N(0, 0.001^2).
    """

    classifier_std = 0.001

    def __init__(self, channels: int, *, dropout: float = 0.0):
        super().__init__()
        self.channels, self.dim, self.dropout = channels, channels, dropout
        self.norm = nn.BatchNorm1d(channels)
        self.norm.bias.requires_grad_(False)  # features centred on the origin, where cosine ranking is meant

    def forward(self, pooled: Tensor) -> Tensor:
        return self.norm(pooled)


class ConvNeck(nn.Module):
    """f = ReLU(BatchNorm(conv1x1(g))) >= 0 (CCSC, section 3.1; d = 512 there).

    On a pooled vector a 1x1 convolution is a linear map, which is how it is written here.
    The classifier keeps PyTorch's default weights: with small ones (std 0.02) this neck hardly learns.
    """

    def __init__(self, channels: int, dim: int, *, dropout: float = 0.0, seed: int = 0):
        super().__init__()
        self.channels, self.dim, self.dropout = channels, dim, dropout
        self.conv = _linear(channels, dim, _stream(seed, "ConvNeck"))
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, pooled: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(pooled)))


class FCNeck(nn.Module):
    """f = BatchNorm(FC(g)), signed (DCAML, figure 2, `dropout` 0.5; the embedding layer of Precise-ICS).

    `norm_first` puts a BNNeck before the FC: the released code of Precise-ICS does, its paper does not say.
    """

    def __init__(self, channels: int, dim: int, dropout: float = 0.0, *, norm_first: bool = False, seed: int = 0):
        super().__init__()
        self.channels, self.dim, self.dropout = channels, dim, dropout
        self.first = BNNeck(channels) if norm_first else nn.Identity()
        self.fc = _linear(channels, dim, _stream(seed, "FCNeck"))
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.norm(self.fc(self.first(pooled)))


# --- backbones


class Backbone(nn.Sequential):
    """Layers in a row, images (N, 3, H, W) -> maps (N, `channels`, h, w); H and W at least `min_size`."""

    def __init__(self, layers: dict[str, nn.Module], channels: int, min_size: int = 1):
        super().__init__(OrderedDict(layers))
        self.channels, self.min_size = channels, min_size

    def forward(self, images: Tensor) -> Tensor:
        _check_images(images, self.min_size)
        return super().forward(images)


def small_resnet(width: int = 16, *, last_stride: int = 1, seed: int = 0) -> Backbone:
    """The course's own network: a 3x3 stem of stride 2, four stages of one residual block, no max-pooling.

    Stages have width x (1, 2, 4, 8) channels and strides 1, 2, 2, `last_stride`: 0.3 M parameters and maps of
    128 x 8 x 4 for 64x32 images. Small enough to train in seconds on one core.
    """
    widths = [width, 2 * width, 4 * width, 8 * width]
    strides = [1, 2, 2, _checked_stride(last_stride)]
    with _stream(seed, "small_resnet"):
        layers = {
            "conv1": nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            "bn1": nn.BatchNorm2d(width),
            "relu": nn.ReLU(inplace=True),
        }
        for i, (fan_in, fan_out, stride) in enumerate(zip([width, *widths], widths, strides, strict=False), start=1):
            shortcut = None
            if stride != 1 or fan_in != fan_out:
                # Subsampling, then a 1x1 convolution: what a strided one computes. Strided, with fewer than 16
                # channels in channels_last, it corrupts the heap on a CPU (uxlfoundation/oneDNN issue 6035).
                shortcut = nn.Sequential(
                    nn.AvgPool2d(1, stride), nn.Conv2d(fan_in, fan_out, 1, bias=False), nn.BatchNorm2d(fan_out)
                )
            layers[f"layer{i}"] = BasicBlock(fan_in, fan_out, stride, shortcut)
        backbone = Backbone(layers, widths[-1])
        for module in backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def resnet18(last_stride: int = 1, weights=None, *, stem_relu: bool = True, seed: int = 0) -> Backbone:
    """torchvision's ResNet-18, 512 channels; arguments as in `resnet50`."""
    return _resnet(torchvision.models.resnet18, 512, last_stride, weights, stem_relu, seed)


def resnet50(last_stride: int = 1, weights=None, *, stem_relu: bool = True, seed: int = 0) -> Backbone:
    """torchvision's ResNet-50, 2048 channels, parameter names kept.

    `last_stride` 1 doubles the last maps' height and width (CCSC, Precise-ICS, PIRID); 2 is the original
    (Zheng et al., DCAML). `weights` is torchvision's own enum, for instance
    `torchvision.models.ResNet50_Weights.IMAGENET1K_V2`, downloaded on first use; None draws them at random.
    `stem_relu=False` leaves out the first ReLU, as the released code of Precise-ICS does.
    """
    return _resnet(torchvision.models.resnet50, 2048, last_stride, weights, stem_relu, seed)


def vgg16(weights=None, *, fc: bool = True, seed: int = 0) -> Backbone:
    """torchvision's VGG16, fully convolutional: fc6 and fc7 as 7x7 and 1x1 convolutions, 4096 channels.

    224x224 images give 1x1 maps, f of Zheng et al.; smaller ones do not pass. `fc=False` stops after the last
    pooling (512 channels, images from 32 pixels).
    """
    net = _torchvision(torchvision.models.vgg16, weights, seed)
    if not fc:
        return Backbone({"features": net.features}, channels=512, min_size=32)
    return _convolutional(net, net.classifier[0], net.classifier[3], side=7, min_size=224)


def alexnet(weights=None, *, fc: bool = True, seed: int = 0) -> Backbone:
    """torchvision's AlexNet, fully convolutional; stands for CaffeNet, which torchvision does not have.

    fc6 and fc7 become 6x6 and 1x1 convolutions, 4096 channels: 224x224 images give 1x1 maps. `fc=False` stops
    after the last pooling (256 channels, images from 63 pixels).
    """
    net = _torchvision(torchvision.models.alexnet, weights, seed)
    if not fc:
        return Backbone({"features": net.features}, channels=256, min_size=63)
    return _convolutional(net, net.classifier[1], net.classifier[4], side=6, min_size=223)


# --- shared parts


def _resnet(builder: Callable, channels: int, last_stride: int, weights, stem_relu: bool, seed: int) -> Backbone:
    _checked_stride(last_stride)
    layers = dict(_torchvision(builder, weights, seed).named_children())
    del layers["avgpool"], layers["fc"]
    if not stem_relu:
        del layers["relu"]
    for module in layers["layer4"][0].modules():  # the only strided layers: one 3x3 and the shortcut
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (last_stride, last_stride)
    return Backbone(layers, channels)


def _convolutional(net: nn.Module, fc6: nn.Linear, fc7: nn.Linear, side: int, min_size: int) -> Backbone:
    """The features of `net`, then its fully connected layers read as convolutions over side x side maps."""
    conv6 = nn.Conv2d(fc6.in_features // side**2, fc6.out_features, side, device="meta")
    conv7 = nn.Conv2d(fc7.in_features, fc7.out_features, 1, device="meta")
    for conv, fc in ((conv6, fc6), (conv7, fc7)):  # the same numbers, seen as kernels
        conv.weight, conv.bias = nn.Parameter(fc.weight.detach().view(conv.weight.shape)), fc.bias
    relu = nn.ReLU(inplace=True)
    layers = {"features": net.features, "fc6": conv6, "relu6": relu, "fc7": conv7, "relu7": relu}
    return Backbone(layers, fc7.out_features, min_size)


def _torchvision(builder: Callable, weights, seed: int) -> nn.Module:
    try:
        with _stream(seed, builder.__name__):
            return builder(weights=weights)
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise RuntimeError(
            f"no pretrained weights {weights}: {error}. The first use downloads them, which needs "
            f"the network; without it, place the file ({getattr(weights, 'url', 'torchvision names it')}) "
            f"in {torch.hub.get_dir()}/checkpoints"
        ) from error


def _linear(fan_in: int, fan_out: int, stream) -> nn.Linear:
    with stream:
        layer = nn.Linear(fan_in, fan_out, bias=False)  # a BatchNorm follows: its bias is the bias
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer


@contextmanager
def _stream(seed: int, name: str) -> Iterator[None]:
    """Random numbers keyed by (seed, name) within the block; torch's global state is as before after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1)
        yield


def _checked_stride(last_stride: int) -> int:
    if last_stride not in (1, 2):
        raise ValueError(f"last_stride is {last_stride}: expected 1 or 2")
    return last_stride


def _check_images(images: Tensor, min_size: int = 1) -> None:
    shape = tuple(images.shape)
    if images.dtype == torch.uint8:
        raise ValueError(f"images are uint8 {shape}: pass them through reidkit.loading.normalise first")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} {shape}: expected float (N, 3, H, W)")
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"images have shape {shape}: expected (N, 3, H, W)")
    if min(shape[2:]) < min_size:
        raise ValueError(f"images of {shape[2]}x{shape[3]} are too small: this backbone needs {min_size} pixels a side")

import copy
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from reidkit import models
from reidkit.models import BNNeck, ConvNeck, FCNeck, PlainNeck, ReID, small_resnet


def images(n=4, height=64, width=32, seed=0):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


# --- backbones


def test_small_resnet_has_the_documented_size_and_maps():
    backbone = small_resnet()
    assert sum(p.numel() for p in backbone.parameters()) == 307_536
    assert backbone.channels == 128
    assert backbone(images()).shape == (4, 128, 8, 4)
    assert small_resnet(last_stride=2)(images()).shape == (4, 128, 4, 2)
    assert small_resnet(width=8)(images(1)).shape == (1, 64, 8, 4)


def test_small_resnet_has_no_strided_1x1_convolution():
    """With fewer than 16 channels in channels_last its backward pass writes out of bounds (oneDNN issue 6035)."""
    convolutions = [m for m in small_resnet(4).modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in convolutions if m.kernel_size == (1, 1)} == {(1, 1)}


@pytest.mark.parametrize(
    ("build", "channels", "height", "maps"),
    [
        (models.resnet18, 512, 64, (4, 2)),
        (lambda: models.resnet18(last_stride=2), 512, 64, (2, 1)),
        (models.resnet50, 2048, 64, (4, 2)),
        (lambda: models.resnet50(last_stride=2), 2048, 64, (2, 1)),
        (lambda: models.alexnet(fc=False), 256, 128, (3, 1)),
    ],
)
def test_backbones_give_maps_of_their_channels(build, channels, height, maps):
    backbone = build().eval()
    assert backbone.channels == channels
    with torch.inference_mode():
        assert backbone(images(1, height, height // 2)).shape == (1, channels, *maps)


@pytest.mark.parametrize(("name", "channels", "side", "first"), [("vgg16", 512, 7, 0), ("alexnet", 256, 6, 1)])
def test_fully_convolutional_networks_agree_with_the_fully_connected_ones(name, channels, side, first, monkeypatch):
    net = getattr(torchvision.models, name)(init_weights=False) if name == "vgg16" else torchvision.models.alexnet()
    net.classifier[first] = nn.Linear(channels * side**2, 12)
    net.classifier[3 + first] = nn.Linear(12, 10)
    monkeypatch.setattr(torchvision.models, name, _returns(net))
    backbone, net = getattr(models, name)().eval(), net.eval()
    x = images(1, 224, 224)
    with torch.inference_mode():
        expected = net.classifier[:-1](net.avgpool(net.features(x)).flatten(1))  # (1, 10): all but the last layer
        maps = backbone(x)
    assert backbone.channels == 10
    assert maps.shape == (1, 10, 1, 1)
    torch.testing.assert_close(maps.flatten(1), expected)


@pytest.mark.parametrize("last_stride", [1, 2])
def test_resnet_equals_torchvision_up_to_its_pooling(last_stride):
    net = torchvision.models.resnet18().eval()
    for convolution in (net.layer4[0].conv1, net.layer4[0].downsample[0]):
        convolution.stride = (last_stride, last_stride)
    backbone = models.resnet18(last_stride=last_stride).eval()
    backbone.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("fc.")})
    x = images(2)
    with torch.inference_mode():
        torch.testing.assert_close(net.fc(backbone(x).mean((2, 3))), net(x))


def test_a_stem_without_relu_passes_negative_values():
    seen = {}
    for relu in (True, False):
        backbone = models.resnet18(stem_relu=relu).eval()
        backbone.maxpool.register_forward_pre_hook(lambda _, x, relu=relu: seen.update({relu: x[0].min()}))
        backbone(images(1))
    assert seen[True] == 0
    assert seen[False] < 0


def _returns(net, calls=None):
    def builder(weights=None):
        if calls is not None:
            calls.append(weights)
        return net

    return builder


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "alexnet"])
def test_weights_are_passed_on_to_torchvision(name, monkeypatch):
    net = torchvision.models.resnet18() if "resnet" in name else nn.Module()
    net.features = nn.Identity()
    calls = []
    monkeypatch.setattr(torchvision.models, name, _returns(net, calls))
    options = {} if "resnet" in name else {"fc": False}
    weights = torchvision.models.get_model_weights(name).DEFAULT
    getattr(models, name)(weights=weights, **options)
    getattr(models, name)(**options)
    assert calls == [weights, None]


@pytest.mark.parametrize("failure", [urllib.error.URLError("no route to host"), RuntimeError("invalid hash value")])
def test_a_failed_download_says_where_the_file_goes(failure, monkeypatch):
    def builder(weights=None):
        raise failure

    monkeypatch.setattr(torchvision.models, "resnet50", builder)
    with pytest.raises(RuntimeError, match=r"resnet50-11ad3fa6\.pth.*checkpoints"):
        models.resnet50(weights=torchvision.models.ResNet50_Weights.IMAGENET1K_V2)


# --- necks


def test_plain_neck_is_the_pooled_vector():
    pooled = torch.randn(4, 6)
    assert PlainNeck(6)(pooled) is pooled


def test_bnneck_standardises_and_its_bias_stays_zero():
    neck = BNNeck(5)
    pooled = 3 + 2 * torch.randn(8, 5, dtype=torch.float64).float()
    expected = (pooled - pooled.mean(0)) / torch.sqrt(pooled.var(0, unbiased=False) + 1e-5)
    torch.testing.assert_close(neck(pooled), expected)
    assert [name for name, p in neck.named_parameters() if p.requires_grad] == ["norm.weight"]
    assert not neck.norm.bias.any()


@pytest.mark.parametrize("dim", [3, 16])
def test_conv_and_fc_necks_follow_their_formula(dim):
    pooled = torch.randn(8, 5)
    for neck, layer, activation in (
        (ConvNeck(5, dim), "conv", torch.relu),
        (FCNeck(5, dim), "fc", lambda z: z),
    ):
        z = pooled @ getattr(neck, layer).weight.T  # (8, dim)
        z = (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5)
        torch.testing.assert_close(neck(pooled), activation(z), rtol=1e-4, atol=1e-5)
        assert neck.dim == dim


def test_fc_neck_with_a_norm_first():
    neck = FCNeck(5, 3, norm_first=True).eval()
    neck.first.norm.running_mean.fill_(2.0)
    torch.testing.assert_close(neck(torch.full((1, 5), 2.0)), torch.zeros(1, 3))
    assert not neck.first.norm.bias.requires_grad


# --- the model


def test_output_joins_the_parts():
    model = ReID(small_resnet(8), ConvNeck(64, 10), 7).eval()
    output = model(images(3))
    assert [tuple(x.shape) for x in output] == [(3, 64, 8, 4), (3, 64), (3, 10), (3, 7)]
    torch.testing.assert_close(output.pooled, output.maps.flatten(2).mean(2))
    torch.testing.assert_close(output.features, model.neck(output.pooled))
    torch.testing.assert_close(output.logits, output.features @ model.classifier.weight.T)


def test_max_pooling_and_no_classifier():
    output = ReID(small_resnet(8), pooling="max").eval()(images(2))
    torch.testing.assert_close(output.pooled, output.maps.flatten(2).amax(2))
    assert output.features is output.pooled
    assert output.logits is None


def test_initial_classifier_is_small_for_bnneck_and_the_default_elsewhere():
    std = {
        neck: ReID(small_resnet(8), getattr(models, neck)(64, **options), 500).classifier.weight.std().item()
        for neck, options in {"BNNeck": {}, "PlainNeck": {}, "ConvNeck": {"dim": 64}}.items()
    }
    assert std["BNNeck"] == pytest.approx(0.001, rel=0.05)
    default = 1 / np.sqrt(3 * 64)  # uniform in +-1/sqrt(fan in)
    assert std["PlainNeck"] == pytest.approx(default, rel=0.05)
    assert std["ConvNeck"] == pytest.approx(default, rel=0.05)


def test_classifier_bias_is_a_choice():
    assert ReID(small_resnet(8), BNNeck(64), 7).classifier.bias is None
    assert not ReID(small_resnet(8), BNNeck(64), 7, classifier_bias=True).classifier.bias.any()


def test_dropout_reaches_the_logits_not_the_features():
    torch.manual_seed(0)
    model = ReID(small_resnet(8), PlainNeck(64, dropout=0.9), 7)
    model.backbone.eval()
    first, second = model(images(2)), model(images(2))
    torch.testing.assert_close(first.features, second.features)
    assert not torch.allclose(first.logits, second.logits)
    model.eval()
    torch.testing.assert_close(model(images(2)).logits, model(images(2)).logits)


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_stream_alone():
    def weights(seed):
        model = ReID(small_resnet(8, seed=seed), FCNeck(64, 8, seed=seed), 7, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = weights(0)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


def test_streams_differ_by_part():
    model = ReID(small_resnet(8), FCNeck(64, 64), 64)
    ratio = model.neck.fc.weight / model.classifier.weight
    assert ratio.std() > 0.5  # one stream read twice would give multiples of each other


def test_channels_last_changes_no_number():
    model = ReID(small_resnet(8), BNNeck(64), 7).eval()
    x = images(4)
    last = copy.deepcopy(model)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last.logits, model(x).logits)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 64, 32, 3, dtype=torch.uint8), "normalise"),
        (torch.zeros(2, 3, 64, 32, dtype=torch.int64), "int64"),
        (torch.zeros(2, 64, 32, 3), r"\(2, 64, 32, 3\): expected \(N, 3, H, W\)"),
        (torch.zeros(3, 64, 32), r"expected \(N, 3, H, W\)"),
    ],
)
def test_wrong_images_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        ReID(small_resnet(8))(batch)


def test_a_backbone_that_pools_is_refused():
    pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pooling.channels = 3
    with pytest.raises(ValueError, match=r"the backbone gives \(2, 3\): expected maps"):
        ReID(pooling)(torch.zeros(2, 3, 8, 4))


def test_too_small_images_are_refused():
    backbone = models.alexnet(fc=False)
    with pytest.raises(ValueError, match=r"62x200 are too small.*63"):
        backbone(images(1, 62, 200))
    assert backbone(images(1, 63, 63)).shape == (1, 256, 1, 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ReID(small_resnet(), BNNeck(64), 7), "128 channels, the neck takes 64"),
        (lambda: ReID(small_resnet(8), pooling="median"), "median.*average, max"),
        (lambda: ReID(small_resnet(8), num_ids=0), "num_ids is 0"),
        (lambda: small_resnet(last_stride=3), "last_stride is 3"),
        (lambda: models.resnet18(last_stride=0), "last_stride is 0"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()

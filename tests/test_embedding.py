import sys

import numpy as np
import pytest
import torch
from torch import nn

from reidkit import embedding
from reidkit.embedding import activation_maps, embed, pca, silhouettes, tsne
from reidkit.loading import normalise
from reidkit.models import BNNeck, ConvNeck, ReID, small_resnet


@pytest.fixture
def model():
    return ReID(small_resnet(4), ConvNeck(32, 6), 5)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 32, 16, 3), dtype=np.uint8)


# --- embed


@pytest.mark.parametrize("feature", ["features", "pooled", "logits"])
def test_embed_is_the_eval_forward_of_each_image(model, images, feature):
    found = embed(model, images, feature=feature, batch_size=3)
    model.eval()
    with torch.no_grad():
        expected = [getattr(model(normalise(image[None])), feature)[0].numpy() for image in images]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_embed_reads_a_memmap_and_keeps_the_rows_in_order(model, images, tmp_path):
    images.tofile(tmp_path / "pixels.u8")
    mapped = np.memmap(tmp_path / "pixels.u8", np.uint8, "r", shape=images.shape)
    np.testing.assert_allclose(embed(model, mapped[::-1], batch_size=2), embed(model, images)[::-1], atol=1e-5)


def test_embed_changes_neither_modes_nor_statistics_nor_gradients(model, images):
    model.train()
    model.backbone.bn1.eval()  # frozen by its owner: stays frozen
    modes = [m.training for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    embed(model, images)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model(normalise(images)).logits.sum().backward()  # nothing was turned into an inference tensor


def test_embed_restores_the_modes_after_a_failure(model, images):
    model.train()
    model.backbone.layer4.register_forward_hook(_fail)
    with pytest.raises(RuntimeError, match="stop"):
        embed(model, images)
    assert all(m.training for m in model.modules())


def _fail(*_):
    raise RuntimeError("stop")


def test_flip_averages_both_mirror_images(model, images):
    mirrored = images[:, :, ::-1]
    expected = (embed(model, images) + embed(model, mirrored)) / 2
    np.testing.assert_allclose(embed(model, images, flip=True), expected, atol=1e-5)
    np.testing.assert_allclose(embed(model, mirrored, flip=True), expected, atol=1e-5)


@pytest.mark.parametrize("n", [5, 2, 1])
def test_processes_embed_contiguous_shares_that_make_the_whole(model, images, n, monkeypatch):
    shares = []

    class Rank:
        size, device = 3, torch.device("cpu")

        def __init__(self, rank):
            self.rank = rank

    def keep(here, share, rows):
        assert len(share) == rows
        shares.append(share)
        return share

    expected = embed(model, images[:n])
    monkeypatch.setattr(embedding, "whole", keep)
    for rank in range(3):
        monkeypatch.setattr(embedding, "world", lambda device, rank=rank: Rank(rank))
        embed(model, images[:n], batch_size=2)
    np.testing.assert_allclose(torch.cat(shares).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"float32 \(2, 8, 8, 3\): expected uint8"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"uint8 \(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "N >= 1"),
        ([1, 2], "list"),
    ],
)
def test_wrong_pixels_are_refused(model, pixels, message):
    with pytest.raises(ValueError, match=message):
        embed(model, pixels)


def test_wrong_choices_are_refused(model, images):
    for feature in ("maps", "embedding"):
        with pytest.raises(ValueError, match=f"no .* {feature!r}"):
            embed(model, images, feature=feature)
    with pytest.raises(ValueError, match="logits"):
        embed(ReID(small_resnet(4), BNNeck(32)), images, feature="logits")
    with pytest.raises(ValueError, match="batch_size is 0"):
        embed(model, images, batch_size=0)


# --- activation maps


def test_activation_maps_average_the_channels(images):
    class Signed(nn.Module):
        def forward(self, x):
            return type("Output", (), {"maps": torch.stack([x[:, 0], -2 * x[:, 0]], 1)})

    red = normalise(images)[:, 0].numpy()
    np.testing.assert_allclose(activation_maps(Signed(), images, batch_size=4), 1.5 * np.abs(red), rtol=1e-5)
    np.testing.assert_allclose(activation_maps(Signed(), images, reading="square"), 2.5 * red**2, rtol=1e-5)
    np.testing.assert_allclose(activation_maps(Signed(), images, reading="mean"), -0.5 * red, rtol=1e-5)
    with pytest.raises(ValueError, match=r"'max'.*abs, square, mean"):
        activation_maps(Signed(), images, reading="max")


def test_activation_maps_have_the_size_of_the_maps(model, images):
    assert activation_maps(model, images).shape == (7, 4, 2)


# --- projections


def blobs(n=90, d=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (10 * rng.normal(size=(3, d))[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def test_pca_finds_the_line_that_points_lie_on():
    t = np.linspace(-1, 1, 9)
    plane = pca(np.outer(t, [3.0, 4.0, 0.0]) + 7)
    np.testing.assert_allclose(np.abs(plane[:, 0]), np.abs(5 * t), atol=1e-9)
    np.testing.assert_allclose(plane[:, 1], 0, atol=1e-9)
    with pytest.raises(ValueError, match="dim is 4"):
        pca(np.eye(3), 4)


@pytest.mark.parametrize("library", ["openTSNE", "scikit-learn"])
def test_tsne_keeps_clusters_apart_and_repeats_itself(library, monkeypatch):
    if library == "scikit-learn":
        monkeypatch.setitem(sys.modules, "openTSNE", None)
    points, labels = blobs()
    plane = tsne(points)
    assert plane.shape == (90, 2)
    distances = np.linalg.norm(plane[:, None] - plane[None], axis=2) + np.diag(np.full(90, np.inf))
    assert (labels[distances.argmin(1)] == labels).all()
    np.testing.assert_array_equal(tsne(points), plane)


def test_tsne_without_opentsne_says_so_when_it_will_take_long(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    monkeypatch.setattr(embedding.TSNE, "fit_transform", lambda self, x: x[:, :2])
    with pytest.warns(UserWarning, match="openTSNE is not installed"):
        tsne(np.random.default_rng(0).normal(size=(5_001, 3)))


@pytest.mark.parametrize(("n", "perplexity", "allowed"), [(10, 3.1, "3"), (40, 30, "13"), (40, 0.5, "13")])
def test_tsne_refuses_a_perplexity_that_the_points_do_not_allow(n, perplexity, allowed):
    with pytest.raises(ValueError, match=f"perplexity is {perplexity}: {n} points allow 1 to {allowed}"):
        tsne(blobs(n)[0], perplexity=perplexity)


def test_tsne_of_few_points():
    assert tsne(blobs(5)[0]).shape == (5, 2)
    assert tsne(blobs(12)[0], components=None).shape == (12, 2)
    with pytest.raises(ValueError, match="components is -3"):
        tsne(blobs(12)[0], components=-3)
    with pytest.raises(ValueError, match=r"\(3, 8\)"):
        tsne(blobs(3)[0])


# --- silhouettes


def plain_silhouette(features, labels, metric):
    """Rousseeuw's definition, written out; None where it is not defined."""
    n = len(labels)
    if not 2 <= len(set(labels)) <= n - 1:
        return None

    def distance(x, y):
        if metric == "euclidean":
            return sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) ** 0.5
        return (
            1 - sum(a * b for a, b in zip(x, y, strict=True)) / (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5
        )

    values = []
    for i in range(n):
        mean = {}
        for label in set(labels):
            others = [distance(features[i], features[j]) for j in range(n) if labels[j] == label and j != i]
            if others:
                mean[label] = sum(others) / len(others)
        if labels[i] not in mean:  # alone in its cluster: 0 by convention
            values.append(0.0)
            continue
        own, nearest = mean[labels[i]], min(v for label, v in mean.items() if label != labels[i])
        values.append((nearest - own) / max(own, nearest))
    return sum(values) / n


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_silhouettes_agree_with_plain_loops(metric):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))
    pids = rng.integers(0, 6, 30)
    camids = rng.integers(0, 3, 30)
    by_identity, by_camera = silhouettes(features, pids, camids, metric=metric)
    within = []
    for pid in set(pids):
        value = plain_silhouette(features[pids == pid].tolist(), camids[pids == pid].tolist(), metric)
        if value is not None:
            within.append(value)
    assert by_identity == pytest.approx(plain_silhouette(features.tolist(), pids.tolist(), metric))
    assert by_camera == pytest.approx(sum(within) / len(within))
    assert len(within) >= 4


def test_silhouettes_tell_people_from_cameras():
    pids, camids = np.repeat([0, 1], 6), np.tile([0, 0, 0, 1, 1, 1], 2)
    noise = 0.01 * np.random.default_rng(0).normal(size=(12, 2))
    people = np.eye(2)[pids] + noise
    cameras = np.eye(2)[camids] + noise
    by_identity, by_camera = silhouettes(people, pids, camids)
    assert by_identity > 0.9
    assert abs(by_camera) < 0.3
    by_identity, by_camera = silhouettes(cameras, pids, camids)
    assert by_identity < 0.1
    assert by_camera > 0.9


def test_silhouettes_are_nan_where_undefined():
    features = np.random.default_rng(0).normal(size=(4, 3))
    assert np.isnan(silhouettes(features, [0, 0, 0, 0], [0, 0, 0, 0])).all()  # one person, one camera
    assert np.isnan(silhouettes(features, [0, 0, 1, 1], [0, 1, 0, 1])[1])  # no camera twice within a person
    assert np.isfinite(silhouettes(features, [0, 0, 0, 1], [0, 0, 1, 0])).all()


def test_bad_features_are_refused():
    bad = np.ones((4, 3))
    bad[2, 1] = np.nan
    for function in (pca, tsne, lambda x: silhouettes(x, [0] * 4, [0] * 4)):
        with pytest.raises(ValueError, match="1 of 4 features hold NaN"):
            function(bad)
        with pytest.raises(ValueError, match=r"\(12,\)"):
            function(np.ones(12))
    with pytest.raises(ValueError, match="4 features, 3 pids and 4 camids"):
        silhouettes(np.ones((4, 3)), [0] * 3, [0] * 4)


def test_embed_takes_batches_of_the_size_asked_for(model, images):
    sizes = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    embed(model, images, batch_size=3)
    assert sizes == [3, 3, 1]


def test_no_component_is_none_too_few():
    with pytest.raises(ValueError, match="dim is 0"):
        pca(np.eye(3), 0)

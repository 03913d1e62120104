"""From a trained model to arrays: features, two-dimensional views of them, and where a model looks."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

from reidkit.distributed import whole, world
from reidkit.loading import normalise
from reidkit.progress import bar

READINGS: dict[str, Callable[[Tensor], Tensor]] = {"abs": torch.abs, "square": torch.square, "mean": lambda a: a}


def embed(
    model: nn.Module,
    pixels: np.ndarray,
    *,
    feature: str = "features",
    batch_size: int = 256,
    flip: bool = False,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> np.ndarray:
    """The features of every image, in eval mode and without gradients; the model's own mode is as before afterwards.

    pixels   (N, H, W, 3) uint8, as `loading.pixels` gives them
    feature  which field of `models.Output`: "features" (after the neck), "pooled" (before it) or "logits"
    flip     average each image's feature with that of its mirror image
    device   where the model is moved and left; default: the launch's own, else the accelerator, else the CPU

    Returns (N, d) float32, not normalised. Several processes embed a contiguous share each and all return the whole.
    """

    def of(images: Tensor) -> Tensor:
        value = getattr(model(images), feature, None)
        if value is None or value.ndim != 2:
            raise ValueError(f"the model gives no (N, d) {feature!r}: choose features, pooled or (with num_ids) logits")
        return value

    def averaged(images: Tensor) -> Tensor:
        return (of(images) + of(images.flip(3))) / 2

    return _run(model, pixels, averaged if flip else of, batch_size, device, progress)


def activation_maps(
    model: nn.Module,
    pixels: np.ndarray,
    *,
    reading: str = "abs",
    batch_size: int = 256,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> np.ndarray:
    """How strongly each place of the last feature maps responds, before pooling (the response maps of CCSC).

    `reading` is what is averaged over the channels, which the paper leaves open: "abs" |a|, "square" a^2, "mean" a
    (equal to "abs" after a ReLU). Other arguments as in `embed`. Returns (N, h, w) float32; h and w are the maps' own.
    """
    if reading not in READINGS:
        raise ValueError(f"unknown reading {reading!r}: expected one of {', '.join(READINGS)}")
    return _run(model, pixels, lambda x: READINGS[reading](model(x).maps).mean(1), batch_size, device, progress)


def pca(features: np.ndarray, dim: int = 2) -> np.ndarray:
    """The first `dim` principal components of (N, d) features: (N, dim), centred, the widest first."""
    features = _finite(features)
    if not 1 <= dim <= min(features.shape):
        raise ValueError(f"dim is {dim}: features of shape {features.shape} have {min(features.shape)} components")
    return PCA(dim, random_state=0).fit_transform(features)


def tsne(
    features: np.ndarray, *, perplexity: float | None = None, components: int | None = 50, seed: int = 0
) -> np.ndarray:
    """t-SNE in the plane: (N, d) -> (N, 2), from a fixed start, the first two principal components.

    perplexity  from 1 to (N - 1) / 3, else a ValueError; default 30, or that bound for fewer than 91 points
    components  principal components kept beforehand: 12 % less time at 3,000 points, 43 % less at 19,000, and much
                the same picture where few directions hold most of the variance; where many do, a worse one. None
                keeps all of d
    seed        of the search for neighbours in large sets

    With openTSNE where it is installed (extra `tsne`), else with scikit-learn: slower, and another picture.
    Distances are Euclidean: L2-normalise the rows first to see what cosine ranking sees.
    """
    features = _finite(features)
    if components is not None and components < 1:
        raise ValueError(f"components is {components}: choose at least 1, or None to keep all dimensions")
    bound = (len(features) - 1) / 3  # both libraries look at 3 x perplexity neighbours
    if bound < 1 or features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}: t-SNE needs at least 4 points of 2 dimensions")
    perplexity = min(30.0, bound) if perplexity is None else perplexity
    if not 1 <= perplexity <= bound:
        raise ValueError(f"perplexity is {perplexity}: {len(features)} points allow 1 to {bound:.4g}")
    if components is not None:
        features = pca(features, min(max(components, 2), *features.shape))  # (N, components)
    start = pca(features)  # (N, 2)
    start *= 1e-4 / (start[:, 0].std() or 1)  # small, so that it gives the layout and not the forces
    try:
        import openTSNE
    except ImportError:
        if len(features) > 5_000:
            warnings.warn("openTSNE is not installed: scikit-learn takes 2 to 4 times as long", stacklevel=2)
        return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(features)
    plane = openTSNE.TSNE(perplexity=perplexity, initialization=start, random_state=seed, n_jobs=1).fit(features)
    return np.asarray(plane)


def silhouettes(features, pids, camids, *, metric: str = "cosine") -> tuple[float, float]:
    """Do the clusters of the embedding show people, or cameras? (Rousseeuw, 1987; each in [-1, 1])

    features (N, d), pids (N,), camids (N,); leave junk and distractors out. Returns
    by identity                  the mean silhouette of all images, clusters = identities: high is good;
    by camera within identity    the silhouette of one identity's images, clusters = cameras, averaged over the
                                 identities: above 0, one person falls apart by camera. Identities with one camera,
                                 fewer than three images, or no camera twice are left out.
    NaN where nothing is left to measure.
    """
    features, pids, camids = _finite(features), np.asarray(pids), np.asarray(camids)
    if not len(features) == len(pids) == len(camids):
        raise ValueError(f"{len(features)} features, {len(pids)} pids and {len(camids)} camids: lengths must agree")

    def silhouette(rows, labels) -> float:
        if not 2 <= len(np.unique(labels)) < len(labels):
            return float("nan")
        return float(silhouette_score(rows, labels, metric=metric))

    within = [silhouette(features[pids == pid], camids[pids == pid]) for pid in np.unique(pids)]
    within = [value for value in within if not np.isnan(value)]
    return silhouette(features, pids), float(np.mean(within)) if within else float("nan")


def _finite(features) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features have shape {features.shape}: expected (N, d) with N >= 1")
    if not np.isfinite(features).all():
        raise ValueError(f"{(~np.isfinite(features)).any(1).sum()} of {len(features)} features hold NaN or infinity")
    return features


def _run(model, pixels, function, batch_size, device, progress) -> np.ndarray:
    """`function` of the normalised images, batch by batch and rank by rank, as one float32 array."""
    if getattr(pixels, "dtype", None) != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
        what = f"{getattr(pixels, 'dtype', type(pixels))} {getattr(pixels, 'shape', '')}"
        raise ValueError(
            f"pixels are {what}: expected uint8 (N, H, W, 3), N >= 1, in a NumPy array, as loading.pixels gives them"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1")
    here = world(device)
    start, stop = (len(pixels) * r // here.size for r in (here.rank, here.rank + 1))
    first = min(start, len(pixels) - 1)  # a rank without a share still takes part, and keeps no row
    end = max(stop, first + 1)
    starts = range(first, end, batch_size)
    modes = [(module, module.training) for module in model.modules()]
    model.to(here.device).eval()
    try:
        with torch.inference_mode(), bar(end - first, "embed", "image", show=progress and here.rank == 0) as shown:
            rows = []
            for i in starts:
                images = torch.from_numpy(np.array(pixels[i : min(i + batch_size, end)]))  # (B, H, W, 3)
                rows.append(function(normalise(images.to(here.device))).float())
                shown.update(len(images))
            share = torch.cat(rows)[: stop - start]
            return whole(here, share, stop - start).cpu().numpy()
    finally:
        for module, mode in modes:
            module.training = mode

"""What losses on pairs share: one check of their input, distances whose gradient is finite, and who pairs with whom."""

import torch
from torch import Tensor

EPS = 1e-12  # added under a root, so that two equal vectors have distance 1e-6 and a gradient of 0, not NaN


def check(features: Tensor, pids: Tensor, camids: Tensor | None = None) -> None:
    """features (N, d) floating, pids and (where given) camids (N,) int64; a ValueError names both sides otherwise."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(f"features must be floating (N, d), not {features.dtype} {tuple(features.shape)}")
    for name, ids in (("pids", pids), ("camids", camids)):
        if ids is None:
            continue
        if ids.dtype != torch.int64:
            raise ValueError(f"{name} must be int64, not {ids.dtype}")
        if ids.shape != features.shape[:1]:
            raise ValueError(f"{len(features)} features but {name} of shape {tuple(ids.shape)}: one {name[:-1]} each")


def euclidean(first: Tensor, second: Tensor) -> Tensor:
    """Distances of all pairs, (N, d) and (M, d) -> (N, M), by one matrix product; the gradient is finite at 0."""
    squared = first.square().sum(1)[:, None] + second.square().sum(1)[None] - 2 * first @ second.T  # (N, M)
    return (squared.clamp(min=0) + EPS).sqrt()


def apart(first: Tensor, second: Tensor) -> Tensor:
    """Distances row by row, (N, d) and (N, d) -> (N,); the gradient is finite at 0."""
    return ((first - second).square().sum(1) + EPS).sqrt()


@torch.no_grad()
def hardest(anchors: Tensor, others: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `others` (M, d) is farthest among `near` and which nearest among `far`, both (N, M) bool, from each of
    the `anchors` (N, d): (N,) int64 each; the first of equals.

    Nothing to differentiate: a loss takes these rows and differentiates two distances an anchor instead of all N M.
    Rows of `near` or `far` without a True give any index.
    """
    squared = torch.addmm(others.square().sum(1)[None], anchors, others.T, alpha=-2)  # (N, M), less |anchor|^2
    return squared.masked_fill(~near, -torch.inf).argmax(1), squared.masked_fill(~far, torch.inf).argmin(1)


def cosines(features: Tensor) -> Tensor:
    """Cosine similarities of all pairs, (N, d) -> (N, N); a zero vector has similarity 0 to all.

    By one product, whose diagonal holds the squared lengths: cheaper than to normalise the features before it.
    """
    products = features @ features.T  # (N, N)
    lengths = products.diagonal().clamp(min=EPS**2).sqrt()  # (N,) at least 1e-12
    return products / lengths[:, None] / lengths[None]


def same(ids: Tensor) -> Tensor:
    """Which pairs agree in `ids`: (N,) -> (N, N) bool, the diagonal included."""
    return ids[:, None] == ids[None]


def itself(ids: Tensor) -> Tensor:
    """The pairs of an image with itself: (N, N) bool, the diagonal."""
    return torch.eye(len(ids), dtype=torch.bool, device=ids.device)


def nothing(features: Tensor) -> Tensor:
    """A loss without any pair: 0, with a gradient of 0 everywhere, also where features are infinite."""
    return (features * 0).nan_to_num().sum()

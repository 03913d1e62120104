"""What losses on pairs share: one check of their input, distances whose gradient is finite, and who pairs with whom."""

import torch
from torch import Tensor

EPS = 1e-12  # added under a root: equal vectors have distance 1e-6 and a gradient of 0, not NaN (but not in float16)


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
    return norms(first - second)


def norms(rows: Tensor) -> Tensor:
    """Euclidean norms, (N, d) -> (N,); the gradient is finite at 0."""
    return (rows.square().sum(1) + EPS).sqrt()


def having(near: Tensor, far: Tensor) -> Tensor:
    """The anchors that have an image in `near` and one in `far`, (N, M) bool each -> (A,) int64, ascending."""
    return (near.sum(1) * far.sum(1)).nonzero()[:, 0]  # PyTorch counts in half the time that any() takes


def only(terms: Tensor, rows: Tensor) -> Tensor:
    """The (N,) terms of some rows, distinct and ascending; in most batches these are all, and nothing is to be done."""
    return terms if len(rows) == len(terms) else terms.index_select(0, rows)


def hardest(anchors: Tensor, others: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each anchor to the farthest of its `near` and to the nearest of its `far`: (N,) each.

    anchors (N, d) and others (M, d) floating, of one dtype; near and far (N, M) bool. Of equals the first is taken; a
    row of `near` or `far` without a True gives any distance. The gradient is finite at 0. There is no second one: a
    backward pass with create_graph raises a RuntimeError, and torch.func cannot go through.

    One matrix product compares all distances; two an anchor are differentiated, instead of all N M. That product
    chooses: in float32, features that lie a hundred times farther from 0 than from each other are told apart badly.
    """
    nearest, farthest = _Hardest.apply(anchors, others, anchors, others, near, far)
    return farthest, nearest


class _Hardest(torch.autograd.Function):
    """The two distances of `hardest`; the gradient of each is the unit vector from the other image.

    In few passes over (N, d), and yet in float32 and float64 to the last digit what autograd makes of two selections
    and `apart`. Autograd would go through the distance made last first, and add up its two gradients before those of
    the other: so anchors and others come twice, and the nearest comes before the farthest.
    """

    @staticmethod
    def forward(ctx, anchors: Tensor, others: Tensor, _anchors, _others, near: Tensor, far: Tensor):
        squared = torch.addmm(others.square().sum(1)[None], anchors, others.T, alpha=-2)  # (N, M), less |anchor|^2
        chosen = squared.masked_fill(~far, torch.inf).argmin(1), squared.masked_fill(~near, -torch.inf).argmax(1)
        away = [anchors - others.index_select(0, rows) for rows in chosen]  # (N, d) each
        distances = [norms(difference) for difference in away]  # (N,) each
        ctx.save_for_backward(*chosen, *away, *distances)
        ctx.others = len(others)
        return tuple(distances)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError("the hardest distances have no second gradient: call backward without create_graph")
        chosen, away, distances = (ctx.saved_tensors[i : i + 2] for i in (0, 2, 4))
        found = []
        for rows, difference, distance, gradient in zip(chosen, away, distances, gradients, strict=True):
            by_anchor, by_other = difference * (gradient / distance)[:, None], None  # (N, d)
            if ctx.needs_input_grad[1]:
                by_other = by_anchor.new_zeros(ctx.others, by_anchor.shape[1])  # (M, d)
                by_other.index_add_(0, rows, by_anchor, alpha=-1)
            found += [by_anchor, by_other]
        return *found, None, None


def cosines(features: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarities of pairs of rows, (N, d) and twice (M,) int64 -> (M,); a zero vector has similarity 0 to all,
    and no gradient."""
    lengths = torch.linalg.vector_norm(features, dim=1)  # (N,)
    lengths = lengths.masked_fill(lengths <= EPS, torch.inf)  # so that no gradient reaches a zero vector either
    products = (features.index_select(0, first) * features.index_select(0, second)).sum(1)  # (M,)
    return products / lengths[first] / lengths[second]


def same(ids: Tensor) -> Tensor:
    """Which pairs agree in `ids`: (N,) -> (N, N) bool, the diagonal included."""
    return ids[:, None] == ids[None]


def nothing(features: Tensor) -> Tensor:
    """A loss without any pair: 0, with a gradient of 0 everywhere, also where features are infinite."""
    return (features * 0).nan_to_num().sum()

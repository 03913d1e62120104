"""The metric losses that papers compare with: batch-hard triplet, and center loss."""

import torch
from torch import Tensor, nn

from .pairs import check, hardest, having, nothing, only, same


def batch_hard_triplet(
    features: Tensor, pids: Tensor, camids: Tensor | None = None, *, margin: float = 0.3, hinge: bool = True
) -> Tensor:
    r"""Hardest positive against hardest negative in the batch (Hermans, Beyer and Leibe 2017, equation 5).

    .. math::  L = \frac1{|A|} \sum_{a \in A} \Big[ m + \max_{p} D(f_a, f_p) - \min_{n} D(f_a, f_n) \Big]_+

    with D the Euclidean distance (not squared), p another image of a's person, n an image of another.

    features  (N, d) floating, taken as they are: normalise them first where unit vectors are meant. On unit vectors
              D is at most 2 and a margin of 0.3 means something; on raw features it depends on their scale
    pids      (N,) int64
    camids    not looked at: the loss knows nothing of cameras
    margin    m, 0.3 in most re-identification work
    hinge     False: without the [...]+, as PIRID prints it (its equation 5); triplets in the right order then pull
              on, and the loss has no lower bound

    Anchors without another image of their person, or without another person, leave the mean (the set A holds the
    others; anchors whose hinge is 0 stay). No anchor at all: a differentiable 0. Of equally far images the
    first gets the gradient. The paper sums over anchors; libraries, and this, average.
    """
    check(features, pids, camids)
    negative = ~same(pids)  # (N, N) bool
    positive = (~negative).fill_diagonal_(False)
    anchors = having(positive, negative)  # (A,)
    if not len(anchors):
        return nothing(features)
    farthest, nearest = hardest(features, features, positive, negative)  # (N,)
    gaps = only(margin + farthest - nearest, anchors)  # (A,)
    return (gaps.clamp(min=0) if hinge else gaps).mean()


class CenterLoss(nn.Module):
    r"""The squared distance to a learned centre of one's class, averaged over the batch (Wen et al. 2016, equation 2).

    .. math::  L = \frac1N \sum_i \lVert f_i - c_{y_i} \rVert_2^2

    Wen et al. have half of it, summed; the mean without the half is what re-identification uses, with a weight of
    0.0005 (Luo et al., "Bag of Tricks").

    num_ids, dim  how many centres, of which dimension: `centers` (num_ids, dim), zeros to begin with

    The centres can be learned in two ways. As parameters: give the module to `fit` in `stateful`, or to an optimiser
    of your own. Or by the rule of the paper, apart from the gradient: `CenterLoss(…).requires_grad_(False)`, and
    `update` after each step.
    """

    def __init__(self, num_ids: int, dim: int):
        super().__init__()
        if num_ids < 1 or dim < 1:
            raise ValueError(f"{num_ids} centres of dimension {dim}: both must be at least 1")
        self.centers = nn.Parameter(torch.zeros(num_ids, dim))

    def forward(self, features: Tensor, pids: Tensor, camids: Tensor | None = None) -> Tensor:
        """features (N, d), pids (N,) int64 from 0 to num_ids - 1; camids are not looked at. Returns a scalar."""
        self._check(features, pids, camids)
        if not len(pids):
            return nothing(features)
        return (features - self.centers[pids]).square().sum(1).mean()

    @torch.no_grad()
    def update(self, features: Tensor, pids: Tensor, *, rate: float = 0.5) -> None:
        r"""Move each centre that the batch holds towards its images (Wen et al., equation 4, `rate` = alpha).

        .. math::  c_j \leftarrow c_j - \alpha \frac{\sum_i [y_i = j] (c_j - f_i)}{1 + \sum_i [y_i = j]}
        """
        self._check(features, pids)
        away = self.centers[pids] - features  # (N, d)
        sums = torch.zeros_like(self.centers).index_add_(0, pids, away.to(self.centers.dtype))
        counts = torch.bincount(pids, minlength=len(self.centers))[:, None]  # (num_ids, 1)
        self.centers -= rate * sums / (1 + counts)

    def _check(self, features: Tensor, pids: Tensor, camids: Tensor | None = None) -> None:
        check(features, pids, camids)
        num_ids, dim = self.centers.shape
        if features.shape[1] != dim:
            raise ValueError(f"features have {features.shape[1]} dimensions, the centres {dim}")
        if len(pids) and not (pids.amin() >= 0 and pids.amax() < num_ids):
            raise ValueError(
                f"pids run from {int(pids.amin())} to {int(pids.amax())}, but there are {num_ids} centres: "
                "give contiguous labels from 0 on"
            )

"""Are these two images of one person? Verification by cross-entropy (Zheng, Zheng and Yang, TOMM 2018) and its rival.

Both look at pairs. `samplers.PairSampler` puts the two images of a pair in consecutive rows, so that
`features[0::2]` and `features[1::2]` are the two streams of the siamese network, f1 and f2 in the paper.
"""

import torch
from torch import Tensor, nn

from .pairs import apart, check, euclidean, nothing, same


class Verification(nn.Module):
    """The Square Layer and its two-way classifier (section III-D, eqs. 3-4): logits, for a cross-entropy.

        f_s = (f1 - f2)^2                      (N, dim)
        q   = softmax(theta_S o f_s)           (N, 2)
        Verif(f1, f2, s, theta_S) = sum_i -q_i log q_i
            = F.cross_entropy(verification(f1, f2), same.long()), the mean over pairs

    **Column 1 of the logits means the same person, column 0 different ones**, so that a Boolean `same` is the target.
    The paper calls "same" q1 and "different" q2; its released code labels them 1 and 2.

    dim         of the features
    dropout     rate; the paper gives none, its released code 0.9
    dropout_on  "difference", on f_s: the released code. "features", on f1 and f2 each: their two masks differ, the
                difference is mostly theirs, and little is learnt. The text ("before the final convolutional layer")
                allows both.
    init        "free", PyTorch's default: weights of both signs. The score for "different", w · f_s with w = w_0 - w_1
                (`metric_weights`), is then no distance: where w < 0 two images look the more alike the more they
                differ, and a ranking by Euclidean or cosine distance, which is the paper's, looks for something else.
                "signed": the same sizes with w_0 >= 0 >= w_1, a weighted squared distance to begin with, free to
                leave it.
    seed        of the weights

    `forward(first, second)`, (N, dim) each, -> (N, 2). Raises ValueError for shapes that differ or another dim.
    """

    def __init__(
        self, dim: int, *, dropout: float = 0.9, dropout_on: str = "difference", init: str = "free", seed: int = 0
    ):
        super().__init__()
        if dropout_on not in ("difference", "features"):
            raise ValueError(f"dropout_on is {dropout_on!r}: expected 'difference' (the code) or 'features'")
        if init not in ("free", "signed"):
            raise ValueError(f"init is {init!r}: expected 'free' or 'signed'")
        self.dim, self.dropout_on = dim, dropout_on
        self.dropout = nn.Dropout(dropout)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.classifier = nn.Linear(dim, 2)
        if init == "signed":
            with torch.no_grad():
                self.classifier.weight.abs_()
                self.classifier.weight[1].neg_()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        if first.shape != second.shape or first.ndim != 2 or first.shape[1] != self.dim:
            raise ValueError(
                f"first is {tuple(first.shape)}, second {tuple(second.shape)}: expected (N, {self.dim}) both"
            )
        if self.dropout_on == "features":
            first, second = self.dropout(first), self.dropout(second)
        difference = (first - second).square()  # (N, dim), f_s
        if self.dropout_on == "difference":
            difference = self.dropout(difference)
        return self.classifier(difference)  # (N, 2)

    def metric_weights(self) -> Tensor:
        """w_0 - w_1, (dim,): what each squared difference says for "different". In a distance none is negative."""
        weight = self.classifier.weight.detach()  # (2, dim)
        return weight[0] - weight[1]


def contrastive(
    features: Tensor, pids: Tensor, camids: Tensor | None = None, *, margin: float = 1.0, pairs: str = "all"
) -> Tensor:
    """The contrastive loss (Hadsell, Chopra and LeCun, CVPR 2006, eq. 4), what Zheng et al. compare with.

        L = mean over pairs of  1/2 d^2              the same person
                                1/2 [margin - d]+^2  different people,   d = |f_i - f_j|

    features (N, d) float, pids (N,) int64; camids are checked and not used. Distances are Euclidean, between the
    features as they come: on unit vectors they lie in [0, 2]; on raw ones the margin means something else in each
    network. The paper names neither margin nor normalisation.

    margin  in the unit of d
    pairs   "all" of the batch; or "consecutive", rows 2i and 2i + 1: the pairs of a PairSampler, which are the labels
            that Verification sees

    Returns a scalar; a differentiable 0 for a batch without a pair. Raises ValueError for bad shapes or dtypes, an odd
    number of rows under "consecutive", a margin that is not positive.
    """
    check(features, pids, camids)
    if not margin > 0:
        raise ValueError(f"margin is {margin}: expected a positive distance")
    n = len(features)
    if pairs == "consecutive" and n % 2:
        raise ValueError(f"{n} rows are no consecutive pairs: expected an even number")
    if pairs not in ("all", "consecutive"):
        raise ValueError(f"pairs is {pairs!r}: expected 'all' or 'consecutive'")
    if n < 2:
        return nothing(features)
    if pairs == "all":  # one matrix product; both halves of the matrix count, and the diagonal is 0
        distances, alike = euclidean(features, features), same(pids)  # (N, N)
        count = n * (n - 1)
        distances = distances.masked_fill(torch.eye(n, dtype=torch.bool, device=distances.device), 0)
    else:
        distances, alike = apart(features[0::2], features[1::2]), pids[0::2] == pids[1::2]  # (P,)
        count = n // 2
    short = (margin - distances).clamp(min=0)
    return torch.where(alike, distances, short).square().sum() / count / 2

"""The cross camera similarity constraint (Zhao, Liu, Li and Yu, "Learning Cross Camera Invariant Features with CCSC
Loss for Person Re-identification")."""

from torch import Tensor

from .pairs import check, cosines, nothing, same


def ccsc(
    features: Tensor,
    pids: Tensor,
    camids: Tensor,
    *,
    cross_camera: bool = True,
    include_self: bool = False,
    eps: float = 1e-6,
) -> Tensor:
    r"""The mean of T(cos) = 1 / (1 + cos) over the pairs of one person seen by two cameras (equations 1 to 3).

    .. math::  L = \frac1M \sum_p \sum_i \sum_j \frac{I(i, j)}{1 + \cos(f_i^p, f_j^p)}, \qquad M = \sum I,
               \qquad I(i, j) = [c_i \ne c_j]

    features      (N, d) floating, f in the paper; the cosine divides by their length, so they come as they are
    pids, camids  (N,) int64
    cross_camera  False sets I = 1, the paper's "without constraint" (table 2): all pairs of a person count
    include_self  whether I = 1 also counts an image paired with itself, a constant 1/2, as the sum over i and j says
                  to the letter: with K images a person the gradient is (K - 1) / K of what it is without them.
                  With cross_camera=True it changes nothing: an image shares its own camera
    eps           1 + cos is at least this: the pole at cos = -1, which the paper leaves open, becomes 1 / eps with
                  a gradient of 0. Behind a ReLU (the paper's f) cos >= 0, and eps changes nothing

    Returns a scalar: from 1/2, all pairs parallel, to 1, all at right angles, for features that are nowhere negative.
    Pairs are ordered, as in the sums; over unordered pairs the mean is the same. A batch without any pair (the paper
    would divide 0 by 0) gives a differentiable 0. For the gradient the pairs are kept: with K images a person, at most
    K - 1 times the features (K + 1 with images beside themselves). Raises ValueError for shapes or dtypes that do not
    fit.

    Same-camera pairs alone: let `pids` number pairs of person and camera, and say `cross_camera=False`.
    """
    check(features, pids, camids)
    if not eps > 0:
        raise ValueError(f"eps is {eps}: expected a small positive number, the least value of 1 + cos")
    chosen = same(pids)  # (N, N) bool
    if cross_camera:
        chosen = chosen & ~same(camids)
    elif not include_self:
        chosen.fill_diagonal_(False)
    first, second = chosen.triu().nonzero().T  # (M,) each, a pair once: few, where a person has few images
    if not len(first):
        return nothing(features)
    terms = 1 / (1 + cosines(features, first, second)).clamp(min=eps)  # (M,)
    counts = 1 + (first != second)  # in the sums a pair stands in both orders, an image with itself in one
    return (terms * counts).sum() / counts.sum()

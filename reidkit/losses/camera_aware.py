"""Losses that look at cameras inside an identity: DCAML's camera-aware loss, and four losses of its family.

All are hinges [D(a, p) - D(a, n) + margin]+ over anchors a, and differ only in who is p and who is n:

    loss                    p, to come near                      n, to stay away
    camera_aware            same person, same camera             same person, another camera   (eq. 11, as printed)
    camera_aware_flipped    same person, another camera          same person, same camera      (its sign turned)
    camera_aware_triplet    same person, another camera          another person, same camera
    intra_camera_triplet    same person, same camera             another person, same camera   (eq. 5, read literally)
    cross_camera_pull       same person, another camera          nobody: no hinge, no margin

An anchor that lacks a p or an n leaves the mean. Retrieval across cameras ranks the second row of pairs of
`camera_aware` before everything else, so that loss pushes apart what the protocol scores as right: see notebook 03.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .pairs import apart, check, hardest, having, nothing, only, same


def camera_aware(
    features: Tensor,
    pids: Tensor,
    camids: Tensor,
    *,
    margin: float = 0.1,
    mining: str = "hard",
    negatives: str = "person",
    normalise: bool = False,
    squared: bool = False,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """DCAML's camera-aware loss, eq. 11: a person's images of one camera nearer than her images of another.

        L = sum_{a=1..P} sum_{c=1,2} sum_{i=1,2} [D(x_i^c, x_{3-i}^c) - min_{k=1,2} D(x_i^c, x_k^{3-c}) + margin]+

    features (N, d) float; pids, camids (N,) int64; D is Euclidean. For the paper's quadruplets (two cameras, two images
    each: `samplers.CameraQuadrupletSampler`) this is eq. 11. Any other batch will do: with several images of the
    anchor's camera the farthest counts (eq. 6), with several other cameras the nearest image of all (eq. 7).

    margin     0.1 in the paper; in the unit of D
    mining     "hard", the nearest other-camera image, eq. 11; "random", one of them drawn from `generator`, by default
               torch's own stream
    negatives  "person", the other-camera images of the same person, eq. 11; "batch", those of anybody
    normalise  L2-normalise the features first. The paper does not say; False takes them as they come
    squared    D squared
    reduction  "mean" over the anchors that have both partners, or "sum", as printed: it grows with the batch, the
               identification loss beside it does not

    Returns a scalar; a differentiable 0 if no anchor has both partners. Raises ValueError for bad shapes, dtypes, or
    an unknown word.
    """
    check(features, pids, camids)
    if negatives not in ("person", "batch"):
        raise ValueError(f"negatives is {negatives!r}: expected 'person' (eq. 11) or 'batch'")
    person, camera = same(pids), same(camids)  # (N, N)
    far = ~camera & person if negatives == "person" else ~camera
    near = (person & camera).fill_diagonal_(False)
    how = {"margin": margin, "mining": mining, "normalise": normalise, "squared": squared, "reduction": reduction}
    return _hinge(features, near, far, **how, generator=generator)


def camera_aware_flipped(features: Tensor, pids: Tensor, camids: Tensor, **options) -> Tensor:
    """Eq. 11 with its sign turned: a person's images of another camera nearer than those of the same camera.

    Against the farthest other-camera image and, under "hard", the nearest same-camera one. Options as in
    `camera_aware`, `negatives` excepted.
    """
    check(features, pids, camids)
    person, camera = same(pids), same(camids)
    return _hinge(features, person & ~camera, (person & camera).fill_diagonal_(False), **options)


def camera_aware_triplet(features: Tensor, pids: Tensor, camids: Tensor, **options) -> Tensor:
    """A triplet loss that knows cameras: positive = the same person under another camera, negative = another person
    under the same camera. What the Market-1501 protocol scores, and what a camera makes hard.

    Options as in `camera_aware`, `negatives` excepted: positives are the farthest, negatives by `mining`. An anchor
    alone in its camera leaves the mean.
    """
    check(features, pids, camids)
    person, camera = same(pids), same(camids)
    return _hinge(features, person & ~camera, ~person & camera, **options)


def intra_camera_triplet(features: Tensor, pids: Tensor, camids: Tensor, **options) -> Tensor:
    """DCAML's eq. 5, read literally: y_a = y_p != y_n, all three under camera c. A triplet of identities in one camera.

    The paper's text and its eq. 11 mean one person and two cameras instead (`camera_aware`). Options as there,
    `negatives` excepted.
    """
    check(features, pids, camids)
    person, camera = same(pids), same(camids)
    return _hinge(features, (person & camera).fill_diagonal_(False), ~person & camera, **options)


def cross_camera_pull(
    features: Tensor,
    pids: Tensor,
    camids: Tensor,
    *,
    normalise: bool = False,
    squared: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """The plain opposite of eq. 11's push: the distance of a person's images under different cameras, over all such
    pairs ("mean" or "sum"). It has no negative: beside it, a loss must keep persons apart.

    For the gradient the pairs' differences are kept: with K images a person, at most (K - 1) / 2 times the features.
    """
    check(features, pids, camids)
    first, second = (same(pids) & ~same(camids)).triu().nonzero().T  # (M,) each: few, where a person has few images
    rows = F.normalize(features, dim=1) if normalise else features
    distances = apart(rows.index_select(0, first), rows.index_select(0, second))  # (M,)
    distances = distances.square() if squared else distances
    return _reduced(distances.repeat(2), reduction, features)  # a pair counts from both its ends


@dataclass(frozen=True)
class DynamicWeight:
    """The weight alpha of the camera-aware loss over training: alpha(k) = order · k / total_steps (DCAML, eqs. 13-14).

    order        O_ID, "the orders of magnitude for ID loss at the initial time": see `order_of_magnitude`
    total_steps  N_batch · N_epoch; alpha grows to `order` after as many steps and is order / 2 on average
    period       k starts anew every so many steps: the other reading of "minibatch index". Then alpha stays below
                 order · period / total_steps

    Called with the step, from 0 to total_steps; any other is a ValueError.
    """

    order: float
    total_steps: int
    period: int | None = None

    def __post_init__(self):
        if not (self.order >= 0 and math.isfinite(self.order)):
            raise ValueError(f"order is {self.order}: expected a finite number from 0 on")
        if self.total_steps < 1 or (self.period is not None and self.period < 1):
            raise ValueError(f"total_steps is {self.total_steps}, period {self.period}: both count steps, from 1 on")

    def __call__(self, step: int) -> float:
        if not 0 <= step <= self.total_steps:
            raise ValueError(f"step {step} of {self.total_steps}: steps count from 0")
        k = step if self.period is None else step % self.period
        return self.order * k / self.total_steps


def order_of_magnitude(loss: float, *, reading: str = "power") -> float:
    """O_ID of eq. 13 from the identification loss of the first step.

    "power" is 10^floor(log10 loss), what the words say: 1 for a loss of ln 751 = 6.6, so that alpha ends where the
    paper's fixed 1:1 stands. "value" is the loss itself, so that alpha times a camera-aware loss of 1 would equal it.
    (The exponent, 0 for 6.6, would leave the loss out.)
    """
    if not (loss > 0 and math.isfinite(loss)):
        raise ValueError(f"the loss is {loss}: only a finite, positive number has an order of magnitude")
    if reading not in ("power", "value"):
        raise ValueError(f"reading is {reading!r}: expected 'power' or 'value'")
    return 10.0 ** math.floor(math.log10(loss)) if reading == "power" else float(loss)


def _hinge(
    features: Tensor,
    near: Tensor,
    far: Tensor,
    *,
    margin: float = 0.1,
    mining: str = "hard",
    normalise: bool = False,
    squared: bool = False,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """[max over `near` of D - min over `far` of D + margin]+ over the anchors that have both; near, far (N, N) bool."""
    if mining not in ("hard", "random"):
        raise ValueError(f"mining is {mining!r}: expected 'hard' or 'random'")
    anchors = having(near, far)  # (A,)
    if not len(anchors):
        return _reduced(features.new_empty(0), reduction, features)
    if mining == "random":  # keep one of each anchor's, all equally likely
        drawn = torch.rand(far.shape, generator=generator, device=far.device).masked_fill(~far, -1)
        far = far & F.one_hot(drawn.argmax(1), len(far)).bool()
    features = F.normalize(features, dim=1) if normalise else features
    gaps = hardest(features, features, near, far)
    farthest, nearest = (gap.square() if squared else gap for gap in gaps)  # (N,)
    return _reduced(only(F.relu(farthest - nearest + margin), anchors), reduction, features)


def _reduced(terms: Tensor, reduction: str, features: Tensor) -> Tensor:
    """The mean or the sum of (M,) terms; a differentiable 0 if there is none."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}: expected 'mean' or 'sum'")
    if not len(terms):
        return nothing(features)
    return terms.mean() if reduction == "mean" else terms.sum()

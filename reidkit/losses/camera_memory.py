"""Intra-camera losses against a memory of identities: Wang et al., "Towards Precise Intra-camera Supervised Person
Re-Identification" (WACV 2021), equations 2 to 4.

Shared arguments:

ids            (N,) int64     row of `memory` that each image belongs to: its accumulated intra-camera identity, A + y
camids         (N,) int64     its camera
memory         (M, d) float   K of the paper, one row an identity, read as a constant (it is updated elsewhere)
memory_camids  (M,) int64     the camera of each row
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .pairs import check, hardest, same


def camera_softmax(
    features: Tensor, ids: Tensor, camids: Tensor, memory: Tensor, memory_camids: Tensor, *, temperature: float
) -> Tensor:
    """The intra-camera ID loss: a non-parametric classifier a camera (equations 2 and 3).

        p(j | x) = exp(K[j]'f / tau) / sum of exp(K[k]'f / tau) over the identities k of x's camera
        L        = - sum over cameras c of 1/|D_c| * sum over the images of c of log p(j | x)

    features (N, d): f of the paper, L2-normalised by the caller. D_c is read as the batch's images of camera c, as in
    the released code: the mean within a camera, the sum over cameras present. The gradient by a feature is (p - y) K /
    tau, times 1/|D_c|. A camera-agnostic classifier (M2 of the paper) is the case of one camera: camids and
    memory_camids all zero.
    """
    _check(features, ids, camids, memory, memory_camids)
    if not temperature > 0:  # NaN neither
        raise ValueError(f"temperature is {temperature}: expected a number above 0 (the paper: 1/15)")
    logits = features @ memory.detach().to(features.dtype).T / temperature  # (N, M)
    return camera_cross_entropy(logits, ids, camids, memory_camids)


def camera_cross_entropy(logits: Tensor, ids: Tensor, camids: Tensor, memory_camids: Tensor) -> Tensor:
    """Equation 3 for logits (N, M) of any origin: with a linear classifier's, parametric branches (M1 of the paper).

    Each image is classified among the identities of its own camera.
    """
    _check_rows(ids, camids, memory_camids, len(memory_camids))
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}: expected floating (N, M)")
    if logits.shape != (len(ids), len(memory_camids)):
        raise ValueError(f"logits are {tuple(logits.shape)}: {len(ids)} images, {len(memory_camids)} identities")
    elsewhere = camids[:, None] != memory_camids[None]  # (N, M)
    losses = F.cross_entropy(logits.masked_fill(elsewhere, -torch.inf), ids, reduction="none")  # (N,)
    return mean_by_camera(losses, camids)


def quintuplet(
    pooled: Tensor,
    features: Tensor,
    ids: Tensor,
    camids: Tensor,
    memory: Tensor,
    memory_camids: Tensor,
    *,
    instance_margin: float = 0.3,
    centroid_margin: float = 0.3,
) -> Tensor:
    """The hybrid mining quintuplet loss (equation 4): hard images of the batch, hard centroids of the memory.

        [m1 + max |g_a - g_p| - min |g_a - g_n|]+  +  [m2 + |f_a - K[own]| - min |f_a - K[other]|]+

    all within the anchor's camera. pooled (N, C): g, not normalised; features (N, d): f, normalised by the caller.
    Distances are Euclidean. The paper prints a sum over anchors; this is the mean in a camera, summed over the cameras
    present, as in the released code (and as equation 3). An anchor without another identity in its camera, in the batch
    (first term) or in the memory (second), has a hinge of 0, and that 0 stays in the mean.
    """
    hinges = quintuplet_hinges(
        *(pooled, features, ids, camids, memory, memory_camids),
        instance_margin=instance_margin,
        centroid_margin=centroid_margin,
    )
    return mean_by_camera(hinges.sum(0), camids)


def quintuplet_hinges(
    pooled: Tensor,
    features: Tensor,
    ids: Tensor,
    camids: Tensor,
    memory: Tensor,
    memory_camids: Tensor,
    *,
    instance_margin: float = 0.3,
    centroid_margin: float = 0.3,
) -> Tensor:
    """The two hinges of `quintuplet` for each anchor, before any mean: (2, N), instance term then centroid term.

    The first row alone is a batch-hard triplet loss within cameras (M4 of the paper); the share above 0 says how much
    there is left to mine.
    """
    check(pooled, ids, camids)
    _check(features, ids, camids, memory, memory_camids)
    if not len(ids):
        return (pooled.sum() + features.sum()) * torch.zeros(2, 0).to(features)
    own, here = same(ids), same(camids)  # (N, N)
    instances = _hinge(pooled, pooled, own, here & ~own, instance_margin)
    own = F.one_hot(ids, len(memory)).bool()  # (N, M)
    other = (camids[:, None] == memory_camids[None]) & ~own
    centroids = _hinge(features, memory.detach().to(features.dtype), own, other, centroid_margin)
    return torch.stack([instances, centroids])  # (2, N)


def mean_by_camera(losses: Tensor, camids: Tensor) -> Tensor:
    """The mean of `losses` (N,) within each camera, summed over the cameras present."""
    _, camera, counts = torch.unique(camids, return_inverse=True, return_counts=True)
    return (losses / counts[camera]).sum()


def _hinge(anchors: Tensor, others: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """[margin + farthest positive - nearest negative]+ of each anchor, (N, d), (M, d) and masks (N, M) -> (N,).

    0 where there is no negative. Everybody has a positive: in the batch at least itself, in the memory its own row.
    """
    farthest, nearest = hardest(anchors, others, positive, negative)  # (N,)
    return torch.where(negative.any(1), F.relu(margin + farthest - nearest), 0.0)


def _check(features: Tensor, ids: Tensor, camids: Tensor, memory: Tensor, memory_camids: Tensor) -> None:
    check(features, ids, camids)
    if memory.ndim != 2 or memory.shape[1] != features.shape[1] or not memory.is_floating_point():
        raise ValueError(
            f"memory is {memory.dtype} {tuple(memory.shape)} and features are {tuple(features.shape)}: "
            f"expected floating (M, {features.shape[1]})"
        )
    _check_rows(ids, camids, memory_camids, len(memory))


def _check_rows(ids: Tensor, camids: Tensor, memory_camids: Tensor, rows: int) -> None:
    """Every image has a row, and the row is of the image's camera."""
    for name, labels in (("ids", ids), ("camids", camids), ("memory_camids", memory_camids)):
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise ValueError(f"{name} are {labels.dtype} {tuple(labels.shape)}: expected int64, one dimension")
    if len(ids) != len(camids):
        raise ValueError(f"{len(ids)} ids and {len(camids)} camids: expected one of each an image")
    if len(memory_camids) != rows:
        raise ValueError(f"{len(memory_camids)} memory_camids for a memory of {rows} rows: expected one each")
    if not len(ids):
        return
    if not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        raise ValueError(f"ids run from {int(ids.min())} to {int(ids.max())}; the memory has rows 0 to {rows - 1}")
    wrong = torch.nonzero(memory_camids[ids] != camids).flatten()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"image {i} is of camera {int(camids[i])} but its identity, row {int(ids[i])} of the memory, is of camera "
            f"{int(memory_camids[ids[i]])} ({len(wrong)} of {len(ids)} images disagree): ids must be intra-camera "
            "identities, as association.intra_camera_labels gives them"
        )

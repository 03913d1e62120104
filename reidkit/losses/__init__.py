"""Every loss of the five papers and of those they compare with. One signature:

    loss(features, pids, camids, *, …) -> scalar tensor      (a module only where it has state or weights)

features (N, d) float, pids and camids (N,) int64. Margins are named arguments, and so are distance, normalisation and
reduction where a paper leaves them open; elsewhere the docstring says which they are. Nothing is normalised silently:
callers normalise where the paper does. A batch without a valid pair gives a differentiable 0, never NaN. Bad shapes or
dtypes raise ValueError.
"""

from .camera_aware import (
    DynamicWeight,
    camera_aware,
    camera_aware_flipped,
    camera_aware_triplet,
    cross_camera_pull,
    intra_camera_triplet,
    order_of_magnitude,
)
from .camera_memory import camera_cross_entropy, camera_softmax, quintuplet, quintuplet_hinges
from .ccsc import ccsc
from .metric import CenterLoss, batch_hard_triplet
from .verification import Verification, contrastive

__all__ = [
    "CenterLoss",
    "DynamicWeight",
    "Verification",
    "batch_hard_triplet",
    "camera_aware",
    "camera_aware_flipped",
    "camera_aware_triplet",
    "camera_cross_entropy",
    "camera_softmax",
    "ccsc",
    "contrastive",
    "cross_camera_pull",
    "intra_camera_triplet",
    "order_of_magnitude",
    "quintuplet",
    "quintuplet_hinges",
]

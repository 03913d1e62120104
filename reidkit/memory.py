"""A memory of identities: one unit vector each, updated in the open after a training step (Precise-ICS, section 3.1.1).

Nothing here is differentiated: the bank is a buffer, losses read it as a constant, and `update` is called where one can
see it (`fit`'s `after_step`). In checkpoints it is kept by `fit`'s `stateful`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """K of the paper: `memory` (num_ids, dim) float32, one row an identity, unit length once written.

    num_ids  rows; on the accumulated identities of intra-camera supervision, N = sum of N_c
    dim      d, the length of a feature
    rate     mu of equation 1, the share that a row KEEPS of itself: 1 never learns, 0 holds the last image

    Rows begin at zero, as in the released code; the paper is silent. A zero row takes the direction of its first image
    at any rate below 1, but until then it is equally far from everything; `fill` starts from the features instead.
    """

    def __init__(self, num_ids: int, dim: int, *, rate: float):
        super().__init__()
        if num_ids < 1 or dim < 1:
            raise ValueError(f"a memory of {num_ids} identities x {dim} dimensions: both must be at least 1")
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}: it is the share of itself that a row keeps, from 0 to 1")
        self.rate = rate
        self.register_buffer("memory", torch.zeros(num_ids, dim))

    @torch.no_grad()
    def update(self, features: Tensor, ids: Tensor) -> None:
        """Equation 1 for each image in turn: K[j] <- mu K[j] + (1 - mu) f(x), then K[j] <- K[j] / |K[j]|.

        features (B, dim), in the paper of unit length (nothing is normalised here but the rows); ids (B,) int64, row of
        each image. Images of one identity apply in the order in which they come, each seeing the row as the one before
        it left it. A mixture without a direction (K[j] = -f at mu = 1/2) leaves the row as it was.
        """
        features, ids = self._checked(features, ids)
        order = torch.argsort(ids, stable=True)
        _, counts = torch.unique_consecutive(ids[order], return_counts=True)
        first = counts.cumsum(0) - counts  # where each identity's images begin in `order`
        turn = torch.arange(len(ids), device=ids.device) - first.repeat_interleave(counts)  # 0 for its first image, ...
        for t in range(int(counts.max()) if len(ids) else 0):  # at most K turns for a P x K batch
            images = order[turn == t]  # at most one of each identity
            self._write(ids[images], self.rate * self.memory[ids[images]] + (1 - self.rate) * features[images])

    @torch.no_grad()
    def fill(self, features: Tensor, ids: Tensor) -> None:
        """Start each identity that comes in `ids` at the normalised mean of its features (N, dim); not in the paper."""
        features, ids = self._checked(features, ids)
        sums = torch.zeros_like(self.memory).index_add_(0, ids, features)
        rows = torch.unique(ids)
        self._write(rows, sums[rows])

    def _write(self, rows: Tensor, values: Tensor) -> None:
        lengths = values.norm(dim=1, keepdim=True)
        self.memory[rows] = torch.where(lengths > 1e-12, F.normalize(values, dim=1), self.memory[rows])

    def _checked(self, features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        num_ids, dim = self.memory.shape
        if features.ndim != 2 or features.shape[1] != dim or not features.is_floating_point():
            raise ValueError(f"features are {features.dtype} {tuple(features.shape)}: expected floating (B, {dim})")
        if ids.dtype != torch.int64 or ids.shape != features.shape[:1]:
            raise ValueError(
                f"{len(features)} features and ids {ids.dtype} {tuple(ids.shape)}: expected one int64 each"
            )
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < num_ids:
            raise ValueError(f"ids run from {int(ids.min())} to {int(ids.max())}; rows are 0 to {num_ids - 1}")
        return features.to(self.memory), ids.to(self.memory.device)

    def extra_repr(self) -> str:
        return f"{self.memory.shape[0]}, {self.memory.shape[1]}, rate={self.rate}"

"""The training of one row of a table, for every kind of supervision in the course, on one network and one budget.

What notebooks 02 to 05 each train in their own network and length, here under the same conditions:

    supervised       identification beside any other loss, cross-camera labels                 (notebooks 01, 02, 03)
    intra_camera     a classifier a camera, by memory or by branches, and its hinges           (04: M1 to M5)
    second_stage     that model on people guessed by `associate`, or on the true ones          (04: M7, M8)
    with_prototypes  intra-camera memory, and prototypes clustered anew every epoch            (05: PIRID)

Each returns Trained. `accumulated` and `class_means` are the small parts that notebooks 04 and 05 share.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidkit import bench
from reidkit.association import associate, intra_camera_labels, prototypes
from reidkit.datasets import ReIDDataset, labels
from reidkit.embedding import embed
from reidkit.loading import pixels
from reidkit.losses import batch_hard_triplet, camera_cross_entropy, camera_softmax, quintuplet_hinges
from reidkit.losses.camera_memory import mean_by_camera
from reidkit.memory import MemoryBank
from reidkit.models import FCNeck, ReID
from reidkit.samplers import CameraQuadrupletSampler, PKSampler, Sampler
from reidkit.training import fit


@dataclass(frozen=True)
class Budget:
    """What the rows of a bench share: the start (`bench.backbone`), image size, width of f, steps, and P × K images."""

    profile: str = "demo"
    size: tuple[int, int] = (64, 32)
    dim: int = 128
    steps: int = 120
    p: int = 16
    k: int = 4
    start: str = "stand-in"


class Trained(NamedTuple):
    """A trained row: its network, its memory bank if it has one, and its history (a row a step)."""

    model: ReID
    bank: MemoryBank | None
    history: pd.DataFrame


def network(budget: Budget, num_ids: int | None, seed: int) -> ReID:
    """Backbone, average pooling to g, FC + BN to f, dropout 0.5, a classifier if there is anything to classify."""
    trunk = bench.backbone(budget.profile, budget.start, seed)
    neck = FCNeck(trunk.channels, budget.dim, dropout=0.5, seed=seed)
    return ReID(trunk, neck, num_ids, classifier_bias=True, seed=seed)


def accumulated(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intra-camera labels of a split: ids (N,) int64 of its images, then for each accumulated identity its camera and
    the person behind it (for judges only), both (num_ids,)."""
    pids, camids = frame.pid.to_numpy(), frame.camid.to_numpy()
    ids = intra_camera_labels(pids, camids)
    first = np.unique(ids, return_index=True)[1]
    return ids, camids[first], pids[first]


def class_means(model: nn.Module, data: ReIDDataset, ids: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The direction of each identity's mean training feature, as a memory bank holds it: (num_ids, d) unit rows."""
    features = torch.from_numpy(embed(model, pixels(data.train, size)))  # (N, d)
    bank = MemoryBank(int(ids.max()) + 1, features.shape[1], rate=0.0)
    bank.fill(F.normalize(features), torch.from_numpy(ids))
    return bank.memory


def supervised(
    data: ReIDDataset,
    seed: int,
    budget: Budget,
    terms: Mapping[str, tuple[float, Callable]] | None = None,
    *,
    sampler: Sampler | None = None,
) -> Trained:
    """Identification and the `terms` beside it, from labels across cameras.

    terms    name -> (weight, loss(features, pids, camids)). A class is built first, as loss(num_ids, dim); an nn.Module
             is trained too, unless it has an `update(features, pids)`, which is called after each step instead
    sampler  default: camera quadruplets, P people × two cameras × two images
    """
    pids = labels(data.train)
    people = int(pids.max()) + 1
    if sampler is None:
        sampler = CameraQuadrupletSampler(pids, data.train.camid, p=min(budget.p, people), seed=seed)
    terms = dict(terms or {})
    losses = {name: loss(people, budget.dim) if isinstance(loss, type) else loss for name, (_, loss) in terms.items()}
    own_rule = [loss.requires_grad_(False) for loss in losses.values() if hasattr(loss, "update")]

    def objective(model, batch, step):
        out = model(batch.images)
        of_batch = out.features, batch.pids, batch.camids
        return {"id": F.cross_entropy(out.logits, batch.pids)} | {
            name: loss(*of_batch) for name, loss in losses.items()
        }

    def after_step(batch, out):
        for loss in own_rule:
            loss.update(out.features, batch.pids)

    model = network(budget, people, seed)
    history = fit(
        model,
        objective,
        bench.batches(data, budget.size, seed=seed, sampler=sampler),
        steps=budget.steps,
        seed=seed,
        weights={name: weight for name, (weight, _) in terms.items()},
        after_step=after_step,
        stateful={name: loss for name, loss in losses.items() if isinstance(loss, nn.Module)},
    )
    return Trained(model, None, history.frame)


def _from_inside_cameras(data: ReIDDataset, seed: int, budget: Budget, *, rate: float, branches: bool = False):
    """What both intra-camera recipes begin with: ids, cameras, network, memory of the start's features, batches."""
    ids, cameras, _ = accumulated(data.train)
    model = network(budget, len(cameras) if branches else None, seed)
    bank = MemoryBank(len(cameras), budget.dim, rate=rate)
    bank.fill(class_means(model, data, ids, budget.size), torch.arange(len(cameras)))
    sampler = PKSampler(ids, p=min(budget.p, len(cameras)), k=budget.k, seed=seed)
    return ids, cameras, model, bank, bench.batches(data, budget.size, seed=seed, sampler=sampler, pids=ids)


def intra_camera(
    data: ReIDDataset,
    seed: int,
    budget: Budget,
    *,
    classifier: str = "memory",
    hinges: Sequence[str] = (),
    rate: float = 0.5,
    temperature: float = 1 / 15,
    margin: float = 0.3,
) -> Trained:
    """Precise-ICS, stage 1, from labels inside cameras. Every row keeps a memory (equation 1), for `guessed_people`.

    classifier  "memory", equation 3 on the memory (M3 to M5); "branches", parametric weights a camera (M1)
    hinges      of "instance" and "centroid", the two terms of the quintuplet loss, equation 4 (M5 has both)
    """
    if classifier not in ("memory", "branches"):
        raise ValueError(f"classifier is {classifier!r}: expected 'memory' or 'branches'")
    if unknown := set(hinges) - {"instance", "centroid"}:
        raise ValueError(f"hinges name {unknown.pop()!r}: expected 'instance', 'centroid' or both")
    branches = classifier == "branches"
    _, cameras, model, bank, batches = _from_inside_cameras(data, seed, budget, rate=rate, branches=branches)

    def objective(model, batch, step):
        out = model(batch.images)
        f, where = F.normalize(out.features), torch.from_numpy(cameras).to(batch.pids.device)
        if branches:
            terms = {"id": camera_cross_entropy(out.logits, batch.pids, batch.camids, where)}
        else:
            terms = {"id": camera_softmax(f, batch.pids, batch.camids, bank.memory, where, temperature=temperature)}
        if hinges:
            of_batch = out.pooled, f, batch.pids, batch.camids, bank.memory, where
            both = quintuplet_hinges(*of_batch, instance_margin=margin, centroid_margin=margin)
            for name, hinge in zip(("instance", "centroid"), both, strict=True):
                if name in hinges:
                    terms[name] = mean_by_camera(hinge, batch.camids)
        return terms

    history = fit(
        model,
        objective,
        batches,
        steps=budget.steps,
        seed=seed,
        after_step=lambda batch, out: bank.update(F.normalize(out.features), batch.pids),
        stateful={"memory": bank},
    )
    return Trained(model, bank, history.frame)


def guessed_people(stage: Trained, data: ReIDDataset) -> np.ndarray:
    """A person for each training image, (N,) int64, by the association graph over the memory (equation 6, S = N)."""
    ids, cameras, _ = accumulated(data.train)
    return associate(stage.bank.memory, cameras, n_pairs=len(cameras))[ids]


def second_stage(
    data: ReIDDataset, seed: int, budget: Budget, stage: Trained, people: np.ndarray, *, margin: float = 0.3
) -> Trained:
    """Precise-ICS, stage 2: a new classifier over `people` (N,), with label smoothing 0.1, and a batch-hard triplet on
    g. The first stage's model is left as it was. -1 leaves an image out."""
    count = int(people.max()) + 1
    if count < 2:
        raise ValueError(f"the images are of {count} person: nothing to classify")
    first = deepcopy(stage.model)
    model = ReID(first.backbone, first.neck, count, classifier_bias=True, seed=seed)

    def objective(model, batch, step):
        out = model(batch.images)
        return {
            "id": F.cross_entropy(out.logits, batch.pids, label_smoothing=0.1),
            "triplet": batch_hard_triplet(out.pooled, batch.pids, margin=margin),
        }

    sampler = PKSampler(people, p=min(budget.p, count), k=budget.k, seed=seed, ignore=-1)
    batches = bench.batches(data, budget.size, seed=seed, sampler=sampler, pids=people)
    history = fit(model, objective, batches, steps=budget.steps, seed=seed)
    return Trained(model, stage.bank, history.frame)


def with_prototypes(
    data: ReIDDataset,
    seed: int,
    budget: Budget,
    *,
    eps: float = 0.6,
    metric: str = "jaccard",
    intra_only: float = 0.25,
    rate: float = 0.5,
    temperature: float = 0.05,
    margin: float = 0.1,
) -> Trained:
    """PIRID from labels inside cameras: equation 3, and from the share `intra_only` of the steps on equations 4 and 5
    on prototypes, DBSCAN clusters of the memory that are found anew every epoch. Identities without a prototype are
    left out of both. History: also `prototypes`, how many there are at each step."""
    _, cameras, model, bank, batches = _from_inside_cameras(data, seed, budget, rate=rate)
    first, every = round(intra_only * budget.steps), len(batches)
    found, inter, counts = torch.empty(0), None, []

    def cluster() -> None:
        nonlocal found, inter
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no prototype or one of everybody: the history says so
            found = torch.from_numpy(prototypes(bank.memory, cameras, eps=eps, metric=metric)).to(bank.memory.device)
        joined, inter = found >= 0, None
        if joined.any() and int(found.max()) > 0:  # a softmax over one prototype teaches nothing
            inter = MemoryBank(int(found.max()) + 1, budget.dim, rate=rate).to(bank.memory.device)
            inter.fill(bank.memory[joined], found[joined])

    def objective(model, batch, step):
        if step >= first and (step - first) % every == 0:
            cluster()
        out = model(batch.images)
        f, where = F.normalize(out.features), torch.from_numpy(cameras).to(batch.pids.device)
        terms = {"intra": camera_softmax(f, batch.pids, batch.camids, bank.memory, where, temperature=temperature)}
        counts.append(0 if inter is None else len(inter.memory))
        if inter is not None and (joined := found[batch.pids] >= 0).any():
            own = found[batch.pids][joined]
            terms["inter"] = F.cross_entropy(f[joined] @ inter.memory.T / temperature, own)
            terms["triplet"] = batch_hard_triplet(out.pooled[joined], own, margin=margin, hinge=False)
        return terms

    def after_step(batch, out):
        f = F.normalize(out.features)
        bank.update(f, batch.pids)
        if inter is not None:
            joined = found[batch.pids] >= 0
            inter.update(f[joined], found[batch.pids][joined])

    history = fit(
        model, objective, batches, steps=budget.steps, seed=seed, after_step=after_step, stateful={"memory": bank}
    )
    return Trained(model, bank, history.frame.assign(prototypes=counts))

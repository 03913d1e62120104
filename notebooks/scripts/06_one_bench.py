# %% [markdown]
# # 06 · One bench: all five papers under one roof
#
# *reidkit: camera-aware person re-identification, paper by paper*
#
# Each of the five papers compares its method with its own baseline, in its own network, for its own number of epochs. A gain of four points here and of three points there cannot be set side by side. This notebook
# does what no paper did: **one network, one start, one number of steps, one batch size, the same worlds and seeds**, and every method of notebooks 01 to 05 as one row.
#
# In this notebook we aim at
#
# - putting ten fully supervised and five intra-camera supervised methods into one table: accuracy, camera bias, silhouettes, time and memory of a step, labels needed;
# - turning the dial of camera differences for all of them, and reading the gain as a share of the error that is left, not only in points;
# - setting accuracy against what a human has to do for the labels;
# - drawing the map of the field: every claim of the five papers that a run can test, with its verdict in the notebooks before and on this bench;
# - saying what a bench like this cannot say.
#
# On the road all stations are the same for every row, but for the objective, and the labels that it is allowed to see:
#
#     load ─> split table ─> sampler ─────────────> batch ─> model ──────> *objective
#             (labels across  (camera quadruplets,  (64       (small ResNet, (fifteen rows)
#              cameras, or     or P × K of intra-    images)   FC + BN to f)
#              inside them)    camera identities)
#     ─> fit ───> embed ─> evaluate ─> ledger, pictures
#        (120     (f)      (cosine)
#         steps)

# %% tags=["parameters"]
profile: str = "demo"  # smoke: seconds, for tests; demo: minutes on two cores; long: an hour or more; paper: a GPU
dataset: str = "plaza"  # plaza, folder, market1501, dukemtmc, msmt17 or cuhk03
data_root: str = "../data"  # where the data set lies (Plaza: where it is kept once rendered)
gap: float = 1.0  # Plaza only: how much its cameras differ in the main table, from 0 (all alike) to 1
seeds: list = []  # seed k is Plaza world k and training seed k; empty: as many as the profile has
results_path: str = ""  # where the last cell saves the results; empty: nowhere
methods: list = []  # rows to run, by name; empty: all. One row alone: -p methods '["ID + CCSC"]'
steps: int = 0  # training steps of a row; 0: as many as the profile has

# %%
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from reidkit import bench, ledger, plots, recipes
from reidkit.ablation import ablate
from reidkit.costs import held_for_backward
from reidkit.datasets import labels, load, load_seed
from reidkit.embedding import silhouettes, tsne
from reidkit.evaluation import evaluate
from reidkit.ledger.tables import Table
from reidkit.loading import pixels
from reidkit.losses import (
    CenterLoss,
    Verification,
    batch_hard_triplet,
    camera_aware,
    camera_aware_triplet,
    ccsc,
    contrastive,
)
from reidkit.models import ReID
from reidkit.progress import tell
from reidkit.recipes import Budget, Trained, accumulated
from reidkit.results import environment, save_results
from reidkit.samplers import PKSampler

matplotlib.rcParams.update(plots.style.STYLE)  # so that the pictures drawn here look like the kit's

# %% [markdown]
# Four profiles, one notebook. `smoke` only shows that everything runs; its numbers mean nothing. `demo` is what you see here. `long` turns the dial for every row; `sweeps/06_one_bench.yaml` is the same grid cut into pieces for a cluster. `paper` is ResNet-50 on
# real data and wants a GPU; it is one budget for all, so it is nobody's own recipe. *Dial*: the gaps beside the main one, and which rows are run there. *Few*: how many people are labelled in the rows of few labels.

# %% tags=["nbval-check-output"]
PROFILES = pd.DataFrame(
    {
        "smoke": {"people": (24, 24), "size": (64, 32), "dim": 32, "steps": 6, "from scratch": 2, "P×K": (6, 4),
                  "dial": [], "dial rows": "some", "few": [12], "seeds": 1},
        "demo": {"people": (100, 200), "size": (64, 32), "dim": 128, "steps": 120, "from scratch": 2, "P×K": (16, 4),
                 "dial": [0.0, 0.5], "dial rows": "some", "few": [50], "seeds": 3},
        "long": {"people": (100, 200), "size": (64, 32), "dim": 128, "steps": 120, "from scratch": 2, "P×K": (16, 4),
                 "dial": [0.0, 0.5], "dial rows": "all", "few": [25, 50], "seeds": 5},
        "paper": {"people": (751, 750), "size": (256, 128), "dim": 512, "steps": 24_000, "from scratch": 2, "P×K": (16, 4),
                  "dial": [], "dial rows": "some", "few": [375], "seeds": 3},
    }
)  # fmt: skip
PROFILES

# %%
if profile not in PROFILES:
    raise ValueError(f"profile is {profile!r}: expected one of {', '.join(PROFILES)}")
settings = PROFILES[profile]
train_ids, test_ids = settings["people"]
P, K = settings["P×K"]
size = settings["size"]
BUDGET = Budget(profile, size, settings["dim"], steps or settings["steps"], P, K)
seeds = seeds or list(range(settings["seeds"]))
workers = 0 if profile == "smoke" else None  # a row of a few steps is not worth a process
dial_gaps = [g for g in settings["dial"] if g != gap] if dataset == "plaza" else []  # only Plaza has a dial


def data_for(seed, gap=gap):
    """The data set for one seed: Plaza's world of that number, or the data set itself."""
    return load_seed(dataset, data_root, seed, gap=gap, train_ids=train_ids, test_ids=test_ids)


data = data_for(seeds[0])
if data.train.groupby("pid").camid.nunique().max() < 2:
    raise ValueError(
        f"{dataset}: no training person was seen by two cameras. Then labels inside cameras are all labels there are, and the two halves of this bench are one: "
        "it needs people who walk from camera to camera"
    )
data.summary()

# %% [markdown]
# ## The idea in one picture
#
# Two people, two images from each camera. **Fully supervised** methods know that a row is one person. **Intra-camera supervised** ones know it only inside a column: for them, each person is as many people as there are columns. Everything else on this
# bench is the same for both.

# %%
shown = data.train[bench.most_seen(data.train, 2)].groupby(["pid", "camid"]).head(2).reset_index(drop=True)
plots.contact_sheet(pixels(shown, (128, 64)), shown.pid, shown.camid, people=2)


# %% [markdown]
# The papers' own diagrams and equations stand in their notebooks and are not drawn again. This notebook has no formulation of its own: it calls what notebooks 01 to 05 derived.
#
# ## What a fair bench must decide, and what this one does
#
# Every paper leaves points open, and each notebook lists them. A bench adds its own: conditions that the papers set differently and that here must be one.
#
# | point | in the papers | here, for every row |
# |---|---|---|
# | trunk and start | ResNet-50 on ImageNet | the small ResNet from the stand-in (notebook 00); from scratch on the dial, with twice the steps |
# | from trunk to f | GAP; 1×1 conv + ReLU; FC + BN; two BNs | `FCNeck`: FC, batch norm, 128 numbers; dropout 0.5 on the classifier's input (notebook 03's) |
# | what is compared at test | raw f or unit f, Euclidean or cosine | f, by cosine; step AP |
# | steps | 50 to 170 epochs, one or two stages | 120 for everybody; two stages share them, 60 % and 40 % (PIRID 25 % and 75 %); the association counts as no step |
# | batch | 32 to 64 images; 48 pairs | 64: camera quadruplets in the fully supervised rows, P × K of accumulated identities where labels stay inside cameras (in both of PIRID's stages), P × K of guessed (or true) people in M7's and M8's second |
# | optimiser, augmentation | SGD or Adam; with and without erasing | Adam, warm-up and cosine; flip, pad and crop |
# | scale of metric losses | raw or unit features, often not said | in the fully supervised rows triplet, contrastive and the camera-aware losses on unit vectors, center on raw f; CCSC is a cosine anyway. In the intra-camera rows as in notebooks 04 and 05: instance hinge and second-stage triplets on pooled g, raw |
# | weights, margins, temperatures | each paper's, where it gives them | those of notebooks 01 to 05: the paper's where they work (not in PIRID: τ = 0.05 and μ = 0.5 in place of 0.01 and 0.05, see notebook 05); **nothing was tuned here** |
# | pairs of the verification loss | a sampler of pairs, 1:1 to 1:4 | pairs of the same 64 images: for each a positive, and in turns one negative or two (the paper's ratio grows from 1 to 2.1) |
# | prototypes (PIRID) | DBSCAN, ε = 0.6 of something | Jaccard distance, ε = 0.6, chosen in notebook 05 |
#
# What follows from that: a row here is *not* the paper's best case. A method that needs a long training, a pair sampler or a second batch norm may do better at home. **How many settings were tried: none** on this bench; the choices that notebooks 01 to 05 made on worlds 100 and 101 were taken over.
#
# ## The rows
#
# A fully supervised row is the identification loss and what stands beside it, each term with its weight. The two losses on pairs see the same pairs, drawn from the batch.

# %%
def pairs_of(pids, negatives):
    """For each image another one of its person, and as many of others: rows (first, second), (M,) each."""
    same, itself = pids[:, None] == pids[None], torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    drawn = torch.rand(len(pids), len(pids), device=pids.device)  # fit seeds this stream step by step
    positive = drawn.masked_fill(~same | itself, -1).argmax(1)  # (B,)
    strangers = drawn.masked_fill(same, -1).topk(min(negatives, len(pids) - 1), dim=1).indices  # (B, negatives)
    first = torch.arange(len(pids), device=pids.device).repeat(1 + strangers.shape[1])
    second = torch.cat([positive, strangers.T.flatten()])
    real = (first != second) & (
        (pids[first] == pids[second]) == (torch.arange(len(first), device=pids.device) < len(pids))
    )
    return first[real], second[real]  # without the draws of who has no partner, or no stranger


class OnPairs(nn.Module):
    """Verification on pairs of the batch: for each positive one negative or two, in turns."""

    def __init__(self, num_ids, dim):
        super().__init__()
        self.seen = 0
        self.verification = Verification(dim, dropout=0.5, init="signed")

    def forward(self, features, pids, camids):
        first, second = pairs_of(pids, negatives=1 + self.seen % 2)
        self.seen += 1
        return F.cross_entropy(
            self.verification(features[first], features[second]), (pids[first] == pids[second]).long()
        )


class PairsApart(OnPairs):
    """The same pairs, and the contrastive loss on unit vectors."""

    def forward(self, features, pids, camids):
        first, second = pairs_of(pids, negatives=1 + self.seen % 2)
        self.seen += 1
        rows = torch.stack([first, second], 1).flatten()  # pair after pair
        return contrastive(F.normalize(features[rows]), pids[rows], pairs="consecutive")


def unit_triplet(features, pids, camids):
    return batch_hard_triplet(F.normalize(features), pids, margin=0.3)


CCSC, TRIPLET = (1.5, ccsc), (1.0, unit_triplet)
CAMERA_AWARE = partial(camera_aware, margin=0.1, normalise=True)
FULL = {
    "ID": {},
    "ID + triplet": {"triplet": TRIPLET},
    "ID + center": {"center": (0.005, CenterLoss)},
    "ID + CCSC": {"ccsc": CCSC},
    "ID + CCSC + triplet": {"ccsc": CCSC, "triplet": TRIPLET},
    "ID + DCAML, as printed": {"camera": (1.0, partial(CAMERA_AWARE, reduction="sum"))},
    "ID + DCAML, averaged": {"camera": (1.0, CAMERA_AWARE)},
    "ID + camera-aware triplet": {"camera": (1.0, partial(camera_aware_triplet, margin=0.1, normalise=True))},
    "ID + verification": {"verification": (1.0, OnPairs)},
    "ID + contrastive": {"contrastive": (1.0, PairsApart)},
}

# %% [markdown]
# The intra-camera rows. M7 spends three fifths of its steps on M5 and the rest on guessed people; *M7, true people* is the same with true ones, the ceiling of that recipe (M8 in notebook 04). *Not fine-tuned* has no labels at all, and *ID, N people* are fully supervised rows for which
# only N people were labelled.

# %%
FIRST = 0.6  # of the steps, for the first of two stages
BOTH = ("instance", "centroid")


def m7(data, seed, budget, *, known=False):
    """M5, then a classifier on people: guessed by the association graph, or the true ones."""
    first = max(1, round(FIRST * budget.steps))
    stage = recipes.intra_camera(data, seed, replace(budget, steps=first), hinges=BOTH)
    people = labels(data.train) if known else recipes.guessed_people(stage, data)
    return recipes.second_stage(data, seed, replace(budget, steps=max(1, budget.steps - first)), stage, people)


def untrained(data, seed, budget):
    return Trained(ReID(bench.backbone(budget.profile, budget.start, seed)), None, pd.DataFrame())


def some_people(data, count):
    """The data set with only its first `count` training people labelled; nobody else's images are used."""
    chosen = np.unique(data.train.pid)[:count]
    return replace(data, train=data.train[data.train.pid.isin(chosen)].reset_index(drop=True))


INTRA = {
    "M1": partial(recipes.intra_camera, classifier="branches"),
    "M3": recipes.intra_camera,
    "M5": partial(recipes.intra_camera, hinges=BOTH),
    "M7": m7,
    "PIRID": recipes.with_prototypes,
}
CEILING, NONE = "M7, true people", "not fine-tuned"
people_here = data.train.pid.nunique()
FEW = {f"ID, {count} people": count for count in settings["few"] if count < people_here}
METHODS = {name: partial(recipes.supervised, terms=terms) for name, terms in FULL.items()} | INTRA
METHODS |= {CEILING: partial(m7, known=True), NONE: untrained}
METHODS |= {
    name: (lambda data, seed, budget, count=count: recipes.supervised(some_people(data, count), seed, budget))
    for name, count in FEW.items()
}
if unknown := [name for name in methods if name not in METHODS]:
    raise ValueError(f"methods: no row is called {unknown[0]!r}; there are {', '.join(METHODS)}")
chosen = [name for name in METHODS if not methods or name in methods]


def family(name):
    return "full labels" if name in FULL else "labels inside cameras" if name in INTRA else "for reference"


tell(f"{len(chosen)} rows: {', '.join(chosen)}")

# %% [markdown]
# ## Training
#
# One seed of one row, half of the steps. A loss against a memory may rise before it falls: the memory holds features of earlier steps, and at first these change fast.

# %%
example = next((name for name in ("M5", *chosen) if name in chosen and name != NONE), None)
if example:
    history = METHODS[example](data, seeds[0], replace(BUDGET, steps=max(2, BUDGET.steps // 2))).history
    terms = [name for name in history if name not in ("step", "epoch", "lr", "loss", "prototypes")]
    print(example)
    display(plots.loss_curves(history, terms))

# %% [markdown]
# ## What is there already, and what has to be computed
#
# A cell of the bench is a row, a seed, a gap and a start. The long runs of this notebook and of notebook 03, which has the same network, batches and steps, hold many of them. **They are taken over only if the cells that are computed here
# again come out the same**. On the machine that stored them they agree to the last digit; on another its rounding grows in training, and up to two points of mAP are allowed. Where they lie further apart, machines are not mixed. Another processor may have stored them: then, if they lie within three times what processors were measured to differ by (a standard deviation, below) and
# the whole table is asked for and stored, table and dial consist of stored cells only, and the few computed again stand beside them. Otherwise everything is computed here. The other notebooks have other networks and lengths: their rows are not cells of this bench, and their results enter through the map of the field below.

# %%
METRICS = ["mAP", "rank1", "mINP", "bias", "silhouette_identity", "silhouette_camera", "intra_distance"]
FROM_03 = {
    "ID": "ResNet50+ID",
    "ID + DCAML, as printed": "ResNet50+ID+CA, summed",
    "ID + DCAML, averaged": "ResNet50+ID+CA",
    "ID + camera-aware triplet": "ID + camera-aware triplet",
}
HERE, ELSEWHERE, CLOSE, SPREADS = "06_one_bench", "06_one_bench_elsewhere", 0.02, 3
DEFAULT = BUDGET.steps == 120 and BUDGET.dim == 128 and dataset == "plaza"  # what was saved was made so
KEYS = ["method", "gap", "start", "seed"]


def key_of(method, gap_, start):
    """The name of a row in the results: a method, and where it stands on the dial if that is not the main table."""
    return method if gap_ == gap and start == "stand-in" else f"{method}, gap {gap_:g}, {start}"


longer = ledger.stored(HERE) if ledger.is_stored(HERE) else None  # this notebook's long run
other = (
    ledger.stored(ELSEWHERE) if ledger.is_stored(ELSEWHERE) else None
)  # the demo, all computed on a second processor
pairs = None if longer is None or other is None else longer.merge(other, on=KEYS, suffixes=("", " elsewhere"))
moved = None if pairs is None else pairs["mAP elsewhere"] - pairs.mAP


def stored_cells():
    """Cells of this bench that long runs have computed: a DataFrame with this bench's columns."""
    parts = [pd.DataFrame(columns=[*KEYS, *METRICS, "source"])]
    if DEFAULT and profile != "long" and longer is not None:
        parts.append(longer[[*KEYS, *METRICS]].assign(source=f"the long run, {longer.attrs['date']}"))
    if DEFAULT and ledger.is_stored("03_dcaml"):
        rows = ledger.stored("03_dcaml")
        on_dial_too = rows.variant.str.replace(r", gap [\d.]+(, from scratch)?$", "", regex=True)
        for method, variant in FROM_03.items():
            mine = rows[(on_dial_too == variant) & rows.gap.notna()]
            source = f"notebook 03's long run, {rows.attrs['date']}"
            parts.append(mine[["seed", "gap", "start", *METRICS]].assign(method=method, source=source))
    found = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True).drop_duplicates(KEYS)
    return found[found.method.isin(chosen) & found.seed.isin(seeds)].reset_index(drop=True)


def run(method, gap_=gap, start="stand-in", keep=False):
    """What `ablate` runs for one row: seed -> metrics, and with `keep` the first seed's features."""

    def of_seed(seed):
        world = data_for(seed, gap_)
        length = BUDGET.steps * (settings["from scratch"] if start == "scratch" else 1)
        model = METHODS[method](world, seed, replace(BUDGET, start=start, steps=length)).model
        query, gallery = bench.embeddings(model, world, size)
        metrics = bench.measure(query, gallery, world) | bench.structure(gallery, world.gallery)
        kept = {"query": query, "gallery": gallery} if keep and seed == seeds[0] else {}
        return {name: metrics[name] for name in METRICS} | kept

    return of_seed


def compute(wanted):
    """Cells (method, gap, start, seed), by ablate."""
    rows = {key_of(*cell[:3]): cell[:3] for cell in wanted}
    if not rows:
        return pd.DataFrame(columns=[*KEYS, *METRICS, "source"])
    done = ablate(
        {name: run(*cell, keep=name in PICTURED) for name, cell in rows.items()},
        {name: [seed for *key, seed in wanted if tuple(key) == cell] for name, cell in rows.items()},
        workers=workers,
    )
    for column, position in (("method", 0), ("gap", 1), ("start", 2)):
        done[column] = [rows[name][position] for name in done.variant]
    return done.assign(source="computed here")


PICTURED = (NONE, "ID", "ID + CCSC + triplet", "M3", "M7")
DIAL = ("ID", "ID + CCSC", "ID + DCAML, averaged", "M3", "M7") if settings["dial rows"] == "some" else (*FULL, *INTRA)
scratch_rows = [m for m in (("ID",) if settings["dial rows"] == "some" else DIAL) if m in chosen]
wanted = [(method, gap, "stand-in", seed) for method in chosen for seed in seeds]
dial_wanted = [(m, g, "stand-in", s) for m in DIAL if m in chosen for g in dial_gaps for s in seeds]
dial_wanted += [
    (m, g, "scratch", s)
    for m in scratch_rows
    for g in sorted({*dial_gaps, gap})
    for s in seeds[: 5 if settings["dial rows"] == "all" else 1]
    if dial_gaps
]
for seed in seeds:  # rendered and decoded here, on all cores; the workers then only open them
    for g in {gap, *dial_gaps}:
        bench.decode(data_for(seed, g), size)

stored = stored_cells()
again = [
    (method, gap, "stand-in", seeds[0]) for method in PICTURED if method in chosen
]  # the pictures need them anyway
witness = compute(again)
there, here = (part.set_index(KEYS).mAP.sort_index() for part in (stored, witness))
both = there.index.intersection(here.index)
apart = (there[both] - here[both]).abs().max(skipna=False) if len(both) else np.inf
in_main = (stored.gap == gap) & (stored.start == "stand-in")


def cells(frame):
    return set(map(tuple, frame[KEYS].itertuples(index=False)))


def use_of_stored(apart, spread, elsewhere, complete):
    """What becomes of the stored cells by the rule above: mix, whole or leave."""
    if apart <= CLOSE:  # not where a cell is not a number
        return "mix"
    return "whole" if elsewhere and complete and apart <= SPREADS * spread else "leave"


def machine(frame):
    return frame.attrs["provenance"].get("machine", "an unknown machine")


processor = environment()["machine"]["processor"]
makers = {machine(ledger.stored(name)) for name in (HERE, "03_dcaml") if ledger.is_stored(name)}
elsewhere = bool(processor) and not any(f" of {processor}," in maker for maker in makers)
spread = np.nan if moved is None else moved.std()
use = use_of_stored(apart, spread, elsewhere, complete=not methods and {*wanted, *dial_wanted} <= cells(stored))
if len(both):
    told = {
        "mix": f"{len(stored)} stored cells are taken over.",
        "whole": f"Another processor stored them ({', '.join(sorted(makers))}); from one to another {100 * SPREADS * spread:.1f} are allowed. So table and dial below consist of stored cells only, and what was computed again stands beside them.",
        "leave": f"{len(stored)} stored cells are left alone, and all is computed here.",
    }
    tell(
        f"{len(both)} stored cells are computed here again and differ by at most {100 * apart:.2f} points of mAP; allowed are {100 * CLOSE:.0f}. {told[use]}"
    )
    if apart > 0:
        beside = pd.DataFrame({"stored": 100 * there[both], "here": 100 * here[both]})
        display(beside.assign(difference=beside.here - beside.stored).round(2))
elif len(stored):
    tell("None of the stored cells can be computed again among this run's rows: they are left alone.")
else:
    print("No cell of this run is stored: everything is computed here.")
witnesses = witness[witness.method.isin(both.get_level_values("method"))] if len(both) else witness.iloc[:0]
witnesses = witnesses.drop(columns=["query", "gallery"], errors="ignore")
witnesses = witnesses.assign(
    variant=witnesses.method + ", computed again", method=witnesses.method + ", computed again"
)
if use == "leave":
    stored, in_main = stored.iloc[:0], in_main.iloc[:0]

# %%
own = witness.iloc[:0] if use == "whole" else witness
have = [frame for frame in (own, stored[in_main]) if len(frame)]
found = set().union(*map(cells, have)) if have else set()
fresh = compute([cell for cell in wanted if cell not in found])
have = [*have, fresh] if len(fresh) else have
kept = pd.concat(have, ignore_index=True).drop_duplicates(KEYS)
kept["variant"] = [key_of(*cell) for cell in kept[KEYS[:3]].itertuples(index=False)]
kept = kept[kept.method.isin(chosen)].assign(order=lambda frame: frame.method.map(list(METHODS).index))
kept = kept.sort_values(["order", "seed"], kind="stable").drop(columns="order").reset_index(drop=True)
table = kept.drop(columns=["query", "gallery"], errors="ignore")
save_results(results_path, table)  # a long run that is cut short has left something
sources = table.groupby("source", sort=False).size()
tell(
    "; ".join(
        f"{count} cells {source}" if source == "computed here" else f"{count} cells from {source}"
        for source, count in sources.items()
    )
)


# %% [markdown]
# ## The table
#
# Accuracy and camera bias, mean and standard deviation over seeds. Bias: among the wrong images in the top 10, the share from the query's own camera, over that camera's share of all wrong images; 1 is none.

# %%
def spread_of(table):
    """Mean ± std over seeds, in percent but for the bias, a row a method, and which labels it needs."""
    spread = ledger.spread(table, ["mAP", "rank1", "mINP", "bias"])
    spread.insert(0, "labels", [family(name) for name in spread.index])
    return spread


spread_of(table)

# %%
plots.ablation_chart(table, ["mAP", "bias"])

# %% [markdown]
# How a person's features lie: silhouettes by identity (higher: people are apart) and by camera inside a person (0: cameras are mixed; higher: a person falls apart into her cameras), and the mean distance to a person's centre. Read the distance beside the silhouette by identity: a network that tells nobody apart has short distances too.

# %%
ledger.spread(table, METRICS[4:])


# %% [markdown]
# Dots and means mislead where seeds differ more than methods do. So here is each row against the identification loss alone, or, for labels inside cameras, against M3, the memory without any hinge: paired seed by seed, with the 95 % interval of the mean.

# %%
def base_of(name):
    return "ID" if name in FULL else "M3"


def against_base(table):
    """Each method less its base in mAP and bias, seed by seed: a row a method."""
    rows = {}
    for name in [name for name in (*FULL, *INTRA) if name != base_of(name)]:
        if not {name, base_of(name)} <= set(table.variant):
            continue
        pair = ledger.paired(table, name, base_of(name), "mAP")
        base = table[table.variant == base_of(name)].set_index("seed").mAP
        share = (pair.differences / (1 - base[pair.differences.index])).mean()
        rows[name] = {
            "against": base_of(name),
            "difference": pair.text(),
            "mean": pair.mean,
            "low": pair.low,
            "high": pair.high,
            "share": share,
            "bias": ledger.paired(table, name, base_of(name), "bias").text(1, 2),
            "n": len(pair.differences),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def show_gains(gains):
    told = gains.assign(share=[f"{100 * share:+.0f} %" for share in gains.share])
    told = told[["against", "difference", "share", "bias", "n"]]
    display(told.rename(columns={"difference": "mAP, points", "share": "of the error left", "n": "seeds"}))


gains = against_base(table)
if len(gains):
    show_gains(gains)
else:
    print("Neither ID nor M3 is among the rows of this run: nothing to compare with.")

# %%
if len(gains):
    clear = [f"{name} ({100 * row['mean']:+.1f})" for name, row in gains.iterrows() if row.low > 0]
    harmful = [f"{name} ({100 * row['mean']:+.1f})" for name, row in gains.iterrows() if row.high < 0]
    rest = [name for name in gains.index if gains.low[name] <= 0 <= gains.high[name]]
    tell(f"Over {len(seeds)} seed(s), gains whose interval lies above 0: {', '.join(clear) or 'none'}.")
    tell(f"Losses whose interval lies below 0: {', '.join(harmful) or 'none'}.")
    tell(f"Not told apart from nothing: {', '.join(rest) or 'none'}.")


# %% [markdown]
# **How much of a number is the machine?** Another processor rounds otherwise, and training makes the difference grow, beginning with that of the stand-in, from which the rows start. So the cells of the demo were once all computed on a second kind of processor: the same seeds, the same worlds (pictures that were compared are equal to the byte), and code that on the first one
# gave the stored cells again. What moves, and does a conclusion move with it?

# %%
def beside_elsewhere(pairs):
    """Gains on the base in the main table, by the long run and by the second processor: a row a method."""
    main = pairs[(pairs.gap == 1) & (pairs.start == "stand-in")]
    first, second = (
        against_base(main[["seed"]].assign(variant=main.method, mAP=main[f"mAP{end}"], bias=main[f"bias{end}"]))
        for end in ("", " elsewhere")
    )
    if not len(first):
        return first
    says = [(gains.low > 0).astype(int) - (gains.high < 0) for gains in (first, second)]  # 0: the interval holds 0
    shift = second["mean"] - first["mean"]
    return pd.DataFrame(
        {"mAP, points": first.difference, "elsewhere": second.difference, "shift": shift, "was": first["mean"]}
    ).assign(same_sign=first["mean"] * second["mean"] > 0, same_words=says[0] == says[1])


if dataset == "plaza" and pairs is not None and len(pairs):
    worlds = pairs.groupby(KEYS[:3]).mAP.var().mean() ** 0.5
    tell(f"{machine(longer)} ({longer.attrs['date']}) against {machine(other)} ({other.attrs['date']}).")
    tell(
        f"Over {len(pairs)} cells of {pairs.method.nunique()} rows, mAP moves by {100 * moved.mean():+.1f} points on average, with a standard deviation of {100 * moved.std():.1f}, and at most by {100 * moved.abs().max():.1f}. From world to world the standard deviation of a row is {100 * worlds:.1f}."
    )
    beside = beside_elsewhere(pairs)
    if len(beside):
        display(beside[["mAP, points", "elsewhere"]].assign(shift=(100 * beside["shift"]).map("{:+.1f}".format)))
        tell(
            f"A gain, the mean over {pairs.seed.nunique()} worlds, moves by at most {100 * beside['shift'].abs().max():.1f} points; {beside.same_sign.sum()} of {len(beside)} keep their sign. Rows whose interval came to hold 0, or ceased to: {', '.join(beside.index[~beside.same_words]) or 'none'}."
        )
else:
    print("Nothing of the kind is stored.")


# %% [markdown]
# **Time and memory of a step**, on this machine, one thread. Seconds are the processor's, the median over eleven steps, each from the end of the one before it: the start is left out, and so are clustering and association, once an epoch or once a run. Memory is what a step holds at its peak: activations kept for the backward pass, weights, gradients
# and Adam's two averages, and the memory bank; it is counted, not sampled. At test time all rows cost the same: one pass, one feature.

# %%
def cost(method):
    """Seconds and mebibytes of a training step."""

    def of_seed(seed):
        world, ends = data_for(seed), []
        budget = replace(BUDGET, steps=4 if profile == "smoke" else 12)
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        clock = register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
        with clock, held_for_backward() as held:
            trained = METHODS[method](world, seed, budget)
        numbers = sum(p.numel() for p in trained.model.parameters())
        bank = 0 if trained.bank is None else trained.bank.memory.numel()
        peak = torch.cuda.max_memory_allocated() if on_gpu else held.peak + 4 * (3 * numbers + bank)
        return {"seconds a step": np.median(np.diff(ends)), "MiB a step": peak / 2**20}

    return of_seed


trained_rows = [name for name in chosen if name in FULL or name in INTRA][: 2 if profile == "smoke" else None]
costs = ablate({name: cost(name) for name in trained_rows}, seeds[:1], workers=workers) if trained_rows else None
if costs is not None:
    costs = costs.set_index("variant")[["seconds a step", "MiB a step"]]
    display(costs.round({"seconds a step": 3, "MiB a step": 1}))

# %%
if costs is not None and "ID" in costs.index and len(costs) > 1:
    rise = costs["seconds a step"] / costs["seconds a step"]["ID"]
    tell(
        f"The dearest step is that of {rise.idxmax()}, {rise.max():.2f} times that of the identification loss alone; one measurement each, so read the order of magnitude. Memory goes from {costs['MiB a step'].min():.0f} to {costs['MiB a step'].max():.0f} MiB."
    )

# %% [markdown]
# ## What it looks like
#
# The people of the gallery that most cameras saw; colour = camera, marker = person. First the start, which nobody fine-tuned; then identification, with CCSC and the triplet beside it, labels inside cameras, and with guessed people on top. The numbers above a panel are the first seed's, computed here, its silhouettes those of the people drawn; the lines below are over all seeds and all people.

# %%
some = bench.most_seen(data.gallery)
some_pids, some_camids = data.gallery.pid[some], data.gallery.camid[some]
first = witness.set_index("method")
panels = {name: (first["query"][name], first["gallery"][name]) for name in PICTURED if name in first.index}
if panels:
    unit = {
        name: g[some] / np.linalg.norm(g[some], axis=1, keepdims=True).clip(1e-12) for name, (_, g) in panels.items()
    }
    stats = {}
    for name, f in unit.items():
        row = first.loc[name]
        stats[name] = {"mAP": row.mAP, "camera_bias": row.bias, "silhouettes": silhouettes(f, some_pids, some_camids)}
    points = {name: tsne(f) for name, f in unit.items()}
    display(plots.embedding_maps(points, some_pids, some_camids, stats=stats, columns=3))

# %%
for one, other in (("ID", "M7"), ("M3", "M7"), ("ID", "ID + CCSC + triplet")):
    if {one, other} <= set(table.variant):
        pair = ledger.paired(table, other, one, "silhouette_camera")
        mix = "better" if pair.high < 0 else "worse" if pair.low > 0 else "neither better nor worse for certain"
        tell(f"Silhouette by camera inside a person, {other} less {one}: {pair.text(1, 2)}: cameras mix {mix}.")

# %% [markdown]
# The five nearest images of four queries, by identification and with CCSC and the triplet beside it. A rule chose them: the three whose average precision gains most, and the one that loses most; left of each, both in percent. Look at the cameras of the wrong answers.

# %%
if {"ID", "ID + CCSC + triplet"} <= panels.keys():
    lists = {name: panels[name] for name in ("ID", "ID + CCSC + triplet")}
    before, after = (evaluate(*features, *bench.known(data)).ap for features in lists.values())
    queries = bench.chosen_by_gain(before, after)
    labels_left = [f"{100 * before[i]:.0f} → {100 * after[i]:.0f}" for i in queries]
    display(plots.ranked_lists(**bench.side_by_side(lists, data, queries), labels=labels_left))
    gain = np.nan_to_num(after - before)
    tell(
        f"{(gain > 0.005).sum()} of {np.isfinite(before).sum()} queries gain more than half a point of average precision, {(gain < -0.005).sum()} lose as much (seed {seeds[0]}, computed here)."
    )

# %% [markdown]
# ## The dial
#
# How does each row do as the cameras part? Four readings, because one alone misleads. mAP falls for everybody, since **the task itself gets harder with the dial**. The gain in points grows where there is more to gain, which any good loss
# does. The **gain as a share of the error that the base leaves** ($1 -$ mAP) takes that out. And camera bias is the only one of them that speaks of cameras. The base is ID, or M3 for labels inside cameras. The dial also measures distance from the stand-in, which never saw
# cameras differ: so identification also has a curve from scratch, with twice the steps. A gain from scratch is drawn where a row has it at every gap: in a `long` run of one's own all rows do; the stored grid has only DCAML's ends, whose numbers stand in the table below.

# %%
missing = [cell for cell in dial_wanted if cell not in cells(stored)]
parts = [table, compute(missing), stored[~in_main]]
everything = pd.concat([part for part in parts if len(part)], ignore_index=True).drop_duplicates(KEYS)
everything["variant"] = [key_of(*cell) for cell in everything[KEYS[:3]].itertuples(index=False)]
everything = everything.drop(columns=["query", "gallery"], errors="ignore")
save_results(results_path, everything)
if dial_wanted:
    tell(
        f"The dial: {len(dial_wanted)} cells wanted, {len(dial_wanted) - len(missing)} were stored, {len(missing)} computed here."
    )
else:
    tell(f"No dial here: {'the profile has none' if dataset == 'plaza' else dataset + ' has no such dial'}.")


# %%
def on_dial(everything, names):
    """The rows of the dial with a name for each line of the chart."""
    dial = everything[everything.method.isin(names)]
    dial = dial[dial.groupby(["method", "start"]).gap.transform("nunique") > 1]
    by_method = dial[dial.start == "stand-in"].groupby("method").gap.agg(set)
    shared = set.intersection(*by_method) if len(by_method) else set()
    dial = dial[dial.gap.isin(shared)]
    whole = dial.groupby(["method", "start"]).gap.transform("nunique") == len(shared)
    return dial[whole].assign(  # a line with a hole would mislead; the table below has its numbers
        line=lambda f: f.method + f.start.map({"stand-in": "", "scratch": ", from scratch"})
    )


def gains_on_dial(everything):
    """Each method less its base, seed by seed: in points, as a share of the base's error, and in bias."""
    parts = []
    for name in (*FULL, *INTRA):
        base = everything[everything.method == base_of(name)].set_index(["gap", "start", "seed"])
        mine = everything[(everything.method == name) & (name != base_of(name))].set_index(["gap", "start", "seed"])
        both = mine.index.intersection(base.index)
        if len(both):
            gain = mine.mAP[both] - base.mAP[both]
            line = name if base_of(name) == "ID" else f"{name} against M3"
            parts.append(
                pd.DataFrame(
                    {
                        "mAP gain": gain,
                        "mAP gain / (1 − mAP)": gain / (1 - base.mAP[both]),
                        "bias change": mine.bias[both] - base.bias[both],
                    }
                )
                .reset_index()
                .assign(method=name, line=line)
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["line", "gap", "start", "method"])


def draw_dial(everything, names):
    dial = on_dial(everything, names)
    if not len(dial):
        print("Fewer than two gaps: nothing to draw.")
        return
    display(plots.dial_chart(dial, ["mAP", "bias"], hue="line"))
    gain = gains_on_dial(everything)
    gain = gain[gain.method.isin(names)].assign(
        line=lambda f: f.line + f.start.map({"stand-in": "", "scratch": ", from scratch"})
    )
    gain = gain[gain.gap.isin(dial.gap)]
    gain = gain[gain.groupby("line").gap.transform("nunique") == dial.gap.nunique()]
    if len(gain):
        display(plots.dial_chart(gain, ["mAP gain", "mAP gain / (1 − mAP)", "bias change"], hue="line"))


draw_dial(
    everything,
    ("ID", "ID + triplet", "ID + CCSC", "ID + CCSC + triplet", "ID + camera-aware triplet", "ID + contrastive"),
)

# %%
draw_dial(everything, ("ID", "ID + center", "ID + DCAML, averaged", "ID + verification"))

# %%
draw_dial(everything, ("ID", "M1", "M3", "M5", "M7", "PIRID"))


# %% [markdown]
# Where does each win? At each gap the best of the rows of its kind that stand at every gap, by mean mAP over seeds, and by how many points it leads its base and the runner-up. A lead whose interval holds 0 is no win.

# %%
def winners(everything):
    rows, everything = [], everything[everything.method.isin([*FULL, *INTRA])]
    gaps_of_row = everything.groupby(["start", "method"]).gap.transform("nunique")
    everything = everything[gaps_of_row == everything.groupby("start").gap.transform("nunique")]
    for (g, start), here in everything.groupby(["gap", "start"]):
        for kind in ("full labels", "labels inside cameras"):
            mine = here[here.method.map(family) == kind].groupby("method").mAP.mean()
            if len(mine) > 1:
                best, second = mine.sort_values(ascending=False).index[:2]
                of_method = here.assign(variant=here.method)
                lead = {
                    title: "–"
                    if best == other or other not in mine
                    else ledger.paired(of_method, best, other, "mAP").text()
                    for title, other in (("on its base", base_of(best)), ("on the runner-up", second))
                }
                place = {"gap": g, "start": start, "labels": kind, "best of": len(mine), "row": best}
                rows.append(place | {"mAP": f"{100 * mine[best]:.1f}"} | lead | {"runner-up": second})
    return pd.DataFrame(rows)


winners(everything)


# %% [markdown]
# All rows in numbers, DCAML as printed among them, whose losses would hide the other lines of a chart: the gain in points of mAP at each gap, and how much it changes from the smallest gap to the largest, paired seed by seed with 95 % intervals: in points, as a share of the base's error, and in bias. Where the gain is
# negative, a positive change says that a loss shrinks.

# %%
def growth(everything):
    """Each method's gain on its base at each gap, and its change from the smallest gap to the largest, as words."""
    gain, rows = gains_on_dial(everything), {}
    for (line, start), mine in gain.groupby(["line", "start"], sort=False):
        gaps, name = sorted(mine.gap.unique()), mine.method.iloc[0]
        if len(gaps) < 2:
            continue
        here = everything[everything.start == start].assign(variant=lambda frame: frame.method)
        row = {f"gap {g:g}": ledger.paired(here[here.gap == g], name, base_of(name), "mAP").text() for g in gaps}
        of_gap = mine.assign(variant=[f"gap {g:g}" for g in mine.gap])
        for column, title, scale, digits in (
            ("mAP gain", "change, points", 100, 1),
            ("mAP gain / (1 − mAP)", "change, % of the error", 100, 0),
            ("bias change", "change, bias", 1, 2),
        ):
            pair = ledger.paired(of_gap, f"gap {gaps[-1]:g}", f"gap {gaps[0]:g}", column)
            row[title] = pair.text(scale, digits)
        rows[line if start == "stand-in" else f"{line}, from scratch"] = row | {"seeds": len(pair.differences)}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


growth(everything)


# %% [markdown]
# ## Labels against accuracy
#
# What does a human have to do? **Inside a camera** labelling is following people: every image gets the identity that its track has. **Across cameras** somebody must look from one camera to the next: is this person one of those that I know? Count it as it is done: camera after camera, each of its identities is compared with the
# people known so far, one by one, until found; a newcomer with all of them. Whoever is found stands half-way down the list on average. The fully supervised rows need all of that, labels inside cameras none of it. Counted on the first world; of rows that need the same, the first stands for all.

# %%
def comparisons(frame):
    """How many times a human compares two identities across cameras, on average, to label a split."""
    total, known = 0.0, set()
    for _, people in frame.groupby("camid").pid.unique().items():
        found = known & set(people)
        total += len(found) * (len(known) + 1) / 2 + (len(people) - len(found)) * len(known)
        known |= set(people)
    return total


def labels_of(name, data):
    """(images labelled, identities named inside their camera, comparisons across cameras)."""
    if name == NONE:
        return 0, 0, 0.0
    train = some_people(data, FEW[name]).train if name in FEW else data.train
    across = 0.0 if name in INTRA else comparisons(train)
    return len(train), len(accumulated(train)[1]), across


needs = pd.DataFrame(
    {name: labels_of(name, data) for name in chosen},
    index=["images labelled", "identities in their camera", "comparisons across cameras"],
).T
needs.drop_duplicates().astype(float).style.format("{:,.0f}")

# %% [markdown]
# The chart. Left: comparisons across cameras; right: images labelled. Every dot is a row, its bar one standard deviation over seeds; the line joins the identification loss with fewer and with all people labelled. Heights are the same on both sides, so the names stand only on the left.

# %%
COLOURS = {"full labels": "#0072B2", "labels inside cameras": "#D55E00", "for reference": "#666666"}


def apart(values, least):
    """Places near `values` (N,) that are at least so far from each other, in their order: for the names beside dots."""
    order, places = np.argsort(values, kind="stable"), np.array(values, dtype=float)
    for _ in range(200):
        for low, high in pairwise(order):
            short = least - (places[high] - places[low])
            if short > 1e-9:
                places[low], places[high] = places[low] - short / 2, places[high] + short / 2
    return places


def labels_chart(table, data, needs):
    """mAP against what a human does for it: two panels."""
    at = table.groupby("variant", sort=False).mAP.agg(["mean", "std"]).mul(100).fillna(0.0)
    at = at[at.index.isin(needs.index)]
    picture = plots.Picture(11, 4.6)
    for axes, column in zip(
        picture.subplots(1, 2, sharey=True), ("comparisons across cameras", "images labelled"), strict=True
    ):
        x = needs.loc[at.index, column].astype(float)
        for kind, colour in COLOURS.items():
            mine = [name for name in at.index if family(name) == kind]
            axes.errorbar(
                x[mine],
                at["mean"][mine],
                at["std"][mine],
                fmt="o",
                color=colour,
                ms=5,
                capsize=2,
                linewidth=1,
                label=kind,
            )
        line = sorted([name for name in at.index if name == "ID" or name in FEW], key=lambda name: x[name])
        axes.plot(x[line], at["mean"][line], color=COLOURS["for reference"], linewidth=1, linestyle=":")
        if column.startswith("comparisons"):
            least = max(1e-9, np.ptp(at["mean"]) / 22)
            for place, members in at.groupby(x)["mean"]:
                for (name, value), height in zip(members.items(), apart(members.to_numpy(), least), strict=True):
                    axes.annotate(name, (place, value), (8, 7 if name in FEW else 0), textcoords="offset points", fontsize=7, va="center", color=COLOURS[family(name)], annotation_clip=False) if height == value else axes.annotate(
                        name, xy=(place, value), xytext=(1.03 * place + 0.02 * x.max(), height), fontsize=7, va="center", color=COLOURS[family(name)], annotation_clip=False
                    )  # fmt: skip
            axes.set_xlim(-0.05 * max(1.0, x.max()), 1.45 * max(1.0, x.max()))
        axes.set(xlabel=column, ylabel="mAP (%)" if column.startswith("comparisons") else "")
        axes.grid(axis="y")
    picture.legend(*picture.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return picture


labels_chart(table, data, needs)

# %%
mean = table.groupby("variant").mAP.mean()
inside = mean[[name for name in INTRA if name in mean.index]]
best_inside = inside.idxmax() if len(inside) else None
if {"ID", best_inside} <= set(mean.index):
    pair = ledger.paired(table, "ID", best_inside, "mAP")
    tell(
        f"Labels across cameras cost {needs['comparisons across cameras']['ID']:,.0f} comparisons here and are worth {pair.text()} points of mAP: ID against {best_inside}, the best row that needs none."
    )
for name in FEW:
    if {name, best_inside} <= set(mean.index):
        pair = ledger.paired(table, name, best_inside, "mAP")
        tell(
            f"{name}, {needs['comparisons across cameras'][name]:,.0f} comparisons and {needs['images labelled'][name]:,.0f} images, against {best_inside}: {pair.text()}."
        )
if {CEILING, "M7"} <= set(mean.index):
    pair = ledger.paired(table, CEILING, "M7", "mAP")
    tell(f"The same two stages with true people: {pair.text()} above M7. That much the guesses cost.")

# %% [markdown]
# ### The same chart on your own images
#
# A folder in Market-1501 naming is a data set like any other: `python -m reidkit run 06 --dataset folder --data-root FOLDER` runs this whole notebook on it. Here is the chart for a small one, 40 people of a world that no other notebook uses, opened as a folder would be; half of the steps, one seed, five rows, so the order means little.

# %%
if dataset == "plaza" and not methods:
    small = load("plaza", data_root, world=200, gap=gap, train_ids=min(40, train_ids), test_ids=min(40, test_ids))
    folder = load("folder", small.root)
    rows_there = ["ID", "ID + CCSC", "M5", "M7", NONE]

    def in_folder(name):
        def of_seed(seed):
            model = METHODS[name](folder, seed, replace(BUDGET, steps=max(2, BUDGET.steps // 2))).model
            return bench.measure(*bench.embeddings(model, folder, size), folder)

        return of_seed

    bench.decode(folder, size)
    of_folder = ablate({name: in_folder(name) for name in rows_there}, seeds[:1], workers=workers)
    there = pd.DataFrame({name: labels_of(name, folder) for name in rows_there}, index=needs.columns).T
    display(labels_chart(of_folder, folder, there))
else:
    tell(
        "Left out: "
        + (
            "this run is of chosen rows."
            if methods
            else f"this run is itself on {dataset}, and the chart above is of it."
        )
    )

# %% [markdown]
# ## The map of the field
#
# Every claim of the five papers that a run can test, in one table. *At home* is the verdict in the paper's own notebook, under the paper's conditions as near as they go: its demo (`data/demo/`), and its stored long run (`data/long/`). A dash stands where the stored table alone cannot judge: the notebook derives the rows that the claim compares, and says its verdict there. *On this bench* is the same rule applied to the rows above, which share a
# budget. One rule for all (`ledger.judge`): *reproduced* if the 95 % interval of the paired difference lies above 0, *not reproduced* if it ends at or below +0.2 points (0.002 of a fraction), practically nothing, *direction only* if every seed of three or more agrees but the interval does not, else *undecided*.

# %%
PAPERS = {
    "discriminative-embedding": "01_identification_verification",
    "ccsc": "02_ccsc",
    "dcaml": "03_dcaml",
    "precise-ics": "04_precise_ics",
    "pirid": "05_pirid",
}
CALLED = {  # what the papers call the rows of this bench
    "discriminative-embedding": {"ID": "ResNet-50 (I)", "ID + verification": "ResNet-50 (I+V)", "ID + contrastive": "ResNet-50 (I+contrastive)"},
    "ccsc": {"ID": "baseline", "ID + CCSC": "baseline+CCSC", "ID + triplet": "Softmax+triplet", "ID + center": "Softmax+center", "ID + CCSC + triplet": "Softmax+CCSC+triplet"},
    "dcaml": {"ID": "ResNet50+ID", "ID + DCAML, averaged": "ResNet50+ID+CA"},
    "precise-ics": {"M1": "M1", "M3": "M3", "M5": "M5", "M7": "M7", CEILING: "M8"},
    "pirid": {"PIRID": "PIRID", NONE: "not fine-tuned"},
}  # fmt: skip


OTHER_TESTS = {  # claims about another test than Market-1501's: where notebook 01's long run has the rows for it
    "cuhk03-single-shot": "single-shot",
    "cuhk03-multi-shot": "multi-shot",
    "market1501+500k": "tables II and III",
    "oxford5k": "buildings",
}


def main_table(rows, section="tables II and III"):
    """Of a stored long run, the rows that claims are about: one a variant and seed."""
    if "section" in rows:
        rows = rows[rows.section == section]
    if "gap" in rows and rows.gap.notna().any():
        rows = rows[rows.gap.isna() | (rows.gap == rows.gap.max())]
    rows = rows.assign(variant=rows.variant.str.removesuffix(f", {section}"))
    return rows.drop_duplicates(["variant", "seed"])


def at_home(paper):
    """Verdicts of the paper's own notebook: (demo, long), None where nothing is kept."""
    name, demo, stored = PAPERS[paper], None, None
    if ledger.is_committed(name):
        rows = ledger.committed(name)
        demo = rows.attrs["verdicts"]
        demo = ledger.verdicts(main_table(rows), ledger.claims(paper)) if demo is None else pd.DataFrame(demo)
    if ledger.is_stored(name):
        rows, claims = ledger.stored(name), ledger.claims(paper)
        parts = [
            ledger.verdicts(main_table(rows, OTHER_TESTS.get(test, "tables II and III")), mine)
            for test, mine in claims.groupby("dataset", sort=False)
        ]
        stored = pd.concat(parts)
        stored = stored[stored.verdict != "not testable here"]  # by this table: its notebook may derive more
    return demo, stored


def on_bench(paper, table):
    """The paper's claims judged on this bench's rows under the paper's names; it knows one test, Market-1501's."""
    mine, claims = table[table.variant.isin(CALLED[paper])], ledger.claims(paper)
    judged = ledger.verdicts(mine.assign(variant=mine.variant.map(CALLED[paper])), claims)
    other = judged.dataset.isin(OTHER_TESTS)
    judged.loc[other, ["verdict", "why"]] = "not testable here", "another test"
    judged.loc[other, ["difference", "low", "high"]] = np.nan
    return judged


def field(table):
    """One row a claim: what it says, and its verdicts at home (demo, long) and on this bench."""
    parts, lacking = [], []
    for paper, name in PAPERS.items():
        claims = ledger.claims(paper).set_index("id")
        part = claims[["paper", "where", "statement", "better", "worse", "metric"]].copy()
        for column, judged in zip(
            ("at home", "at home, long", "on this bench"), (*at_home(paper), on_bench(paper, table)), strict=True
        ):
            if judged is None:
                part[column] = "–"
                lacking.append(f"{name} ({'demo' if column == 'at home' else 'long'})")
            else:
                judged = judged.set_index("id")
                part[column] = judged.verdict.reindex(part.index).fillna("–")
                part[column + ": difference"] = judged.difference.reindex(part.index)
        parts.append(part)
    return pd.concat(parts), lacking


claims, lacking = field(table)
columns = ["at home", "at home, long", "on this bench"]
tell(
    f"{len(claims)} claims of {len(PAPERS)} papers. "
    + (f"No results are kept yet of: {', '.join(lacking)}." if lacking else "All notebooks have left their results.")
)
Table(claims[["statement", "better", "worse", "metric", *columns]])

# %% [markdown]
# The same as a picture: how many claims of each paper got which verdict, at home and here. *Not testable here* is no failure: these are claims about rows, metrics or tests that this bench does not have.

# %%
SHADES = dict(zip(ledger.VERDICTS, ("#009E73", "#8FD0B8", "#D55E00", "#E6C65C", "#D9D9D9"), strict=True))


def verdict_chart(claims):
    shown = [column for column in columns if (claims[column] != "–").any()]
    picture = plots.Picture(11, 0.6 + 0.42 * len(PAPERS) + 0.6)
    for axes, column in zip(
        np.atleast_1d(picture.subplots(1, len(shown), sharex=True, sharey=True)), shown, strict=True
    ):
        counts = (
            claims[claims[column] != "–"]
            .groupby(["paper", column])
            .size()
            .unstack(fill_value=0)
            .reindex(list(PAPERS)[::-1])
            .fillna(0)
        )
        left = np.zeros(len(counts))
        for verdict, shade in SHADES.items():
            width = counts.get(verdict, pd.Series(0, index=counts.index)).to_numpy(dtype=float)
            axes.barh(range(len(counts)), width, left=left, color=shade, label=verdict)
            for y, (w, start) in enumerate(zip(width, left, strict=True)):
                if w:
                    axes.text(start + w / 2, y, f"{w:.0f}", ha="center", va="center", fontsize=7)
            left += width
        axes.set_yticks(range(len(counts)), counts.index)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(title=column, xlabel="claims")
    picture.legend(*picture.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    return picture


verdict_chart(claims)

# %%
for column in columns:
    counts = claims[column][claims[column] != "–"].value_counts()
    if len(counts):
        tell(f"{column}: " + ", ".join(f"{counts.get(v, 0)} {v}" for v in ledger.VERDICTS) + ".")
tested = claims[
    (claims["on this bench"] != "not testable here")
    & (claims["at home"] != "–")
    & (claims["at home"] != "not testable here")
]
turned = tested[
    (tested["at home"] == "reproduced") & (tested["on this bench"] == "not reproduced")
    | (tested["at home"] == "not reproduced") & (tested["on this bench"] == "reproduced")
]
if len(tested):
    tell(
        f"{len(tested)} claims are judged on this bench and in the demo at home; on {len(turned)} of them the verdicts contradict each other{': ' + ', '.join(turned.index) if len(turned) else ''}."
    )
by_chance = 0.025 * (claims["on this bench"].isin(ledger.VERDICTS[:4])).sum()
tell(
    f"If nothing here were true, about {by_chance:.1f} of the claims judged on this bench would still be 'reproduced' by chance."
)

# %% [markdown]
# Why a claim did not come out on this bench. The reasons at home stand in the notebooks.

# %%
guesses = f"a second stage is as good as its guesses, and these come from a first stage of {round(FIRST * BUDGET.steps)} steps"
if {CEILING, "M7"} <= set(table.variant):
    guesses += f"; with true people the same two stages have {ledger.paired(table, CEILING, 'M7', 'mAP').text()} points of mAP more"
REASONS = {
    "de-1": "not the paper's conditions: the pairs come from the 64 images of a batch and not from a sampler of pairs, and f has passed FC and batch norm",
    "de-5": "the contrastive loss acts on the very distance that ranks; the paper gives neither its margin nor its normalisation",
    "ccsc-5": "the triplet loss also pushes strangers apart, CCSC only pulls; and here the triplet has unit vectors, on which it is strong",
    "dcaml-1": "equation 11 pushes a person's cameras apart, which is the opposite of what the ranking across cameras asks",
    "ics-5": "what the hinges add to the memory is no more than the seeds scatter; notebook 04 logs how many of them act",
    "ics-11": guesses,
    "ics-12": "see ics-11",
    "ics-17": "as in ics-5, what the hinges add is no more than the seeds scatter",
    "ics-18": "see ics-11",
}
missed = claims[claims["on this bench"].isin(["not reproduced", "undecided", "direction only"])]
for name, verdict in missed["on this bench"].items() if len(seeds) > 1 else ():
    tell(f"{name}, {verdict}: {REASONS.get(name, 'the seeds scatter more than the rows differ')}.")


# %% [markdown]
# ## What to take home
#
# Sentences whose numbers come from the table above; where a row was not run, its sentence is missing.

# %%
def say(text, better, worse, metric="mAP", scale=100):
    """One sentence about two rows, with the paired difference and its interval."""
    if {better, worse} <= set(table.variant):
        pair = ledger.paired(table, better, worse, metric)
        tell(f"{text}: {better} against {worse}, {metric} {pair.text(scale, 1 if scale == 100 else 2)}.")


say("Pulling a person's cameras together", "ID + CCSC", "ID")
say("Pushing them apart by DCAML's equation 11, averaged", "ID + DCAML, averaged", "ID")
say("The same summed, as printed", "ID + DCAML, as printed", "ID")
say("The hinge turned round, with strangers of the same camera as negatives", "ID + camera-aware triplet", "ID")
say("A plain triplet that knows no cameras, given unit vectors", "ID + triplet", "ID")
say("Knowing cameras, or only knowing people", "ID + camera-aware triplet", "ID + triplet")
say("What pulling does to camera bias (lower is better)", "ID + CCSC", "ID", "bias", 1)
say("Verification on pairs of the batch", "ID + verification", "ID")
say("The contrastive loss on the same pairs", "ID + contrastive", "ID + verification")
say("A memory in place of branches", "M3", "M1")
say("Hinges on top of the memory", "M5", "M3")
say("A second stage on guessed people, within the same number of steps", "M7", "M5")
say("Two whole recipes for people who cross cameras (notebook 05 changes the links alone)", "M7", "PIRID")
say("What labels across cameras are worth, against the best row without", "ID", best_inside)


# %%
def second_stage_by_gap(everything):
    """M7 less M5 at each gap, in a line."""
    rows = everything[everything.method.isin(["M5", "M7"]) & (everything.start == "stand-in")]
    pairs = {
        g: ledger.paired(here.assign(variant=here.method), "M7", "M5", "mAP").text()
        for g, here in rows.groupby("gap")
        if here.method.nunique() == 2
    }
    if pairs:
        tell("M7 less M5, in points of mAP: " + "; ".join(f"gap {g:g}: {text}" for g, text in pairs.items()) + ".")


second_stage_by_gap(everything)

# %% [markdown]
# Read that last line with care: a second stage is as good as the guesses that it starts from, and those hang on how far the first stage came and on how much the cameras differ. Notebook 04's long run gives each stage more steps than both have here, and a control that trains as long; its verdict on the second stage stands in
# the map above (ics-11).

# %% [markdown]
# **What this bench cannot say.** It is short: few steps reward what learns fast, and a row that is slow is not thereby worse. It is small: a narrow network, a rendered world, few people. It is one budget, which is fair to rows and unfair to papers: who needs two stages has less for each. And its two halves differ besides the
# labels in the sampler, for who does not know people across cameras cannot draw them. The `long` run asks whether the order stays on more worlds. From scratch it does not ask yet: the line below says which cells are stored.
#
# ### The long run
#
# Every row over five worlds at the main gap, each against its base, and every method on the dial. `python -m reidkit sweep sweeps/06_one_bench.yaml` computes it in pieces, one a row, on all cores or on a cluster; `tools/long.py` joins them.

# %%
if longer is not None:
    tell("Results " + ledger.stamp(longer))
    main = longer[longer.variant == longer.method]  # its main gap, from the stand-in
    order = list(dict.fromkeys((*METHODS, *main.variant)))
    main = main.sort_values("variant", key=lambda names: names.map(order.index), kind="stable")
    if main.variant.nunique() > 1:
        display(spread_of(main), plots.ablation_chart(main, ["mAP", "bias"]))
        show_gains(against_base(main))
    else:
        tell("The main table is not among them yet: above it is computed here, and the stored cells are in the dial.")
    elsewhere = main[~main.seed.isin(table.seed)]  # the others may be the same cells
    both = pd.DataFrame({"here": table.groupby("variant").mAP.mean(), "there": elsewhere.groupby("variant").mAP.mean()})
    if len(both.dropna()) > 2:
        order = both.dropna().corr("spearman").iloc[0, 1]
        tell(
            f"The order of the rows on this run's worlds and on the stored run's other worlds: a rank correlation of {order:.2f}."
        )
else:
    tell("No long results are stored yet: python -m reidkit sweep sweeps/06_one_bench.yaml makes them.")

# %%
if longer is not None and longer.groupby("method").gap.nunique().max() > 1:
    draw_dial(longer, ("ID", "ID + triplet", "ID + CCSC", "ID + camera-aware triplet", "M3", "M7", "PIRID"))
    display(winners(longer), growth(longer))
    second_stage_by_gap(longer)


# %% [markdown]
# ## Exercises
#
# Each has a solution and a check, both folded. Write your own answer in the place of the solution, or in a cell between it and the check: what runs last counts. The check says `right`, or what is not.

# %% [markdown] tags=["exercise"]
# **1. A share of the error.** One method goes from 60 to 64 % mAP on a hard set, another from 90 to 92 % on an easy one. Which gains more? Write `share(base, new)`, the share of the remaining error that is removed (negative where the error grows), both arguments mAP as fractions of 1. Name the set with the larger share `better`: "hard" or "easy".

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
def share(base, new):
    """Of the error that the base leaves, how much is gone."""
    return (new - base) / (1 - base)


better = "easy" if share(0.90, 0.92) > share(0.60, 0.64) else "hard"  # 20 % of the error against 10 %

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
assert np.isclose(share(0.6, 0.8), 0.5) and np.isclose(share(0.6, 0.6), 0) and np.isclose(share(0.6, 0.5), -0.25)
assert better == "easy", "four points are a tenth of 40; two points are a fifth of 10"
print("right")

# %% [markdown] tags=["exercise"]
# **2. What a human does.** Three cameras see 10 people each, the same 10. How many comparisons does labelling across cameras take on average, and how many if each camera sees 10 people whom no other sees? Work both numbers out by hand from the rule in *Labels against accuracy*, and name them `same_people` and `strangers`.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
same_people = 0 + 10 * (10 + 1) / 2 + 10 * (10 + 1) / 2  # the list is ten long, one is half-way down
strangers = 0 + 10 * 10 + 10 * 20  # a newcomer is compared with everybody

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
both_seen = pd.DataFrame({"pid": np.tile(np.arange(10), 3), "camid": np.repeat([0, 1, 2], 10)})
assert comparisons(both_seen) == same_people and comparisons(both_seen.assign(pid=np.arange(30))) == strangers
print("right")


# %% [markdown] tags=["exercise"]
# **3. Luck.** A bench judges m claims of which none is true, with the rule above: each comes out *reproduced* with probability 2.5 %, and they are independent. Write `chance(m)`, the probability of at least one. From how many claims on is that more likely than not? Name the number `enough`.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
def chance(m):
    """At least one of m untrue claims 'reproduced', if they are independent."""
    return 1 - 0.975**m


enough = next(m for m in range(1, 1000) if chance(m) > 0.5)

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
draws = np.random.default_rng(0).random((4000, 40)) < 0.025
assert abs(chance(40) - draws.any(1).mean()) < 0.03
assert chance(enough) > 0.5 >= chance(enough - 1) and enough == 28
print("right")

# %% [markdown] tags=["exercise"]
# **4. A row of your own.** Add a method to the bench: pull a person's images of different cameras together on unit vectors, with nothing to push them apart (`reidkit.losses.cross_camera_pull`, `normalise=True`), beside the identification loss with weight 1. Train it with `recipes.supervised` on `data`, the first seed and a quarter of the steps (`replace(BUDGET, steps=max(1, BUDGET.steps // 4))`), with the one
# term `"pull"`. Name what comes back (a `recipes.Trained`) `pull`, and its metrics by `bench.embeddings` and `bench.measure` `pulled`.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
from reidkit.losses import cross_camera_pull

quarter = replace(BUDGET, steps=max(1, BUDGET.steps // 4))
pull = recipes.supervised(data, seeds[0], quarter, {"pull": (1.0, partial(cross_camera_pull, normalise=True))})
pulled = bench.measure(*bench.embeddings(pull.model, data, size), data)
print(f"ID + pull, a quarter of the steps, one seed: mAP {pulled['mAP']:.1%}, bias {pulled['bias']:.2f}")

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
logged = pull.history
assert {"id", "pull"} <= set(logged) and len(logged) == max(1, BUDGET.steps // 4), "two terms, a quarter of the steps"
assert np.allclose(logged.loss, logged.id + logged.pull, rtol=1e-4), "the weight is 1"
assert logged["pull"].between(0, 2).all(), "unit vectors are at most 2 apart"
plain_row = recipes.supervised(data, seeds[0], replace(BUDGET, steps=1)).history
assert np.isclose(logged.id[0], plain_row.id[0], rtol=1e-5), "another seed, data set or sampler than the bench's"
assert pulled == bench.measure(*bench.embeddings(pull.model, data, size), data), "the metrics of another network"
print("right")

# %% [markdown] tags=["exercise"]
# **5. Change the sampler.** The fully supervised rows meet camera quadruplets. How much of that is in the result? Train ID on the first seed with a quarter of the steps, once with plain P × K batches and once with quadruplets, the default of `recipes.supervised`. Name the sampler `plain`: a `PKSampler` over `labels(data.train)` with the bench's P and K (or all people, where there are fewer than P) and the first seed;
# what `recipes.supervised` returns, `pk` and `quadruplets`; and their metrics `by_pk` and `by_quadruplets`.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
quarter = replace(BUDGET, steps=max(1, BUDGET.steps // 4))
people = labels(data.train)
plain = PKSampler(people, p=min(P, people.max() + 1), k=K, seed=seeds[0])
pk, quadruplets = (recipes.supervised(data, seeds[0], quarter, sampler=sampler) for sampler in (plain, None))
by_pk, by_quadruplets = (bench.measure(*bench.embeddings(row.model, data, size), data) for row in (pk, quadruplets))
print(
    f"ID, a quarter of the steps, one seed: mAP {by_pk['mAP']:.1%} by P × K, {by_quadruplets['mAP']:.1%} by quadruplets"
)

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
people_there = labels(data.train)
batch = people_there[next(iter(plain))]
assert isinstance(plain, PKSampler) and len(batch) == K * len(np.unique(batch)), "K images of each person"
assert len(np.unique(batch)) == min(P, people_there.max() + 1), "P people"
for row, sampler in ((pk, plain), (quadruplets, None)):
    first_step = recipes.supervised(data, seeds[0], replace(BUDGET, steps=1), sampler=sampler).history
    assert np.isclose(row.history.id[0], first_step.id[0], rtol=1e-5), "other batches, or another seed"
    assert len(row.history) == max(1, BUDGET.steps // 4), "a quarter of the steps"
assert by_pk == bench.measure(*bench.embeddings(pk.model, data, size), data), "the metrics of another network"
assert set(by_quadruplets) == set(bench.METRICS) and by_pk != by_quadruplets, "the same network twice?"
print("right")

# %% [markdown]
# ## In this notebook we learned
#
# - fifteen methods in one table under one budget: which gains the seeds do not drown, what a step costs, and what each supervision asks of a human;
# - what the dial says in points, as a share of the error that is left, and in camera bias, which do not agree;
# - how far labels inside cameras go, and what the labels across cameras are worth;
# - the map of the field: each claim with its verdicts, at home and under one roof, why some did not come out, and how many verdicts chance alone would give;
# - that a bench has conditions too, and that a row's place in it is a statement about both.
#
# The five papers are cited in full in notebooks 01 to 05.

# %%
saved_results = save_results(
    results_path,
    pd.concat([part for part in (everything, witnesses) if len(part)], ignore_index=True),
    field=claims.reset_index(names="id").drop(columns=["better", "worse", "metric"]),
    costs=None if costs is None else costs.reset_index(),
    dataset=data.summary(),
)

# %% [markdown]
# ---
# *Text and figures: CC-BY-4.0. Code: MIT.*

# %% [markdown]
# # 00 · The problem, the data, the yardstick
#
# *reidkit: camera-aware person re-identification, paper by paper*
#
# A person leaves one camera's view and enters another's. **Person re-identification** asks: given a picture of her under one
# camera, the *query*, find her other pictures in a collection from all cameras, the *gallery*. Nobody in the gallery was seen in
# training, so this is not classification: a network learns an *embedding*, a vector per image, and the gallery is ranked by
# distance to the query's vector. What makes it hard is in the name of this course: the camera leaves its mark on every
# picture, and the mark is often stronger than the person.
#
# In this notebook we aim at
#
# - stating the task in the field's words: identity, camera, query, gallery, junk, distractor;
# - opening the data set, Plaza, and turning its dial from "all cameras alike" to "every camera its own";
# - working the Market-1501 protocol by hand, on six images, until CMC, both average precisions and mINP come out, and then
#   letting the kit do it;
# - training the baseline of all later notebooks with the identification loss, and looking at what it retrieves;
# - seeing camera bias as a number and as a picture: *a model that never saw camera variation retrieves cameras, not people*.
#
# Every notebook walks the same road; a paper changes only the stations marked \*. This one walks it with the plainest choice at each:
#
#     load ─> split table ─> *sampler ─> batch ─> *model ─> *objective
#                            (P × K)              (small,    (identification
#                                                  BNNeck)    loss alone)
#     ─> fit ─> embed ─> evaluate ─> ledger, pictures

# %% tags=["parameters"]
profile: str = "demo"  # smoke: seconds, for tests; demo: minutes on two cores; long: an hour or more; paper: a GPU
dataset: str = "plaza"  # plaza, folder, market1501, dukemtmc, msmt17 or cuhk03
data_root: str = "../data"  # where the data set lies (Plaza: where it is kept once rendered)
gap: float = 1.0  # Plaza only: how much its cameras differ, from 0 (all alike) to 1
seeds: list = []  # seed k is Plaza world k and training seed k; empty: as many as the profile has
results_path: str = ""  # where the last cell saves the results; empty: nowhere

# %%
from inspect import signature

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from reidkit import bench, ledger, plots
from reidkit.ablation import ablate
from reidkit.bench import embeddings, known, measure
from reidkit.datasets import load_seed
from reidkit.embedding import activation_maps, silhouettes, tsne
from reidkit.evaluation import camera_bias, camera_pairs, evaluate, evaluate_distances, ranked
from reidkit.loading import pixels
from reidkit.models import BNNeck, ReID, small_resnet
from reidkit.pretrained import stand_in
from reidkit.progress import tell
from reidkit.reranking import rerank_rows
from reidkit.results import save_results
from reidkit.training import fit, warmup_milestones

# %% [markdown]
# Four profiles, one notebook. `smoke` only shows that everything runs; its numbers mean nothing. `demo` is what you see here.
# `paper` is the field's usual recipe (ResNet-50 from ImageNet, 256×128) and wants a GPU and, to mean anything, real data.

# %% tags=["nbval-check-output"]
PROFILES = pd.DataFrame(
    {
        "smoke": {
            "people": (24, 24),
            "size": (64, 32),
            "steps": 12,
            "steps from scratch": 12,
            "P×K": (8, 4),
            "gaps": [0.0, 1.0],
            "seeds": 1,
        },
        "demo": {
            "people": (100, 200),
            "size": (64, 32),
            "steps": 60,
            "steps from scratch": 100,
            "P×K": (16, 4),
            "gaps": [0.0, 0.5, 1.0],
            "seeds": 3,
        },
        "long": {
            "people": (100, 200),
            "size": (64, 32),
            "steps": 600,
            "steps from scratch": 600,
            "P×K": (16, 4),
            "gaps": [0, 0.25, 0.5, 0.75, 1],
            "seeds": 5,
        },
        "paper": {
            "people": (751, 750),
            "size": (256, 128),
            "steps": 24_000,
            "steps from scratch": 24_000,
            "P×K": (16, 4),
            "gaps": [1.0],
            "seeds": 3,
        },
    }
)
PROFILES

# %%
if profile not in PROFILES:
    raise ValueError(f"profile is {profile!r}: expected one of {', '.join(PROFILES)}")
settings = PROFILES[profile]
train_ids, test_ids = settings["people"]
size, steps, (P, K) = settings["size"], settings["steps"], settings["P×K"]
seeds = seeds or list(range(settings["seeds"]))
gaps = settings["gaps"] if dataset == "plaza" else [None]  # only Plaza has a dial


def data_for(seed, gap=gap):
    """The data set for one seed: Plaza's world of that number, or the data set itself."""
    return load_seed(dataset, data_root, seed, gap=gap, train_ids=train_ids, test_ids=test_ids)


# %% [markdown]
# ## The data: Plaza
#
# Plaza is a square watched by six cameras and crossed by people who do not exist: articulated bodies, rendered from a seed on
# your machine in the time it takes to read this paragraph. The benchmarks of the field show people who never consented (see
# `data/README.md` in the repository), and one cannot turn their cameras off. Plaza's cameras differ in position, height,
# direction, light, colour cast, gamma, blur, resolution, noise and background, and **one dial, `gap`, scales every one of these
# differences**. People differ in clothes, build, hair, skin and bags; some look alike. A backpack shows from behind and from the
# side, a logo only from the front: what a camera sees of a person depends on where it stands.
#
# On disk it is a Market-1501 folder to the letter, so every tool that opens Market-1501 opens it.

# %%
data = data_for(seeds[0])
data.summary()

# %% [markdown]
# **Words.** `pid` is the person (the *identity*), `camid` the camera, counted from 0 (file names and pictures count from 1: c1 is camid 0).
# *Query* images are searched for in the *gallery*. Gallery rows with pid −1 are *junk*: detections too poor to judge, which count
# neither for nor against. Rows with pid 0 are *distractors*: strangers, always wrong; Plaza has them only on request. `multi_query`
# holds more images of the queries' people under the queries' cameras, for notebook 01. People in the training split never appear in
# query or gallery.

# %%
data.gallery.sample(6, random_state=0).sort_index().filter(["pid", "camid", "seq", "frame"])

# %% [markdown]
# Rows are people, columns are cameras. Read along a row to see what the cameras do to one person; read down a column to see why
# two strangers under one camera can look closer than one person under two.

# %%
cameras_seen = data.train.groupby("pid").camid.nunique()
shown = cameras_seen.sort_values(ascending=False, kind="stable").index[:6]
rows = data.train.query("pid in @shown").groupby(["pid", "camid"]).head(2)
plots.contact_sheet(pixels(rows, (128, 64)), rows.pid, rows.camid)

# %% [markdown]
# ## One dial
#
# The random streams are the same at every gap, so one can watch the same person walk from a world where all cameras are alike to
# one where each has its own light, lens and point of view.

# %%
if dataset == "plaza":
    two = shown[:2]
    both = {g: data_for(seeds[0], g).train.query("pid in @two") for g in gaps}  # the same rows at every gap
    picture = plots.dial(
        {g: pixels(rows, (128, 64)) for g, rows in both.items()}, both[gaps[0]].pid, both[gaps[0]].camid
    )
else:
    picture = plots.images_per_identity(data.train.pid)
picture

# %% [markdown]
# How many cameras see a person, and how many people a camera sees, decides what can be learned across cameras. Below, the training
# split. In the test split it decides how many queries there are: the Market-1501 protocol takes one per person and camera.

# %%
plots.identities_per_camera(data.train.pid, data.train.camid)

# %% [markdown]
# ## The yardstick, by hand
#
# The protocol is that of Market-1501 (Zheng et al., *Scalable Person Re-identification: A Benchmark*, ICCV 2015). One query, six gallery images, and the distances that some model gave them:

# %%
TOY = pd.DataFrame(
    {
        "pid": [7, 7, 12, -1, 7, 0],
        "camid": [2, 0, 1, 3, 4, 2],
        "distance": [0.30, 0.10, 0.20, 0.25, 0.60, 0.45],
    },
    index=list("abcdef"),
)
QUERY_PID, QUERY_CAMID = 7, 0


# %% [markdown]
# The query is person 7 under camera 0. Rank the six by distance, and decide what each one is:
#
# | rank | image | pid, camid | what it is | why |
# |---|---|---|---|---|
# | – | b | 7, 0 | **junk** | same person, same camera: often the next frame, too easy to count; it leaves the list |
# | 1 | c | 12, 1 | wrong | another person |
# | – | d | −1, 3 | **junk** | a poor detection; it leaves the list |
# | 2 | a | 7, 2 | **right** | same person, another camera |
# | 3 | f | 0, 2 | wrong | a distractor stays in the list and is always wrong |
# | 4 | e | 7, 4 | **right** | same person, another camera |
#
# The same as a picture, in the same order: other people and cameras, taken from our data, with the same relation to their query.

# %%
def cast(data):
    """A query, and gallery rows that can play b, c, d, a, f, e; None if no query of the data has them all."""
    gallery = data.gallery
    for query in data.query.itertuples():
        mine, here = gallery.pid == query.pid, gallery.camid == query.camid
        own, elsewhere = gallery.index[mine & here], gallery.index[mine & ~here]
        others = gallery.index[~mine & (gallery.pid > 0)]
        junk = gallery.index[gallery.pid == -1].union(own[1:], sort=False)
        if len(own) and len(junk) and len(elsewhere) > 1:
            return query.Index, [own[0], others[0], junk[0], elsewhere[0], others[-1], elsewhere[-1]]


if part := cast(data):
    who, shown_rows = data.query.loc[[part[0]]], data.gallery.loc[part[1]]
    picture = plots.protocol_picture(
        pixels(who, (128, 64))[0],
        pixels(shown_rows, (128, 64)),
        ["junk", "wrong", "junk", "right", "wrong", "right"],
        query_camid=who.camid.item(),
        camids=shown_rows.camid,
    )
picture if part else "no query of this data has a same-camera match and two others"


# %% [markdown]
# With the right ones at ranks $r_1 = 2$ and $r_2 = 4$, $n = 2$ of them:
#
# - **CMC** (cumulative matching characteristic), $\mathrm{CMC}(k) = [r_1 \le k]$: 0 at rank-1, and 1 from rank-2 on. It looks at the first
#   right image only.
# - **Average precision** looks at all of them. Precision at the $i$-th right image is $p_i = i / r_i$, so $p_1 = 1/2$, $p_2 = 2/4$.
#   As a *step* sum, $\mathrm{AP} = \frac1n \sum_i p_i = 0.5$: what most toolboxes report.
#   As a *trapezoid*, $\mathrm{AP} = \frac1n \sum_i \frac{p_i' + p_i}{2}$ with $p_i' = (i-1)/(r_i-1)$, the precision just before ($p' = 1$ where $r_i = 1$):
#   $\frac12\left(\frac{0 + 1/2}{2} + \frac{1/3 + 1/2}{2}\right) = \frac13$. This is the official one of Market-1501 and Oxford5k, and it is never larger. Two tools, two mAPs for
#   the same features: **in this course mAP is the step sum; where a notebook takes the trapezoid, it says so.**
# - **INP** (inverse negative penalty; Ye et al., *Deep Learning for Person Re-identification*, TPAMI 2021) asks how far down the *hardest* right image is: $n / r_n = 2/4 = 0.5$.
#
# Averaged over queries these become CMC, mAP and mINP. As a few lines of plain Python:

# %%
def by_hand(distances, pids, camids, query_pid, query_camid):
    """CMC, both average precisions and INP of one query: the definition, a line at a time."""
    rank, ranks = 0, []
    for j in np.argsort(distances):
        if pids[j] == -1 or (pids[j] == query_pid and camids[j] == query_camid):
            continue  # junk leaves the list: ranks behind it move up
        rank += 1
        if pids[j] == query_pid:
            ranks.append(rank)
    n = len(ranks)
    cmc = [float(ranks[0] <= k) for k in range(1, rank + 1)]
    step = sum(i / r for i, r in enumerate(ranks, 1)) / n
    before = [1.0 if r == 1 else (i - 1) / (r - 1) for i, r in enumerate(ranks, 1)]
    trapezoid = sum((b + i / r) / 2 for b, (i, r) in zip(before, enumerate(ranks, 1), strict=True)) / n
    return cmc, step, trapezoid, n / ranks[-1]


by_hand(TOY.distance.to_numpy(), TOY.pid.to_numpy(), TOY.camid.to_numpy(), QUERY_PID, QUERY_CAMID)

# %% [markdown]
# The kit's call on the same six images. It never sorts a whole row; and `evaluate`, which takes features instead of distances, never
# holds all distances at once (queries × gallery would be 54 million at Market-1501's size, its junk left out). The numbers must be the same:

# %% tags=["nbval-check-output"]
one_query = ([QUERY_PID], TOY.pid, [QUERY_CAMID], TOY.camid)
step = evaluate_distances(TOY.distance.to_numpy()[None], *one_query, ap="step")
trapezoid = evaluate_distances(TOY.distance.to_numpy()[None], *one_query, ap="trapezoid")
hand = by_hand(TOY.distance.to_numpy(), TOY.pid.to_numpy(), TOY.camid.to_numpy(), QUERY_PID, QUERY_CAMID)
assert np.allclose(step.cmc[:4], hand[0]) and np.isclose(step.mAP, hand[1])
assert np.isclose(trapezoid.mAP, hand[2]) and np.isclose(step.mINP, hand[3])
tell(f"CMC {step.cmc[:4]}   AP step {step.mAP:.4f}   AP trapezoid {trapezoid.mAP:.4f}   INP {step.mINP:.4f}")

# %% [markdown]
# **Ties** are where yardsticks quietly disagree. A model that has collapsed, so that all distances are equal, has no
# ranking at all. Sorted one way it scores next to nothing in a long gallery (more in our short one), sorted the other way 100 %;
# toolboxes leave it to their sort. Here ties count against the model, and the other bound is one argument away:

# %% tags=["nbval-check-output"]
collapsed = np.zeros((1, len(TOY)))
for ties in ("pessimistic", "optimistic"):
    print(f"{ties:12s} mAP {evaluate_distances(collapsed, *one_query, ties=ties).mAP:.3f}")


# %% [markdown]
# ## What the field leaves open, and what this course does
#
# | point | readings | here |
# |---|---|---|
# | average precision | step (most toolboxes) or trapezoid (official Market-1501, Oxford5k) | `ap="step"`; the trapezoid, and saying so, where a paper's table used it |
# | ties | left to the sort; for the model; against it | `ties="pessimistic"` |
# | queries without a right image in another camera | crash, 0, or left out | NaN in `ap`, left out of the means, counted in `valid` |
# | distance | Euclidean or cosine | `metric="cosine"`; on unit vectors both rank alike |
# | non-finite features | a silent perfect or zero score | refused, the row named |
# | spread | one run, rarely more | paired seeds; on Plaza a seed is a world *and* a training seed |
#
# ## The baseline: identification loss
#
# The plainest way to an embedding: pretend it is classification. With embedding $f_i$ of image $i$, a weight vector $w_c$ per training identity,
# and $y_i$ the identity of image $i$,
#
# $$ L_{\mathrm{ID}} = -\frac1N \sum_{i=1}^{N} \log \frac{e^{w_{y_i}^\top f_i}}{\sum_c e^{w_c^\top f_i}} $$
#
# and after training the $w_c$ are thrown away. With *label smoothing* $\varepsilon$ the target is $1-\varepsilon$ on $y_i$ plus $\varepsilon / C$ on every one of
# the $C$ identities, which keeps the network from being too sure. As plain loops, and as PyTorch's call; equal in value and in gradient:

# %% tags=["nbval-check-output"]
def identification_loop(logits, targets, smoothing):
    """Cross-entropy with label smoothing, a pair (image, identity) at a time; logits (N, C), targets (N,)."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        log_sum = torch.log(sum(torch.exp(value) for value in row))
        for identity, value in enumerate(row):
            share = (1 - smoothing) * float(identity == target) + smoothing / len(row)
            total = total - share * (value - log_sum)
    return total / len(logits)


toy_logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
toy_targets = torch.tensor([0, 1, 2, 3, 1])
looped = identification_loop(toy_logits, toy_targets, 0.1)
called = F.cross_entropy(toy_logits, toy_targets, label_smoothing=0.1)
(gradient_looped,) = torch.autograd.grad(looped, toy_logits)
(gradient_called,) = torch.autograd.grad(called, toy_logits)
assert torch.allclose(looped, called) and torch.allclose(gradient_looped, gradient_called)
print(f"loop {looped.item():.6f}   call {called.item():.6f}   gradients equal")

# %% [markdown]
# ### The stand-in for ImageNet
#
# Papers start from weights trained on ImageNet. Those cannot be had offline, so `smoke`, `demo` and `long` start from a **stand-in**: the
# same small backbone, trained once, in a minute or two, to tell other people apart in *another* Plaza world at gap 0. It plays ImageNet's
# part, with two differences to keep in mind: it has seen *this kind of picture*, so it is probably a stronger start than ImageNet; and it never saw
# a camera differ from another, so **the dial is also the distance from its training data**. That is why every chart over `gap` in this course also
# shows a network trained from scratch.
#
# It learned by the identification loss with smoothed labels (0.1) behind a BNNeck, in batches of 16 people × 4 images, flipped, padded and cropped, by Adam at 3.5e-3 with warm-up and cosine; of that network the
# backbone is kept, in the cache (`~/.cache/reidkit`, or `REIDKIT_CACHE`). (In `smoke` a quick one, 40 people and 40 steps, stands in for it.) The rest is what `stand_in()` takes:

# %% tags=["nbval-check-output"]
made = {name: argument.default for name, argument in signature(stand_in).parameters.items()}
of_it = small_resnet(made["width"])
tell(
    f"network  small_resnet({made['width']}): {of_it.channels} features from {sum(w.numel() for w in of_it.parameters()):,} parameters, drawn from seed {made['seed']}\n"
    f"people   {made['ids']} of Plaza's world {made['world']} at gap 0, {made['size'][0]}×{made['size'][1]} pixels\n"
    f"length   {made['steps']} steps"
)


# %%
def network(num_ids, seed, *, start):
    """A backbone, batch-normalised features, a classifier; `start` is "stand-in" (ImageNet in `paper`) or "scratch"."""
    backbone = bench.backbone(profile, start, seed)
    return ReID(backbone, BNNeck(backbone.channels), num_ids, seed=seed)


network(2, 0, start="stand-in")  # trained here at its first use, then read from the cache


def identification(model, batch, step):
    """The objective: named loss terms of one batch."""
    return {"id": F.cross_entropy(model(batch.images).logits, batch.pids, label_smoothing=0.1)}


def recipe(steps):
    """Optimisation: warm-up and cosine at the kit's learning rate; in `paper` that of Luo et al., "Bag of Tricks", 2019."""
    if profile != "paper":
        return {}
    return {"lr": 3.5e-4, "schedule": warmup_milestones(steps, (40 / 120, 70 / 120), warmup=10 / 120, start=0.1)}


def train(data, seed, *, start, size=size, steps=steps):
    """The road from split table to trained model: P identities × K images a batch, flip, pad and crop."""
    model = network(data.train.pid.nunique(), seed, start=start)
    batches = bench.batches(data, size, p=P, k=K, seed=seed)
    history = fit(model, identification, batches, steps=steps, seed=seed, **recipe(steps))
    return model, history


model, history = train(data, seeds[0], start="stand-in")
plots.loss_curves(history.frame, ["id"])

# %% [markdown]
# The loss begins near $\log C$, that of guessing among $C$ identities; with label smoothing it cannot reach 0.
#
# Embed query and gallery, and measure. This is the first trained, evaluated result of the course, from one seed. Fractions are printed in percent;
# `bias` is a ratio, explained below:

# %%
query, gallery = embeddings(model, data, size)


def one_seed(rows):
    """Metrics of the first seed, a row each, to be read."""
    return ledger.spread(rows.rename_axis("variant").reset_index().assign(seed=seeds[0]), bench.METRICS)


one_seed(pd.DataFrame({"baseline": measure(query, gallery, data)}).T)

# %% [markdown]
# ### What it retrieves
#
# Queries chosen by a rule, not by hand: the hardest, the median and the easiest by average precision. The query is framed in blue, right images
# in green with a tick, wrong ones in orange with a cross; junk is left out.

# %%
result = evaluate(query, gallery, *known(data))
chosen = bench.chosen_by_ap(result.ap)


def show_ranked(query, gallery):
    """The ten nearest gallery images of the chosen queries."""
    top, right = ranked(query, gallery, *known(data), k=10)
    return plots.ranked_lists(
        pixels(data.query, (128, 64))[chosen],
        pixels(data.gallery, (128, 64)),
        top[chosen],
        right[chosen],
        query_camids=data.query.camid.iloc[chosen],
        gallery_camids=data.gallery.camid,
    )


show_ranked(query, gallery)

# %% [markdown]
# ### Re-ranking: neighbours vouch for each other
#
# Without any training one can ask more of the same features. **k-reciprocal re-ranking** (Zhong et al., *Re-ranking Person Re-identification with k-reciprocal
# Encoding*, CVPR 2017) trusts a neighbour if the query is among *its* neighbours too, and compares the sets of such neighbours. It looks at all queries
# at once, so it is no longer one ranking per query: papers report it apart, and so does this course. Junk detections are left out beforehand.

# %%
judged = (data.gallery.pid != -1).to_numpy()
reranked = evaluate_distances(
    rerank_rows(query, gallery[judged], progress=False),
    data.query.pid, data.gallery.pid[judged], data.query.camid, data.gallery.camid[judged],
)  # fmt: skip
tell(
    f"mAP (step) {result.mAP:.1%} as embedded, {reranked.mAP:.1%} re-ranked; rank-1 {result.cmc[0]:.1%} and {reranked.cmc[0]:.1%}. Same features, same queries, one seed."
)

# %% [markdown]
# ## Camera bias: a number and a picture
#
# Ask the stand-in itself, before it saw any of these cameras. The same three queries; look at the camera numbers, not at the people:

# %%
untrained = network(None, 0, start="stand-in")
query_before, gallery_before = embeddings(untrained, data, size)
show_ranked(query_before, gallery_before)

# %% [markdown]
# **Camera bias** puts a number on it. Among the *wrong* images in the top 10, how large is the share that comes from the query's own
# camera, and how large is that camera's share of all wrong images in the gallery? Their ratio is 1 for a model that does not care about cameras.

# %%
comparison = pd.DataFrame(
    {
        "before fine-tuning": measure(query_before, gallery_before, data),
        "fine-tuned": measure(query, gallery, data),
    }
).T
one_seed(comparison)

# %%
tell(
    f"One seed. Before fine-tuning a wrong neighbour comes from the query's own camera {comparison.bias.iloc[0]:.1f} times as often as chance would have it; "
    f"afterwards {comparison.bias.iloc[1]:.1f} times. mAP (step): {comparison.mAP.iloc[0]:.1%} before, {comparison.mAP.iloc[1]:.1%} after."
)

# %% [markdown]
# The same as a picture: t-SNE of twelve people of the gallery, colour = camera, marker = person. Chosen by a rule: the twelve that most cameras, then most images, show.
# Islands of one colour: the camera decides. Islands of one marker in many colours: the person does. t-SNE invents the distances between islands, so
# trust the numbers above each panel: mAP and bias of all queries, and for these twelve people two silhouettes, how well images group *by identity*
# (higher is better) and how much those of one person still group *by camera* (lower is better).

# %%
some = bench.most_seen(data.gallery, 12)
some_pids, some_camids = data.gallery.pid[some], data.gallery.camid[some]

features = {"before fine-tuning": gallery_before[some], "fine-tuned": gallery[some]}
features = {name: F.normalize(torch.from_numpy(f)).numpy() for name, f in features.items()}  # what cosine ranking sees
plots.embedding_maps(
    {name: tsne(f) for name, f in features.items()},
    some_pids,
    some_camids,
    stats={
        name: {
            "mAP": comparison.mAP[name],
            "camera_bias": comparison.bias[name],
            "silhouettes": silhouettes(f, some_pids, some_camids),
        }
        for name, f in features.items()
    },
)

# %% [markdown]
# Which pairs of cameras are hard? Queries of one camera (row), and only the other camera's images of the person (column) count as found; the diagonal
# asks inside one camera, and stays out of the average.

# %%
pairs = camera_pairs(query, gallery, *known(data))
plots.camera_pair_heatmap({"mAP": pairs.mAP, "rank1": pairs.rank1}, cameras=pairs.cameras)

# %% [markdown]
# How alike are two images? Cosine similarity, after fine-tuning, of all pairs among the images of those twelve people, in three kinds. Retrieval needs
# "same person, other camera" to the right of "different people". How far "same person, same camera" lies to the right of both is what changing the camera costs.

# %%
unit = features["fine-tuned"]
plots.similarity_histogram(unit @ unit.T, some_pids, some_camids)

# %% [markdown]
# Where does the network look? The mean magnitude of its last feature maps, over the crops of the three queries. The maps are many times smaller than the crop, so
# another model is trained for this picture, briefly (40 steps at most), at 128×64.

# %%
large, _ = train(data, seeds[0], start="stand-in", size=(128, 64), steps=min(steps, 40))
crops = pixels(data.query.iloc[chosen].reset_index(drop=True), (128, 64))
plots.activation_overlay(crops, activation_maps(large, crops))

# %% [markdown]
# ## The dial: how much is the camera to blame?
#
# Three rows, each at every gap and for every seed (a seed is a Plaza world and a training seed; all rows of one seed see the same batches, in the same order):
# the stand-in as it is, the stand-in fine-tuned with the identification loss, and the same network trained from scratch. The table of profiles gives the
# steps: in `demo` the row from scratch has more of them and is still only a beginning. In the chart, lines are means over seeds, bands one standard
# deviation, small points the seeds.

# %%
STARTS = {
    "not fine-tuned": ("stand-in", 0),
    "fine-tuned": ("stand-in", steps),
    "from scratch": ("scratch", settings["steps from scratch"]),
}


def row(start, gap):
    """What `ablate` runs for one cell of the table: seed -> metrics."""

    def run(seed):
        world = data_for(seed, gap)
        weights, budget = STARTS[start]
        model = train(world, seed, start=weights, steps=budget)[0] if budget else network(None, seed, start=weights)
        return {"start": start, "gap": gap, **measure(*embeddings(model, world, size), world)}

    return run


for seed in seeds:  # rendered here, on all cores; the workers then only open them
    for g in gaps:
        bench.decode(data_for(seed, g), size)
variants = {start if g is None else f"{start}, gap {g}": row(start, g) for g in gaps for start in STARTS}
table = ablate(variants, seeds, workers=0 if profile == "smoke" else None)  # smoke: quicker than starting workers
ledger.spread(table, bench.METRICS)

# %%
if dataset == "plaza":
    picture = plots.dial_chart(table, ["mAP", "bias"], hue="start")
else:
    picture = plots.ablation_chart(table, ["mAP", "bias"])
picture


# %%
def tell_dial(table):
    """What the dial does to each row, from one end to the other, and the claim that this bears on."""
    names = table.drop_duplicates(["start", "gap"]).set_index(["start", "gap"]).variant
    low, high = table.gap.min(), table.gap.max()

    def change(start, metric):
        return ledger.paired(table, names[start, high], names[start, low], metric)

    at = table.groupby(["start", "gap"])[["mAP", "bias"]].mean()
    for start in STARTS:
        mAP, bias = at.mAP[start], at.bias[start]
        tell(
            f"{start}, gap {low:g} to {high:g}: mAP (step) {mAP[low]:.1%} to {mAP[high]:.1%}, in points {change(start, 'mAP').text()}; "
            f"camera bias {bias[low]:.2f} to {bias[high]:.2f}, {change(start, 'bias').text(1, 2)}"
        )
    tell(
        "The claim that a model which never saw camera variation (not fine-tuned) retrieves cameras, not people: over the dial "
        f"its mAP falls, {ledger.judge(-change('not fine-tuned', 'mAP').differences)}; "
        f"its camera bias rises, {ledger.judge(change('not fine-tuned', 'bias').differences)}."
    )


if len(gaps) > 1:
    tell_dial(table)

# %% [markdown]
# After ± or in brackets: the standard deviation over seeds, and the 95 % interval of the paired difference. *Reproduced* means that the interval lies on the
# claim's side of 0; with fewer than three seeds there is none worth printing. Distance from pre-training plays no part in the row from scratch: whatever it loses
# over the dial, and whatever bias it gains, the cameras have caused (in `demo`, within a short training).

# %% [markdown]
# ### The long run, stored
#
# Ten times the steps, five worlds, five gaps: has the fine-tuned network learned what the cameras do, once it has the time? And is it the start that made the difference, or the length?

# %%
if ledger.is_stored("00_problem_data_yardstick"):
    long = ledger.stored("00_problem_data_yardstick")
    tell("Results " + ledger.stamp(long))
    display(ledger.spread(long, bench.METRICS), plots.dial_chart(long, ["mAP", "bias"], hue="start"))
    tell_dial(long)
else:
    print("No long results are stored yet: python -m reidkit run 00 --profile long makes them.")

# %% [markdown]
# ## Exercises
#
# Each has a solution and a check, both folded. Write your own answer in the place of the solution, or in a cell between it and the check: what runs last counts. The check says `right`, or what is not.

# %% [markdown] tags=["exercise"]
# **1. What the junk rule is worth.** Evaluate the fine-tuned baseline (features `query` and `gallery`) as if same-camera matches were *not* junk: give the queries a
# camera number that no gallery image has. Name what `evaluate` returns `generous`. By how much does rank-1 rise over `result`? Name the difference, a fraction, `rise`.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
elsewhere = np.full(len(data.query), 10_000)
generous = evaluate(query, gallery, data.query.pid, data.gallery.pid, elsewhere, data.gallery.camid)
rise = generous.cmc[0] - result.cmc[0]
print(f"rank-1 {result.cmc[0]:.1%} by the protocol, {generous.cmc[0]:.1%} with the query's own camera left in")

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
unit_query, unit_gallery = (F.normalize(torch.from_numpy(f)).numpy() for f in (query, gallery[judged]))
nearest_pid = data.gallery.pid.to_numpy()[judged][(unit_query @ unit_gallery.T).argmax(1)]
findable = data.query.pid.isin(data.gallery.pid).to_numpy()
by_nearest = (nearest_pid == data.query.pid.to_numpy())[findable].mean()
assert np.isclose(generous.cmc[0], by_nearest, atol=0.005), "rank-1: is the nearest image, of any camera, right?"
assert np.isclose(rise, generous.cmc[0] - result.cmc[0]), "generous less the protocol's"
print("right")


# %% [markdown] tags=["exercise"]
# **2. A precision of your own.** Write `average_precision(ranks)`: it takes the ranks (from 1, junk removed) of one query's right images, a list in any order, and
# returns the step AP, a float. Try it on the worked example, and on a query that gets everything right.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
def average_precision(ranks):
    """Step AP from the ranks of the right images, ascending."""
    ranks = np.sort(np.asarray(ranks))
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


# %% jupyter={"source_hidden": true} tags=["check"]
# Check
assert np.isclose(average_precision([2, 4]), step.mAP)
assert np.isclose(average_precision([1, 2, 3]), 1)
assert np.isclose(average_precision([1, 4, 5]), (1 / 1 + 2 / 4 + 3 / 5) / 3), "not only the first or the last rank"
assert np.isclose(average_precision([5, 1, 4]), average_precision([1, 4, 5])), "the order of the list must not matter"
print("right")


# %% [markdown] tags=["exercise"]
# **3. Camera bias as a loop.** `top, right = ranked(query, gallery, *known(data), k=10)` gives, a row a query, the gallery rows of its nearest images without junk (−1 where
# the list is shorter) and which of them are right. Write `bias_by_hand(top, right)`: it returns camera bias from its definition, a float. People and cameras
# are those of `data.query` and `data.gallery`. (Wrong images: not junk, not the query's person. Add up each count over the queries before you divide.)

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
def bias_by_hand(top, right):
    """The own camera's share of the wrong images in `top`, divided by its share of all wrong images."""
    pids, camids = data.gallery.pid.to_numpy(), data.gallery.camid.to_numpy()
    wrong_in_top = own_in_top = wrong_everywhere = own_everywhere = 0
    for i, (pid, camid) in enumerate(zip(data.query.pid, data.query.camid, strict=True)):
        wrong = (pids != pid) & (pids != -1)
        wrong_everywhere += wrong.sum()
        own_everywhere += (wrong & (camids == camid)).sum()
        nearest = top[i][(top[i] >= 0) & ~right[i]]
        wrong_in_top += len(nearest)
        own_in_top += (camids[nearest] == camid).sum()
    return float((own_in_top / wrong_in_top) / (own_everywhere / wrong_everywhere))


# %% jupyter={"source_hidden": true} tags=["check"]
# Check
for pair, k in (((query, gallery), 10), ((query_before, gallery_before), 3)):
    by_kit = camera_bias(*pair, *known(data), k=k)
    assert np.isclose(bias_by_hand(*ranked(*pair, *known(data), k=k)), by_kit), "compare with the definition above"
print("right")

# %% [markdown] tags=["exercise"]
# **4. The sampler.** Does it matter how a batch is composed? Train once more, from the stand-in, with the first seed and for `steps` steps, but with twice as many people a batch
# (all, if there are fewer) and half as many images of each: `2P × K/2`. Name what `bench.batches` returns `wide_batches`, the model `wide_model`, what `fit`
# returns `wide_history`, and the dict of `measure` `wide`. One seed gives a hint, not an answer.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["solution"]
# Solution
wide_p = min(2 * P, data.train.pid.nunique())
wide_batches = bench.batches(data, size, p=wide_p, k=K // 2, seed=seeds[0])
wide_model = network(data.train.pid.nunique(), seeds[0], start="stand-in")
wide_history = fit(wide_model, identification, wide_batches, steps=steps, seed=seeds[0], **recipe(steps))
wide = measure(*embeddings(wide_model, data, size), data)
print(
    f"mAP (step), one seed: {comparison.mAP['fine-tuned']:.1%} with {P} × {K}, {wide['mAP']:.1%} with {wide_p} × {K // 2}"
)

# %% jupyter={"source_hidden": true} tags=["check"]
# Check
people, images = np.unique(np.asarray(wide_batches.pids)[wide_batches.sampler.epoch(0)[0]], return_counts=True)
assert len(people) == min(2 * P, data.train.pid.nunique()) and set(images) == {K // 2}, "2P people, K/2 images of each"
assert len(wide_history.frame) == steps, "as many steps as the baseline"
again = measure(*embeddings(wide_model, data, size), data)
assert all(np.isclose(wide[name], again[name], equal_nan=True) for name in comparison), "the metrics of `wide_model`"
assert not np.isclose(wide["mAP"], comparison.mAP).any(), "the baseline again, or a model that was not trained"
print("right")

# %% [markdown]
# ## In this notebook we learned
#
# - the task: rank a gallery by distance to a query, where nobody was seen in training; junk leaves the list, distractors stay;
# - Plaza: the same people under cameras whose differences one dial scales;
# - the Market-1501 protocol, by hand: CMC looks at the first right image, AP at all of them (and there are two of them), INP at the hardest; ties
#   count against the model;
# - the baseline: P × K batches, a small network, the identification loss;
# - camera bias: what a model without camera experience retrieves. The next five notebooks take one paper each to this yardstick.

# %%
saved = save_results(results_path, table, dataset=data.summary())

# %% [markdown]
# ---
# *Text and figures: CC-BY-4.0. Code: MIT.*

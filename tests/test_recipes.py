"""Recipes on a world of a few people: what each trains, what it sees, and that it repeats."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from reidkit import bench, plots, recipes
from reidkit.association import associate, prototypes
from reidkit.datasets import labels, load
from reidkit.embedding import embed
from reidkit.evaluation import evaluate, ranked
from reidkit.loading import Augment, pixels
from reidkit.losses import CenterLoss, Verification, batch_hard_triplet, camera_softmax, ccsc, quintuplet_hinges
from reidkit.losses.camera_memory import mean_by_camera
from reidkit.memory import MemoryBank

BUDGET = recipes.Budget("smoke", (64, 32), dim=8, steps=3, p=4, k=4, start="scratch")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("world")
    patch.setenv("REIDKIT_CACHE", str(root / "cache"))
    yield load("plaza", root, train_ids=8, test_ids=2, cameras=3, junk=0)
    patch.undo()


def test_accumulated_identities_are_pairs_of_person_and_camera():
    frame = pd.DataFrame({"pid": [7, 3, 7, 3, 7], "camid": [2, 0, 0, 1, 2]})
    ids, cameras, people = recipes.accumulated(frame)
    assert len(cameras) == len(people) == 4
    assert [(people[i], cameras[i]) for i in ids] == list(zip(frame.pid, frame.camid, strict=True))
    assert cameras.tolist() == sorted(cameras)


def test_class_means_are_the_loop(world):
    ids, _, _ = recipes.accumulated(world.train)
    model = recipes.network(BUDGET, None, 0)
    features = embed(model, pixels(world.train, BUDGET.size))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.stack([unit[ids == i].sum(0) / np.linalg.norm(unit[ids == i].sum(0)) for i in range(ids.max() + 1)])
    assert recipes.class_means(model, world, ids, BUDGET.size).numpy() == pytest.approx(expected, abs=1e-5)


def test_batches_are_cropped_and_rows_are_judged_as_told(world):
    assert bench.batches(world, (64, 32), p=4).augment == Augment(pad=4)
    draw = np.random.default_rng(0)
    query, gallery = (draw.standard_normal((len(split), 4)) for split in (world.query, world.gallery))
    judged = [evaluate(query, gallery, *bench.known(world), ap=ap).mAP for ap in ("step", "trapezoid")]
    assert judged[0] != judged[1]
    assert [bench.measure(query, gallery, world, ap=ap)["mAP"] for ap in ("step", "trapezoid")] == judged


def test_queries_chosen_by_gain_look_both_ways():
    before = np.array([0.5, 0.2, np.nan, 0.9, 0.4, 0.1])
    after = np.array([0.6, 0.9, np.nan, 0.3, 0.4, 0.2])  # +0.1, +0.7, nothing, -0.6, 0, +0.1
    assert bench.chosen_by_gain(before, after) == [1, 5, 0, 3]
    assert bench.chosen_by_gain(before, after, best=1, worst=2) == [1, 3, 2]


def test_models_side_by_side_are_ranked_for_the_queries_asked(world):
    draw = np.random.default_rng(1)
    features = {
        name: tuple(draw.standard_normal((len(split), 4)) for split in (world.query, world.gallery))
        for name in ("one", "other")
    }
    queries = [3, 0]
    shown = bench.side_by_side(features, world, queries, k=2, metric="euclidean")
    for name, pair in features.items():
        whole = ranked(*pair, *bench.known(world), k=2, metric="euclidean")
        assert shown["ranking"][name].tolist() == whole.indices[queries].tolist()
        assert shown["relevant"][name].tolist() == whole.relevant[queries].tolist()
    assert (shown["query_images"] == pixels(world.query.iloc[queries].reset_index(drop=True), (128, 64))).all()
    assert shown["query_camids"].tolist() == world.query.camid.iloc[queries].tolist()
    plots.ranked_lists(**shown)


class Pairs(torch.nn.Module):
    """A loss with weights of its own."""

    def __init__(self, num_ids, dim):
        super().__init__()
        self.verification = Verification(dim, dropout=0.0)

    def forward(self, features, pids, camids):
        same = (pids[0::2] == pids[1::2]).long()
        return F.cross_entropy(self.verification(features[0::2], features[1::2]), same)


def test_supervised_logs_each_term_and_repeats(world):
    terms = {"ccsc": (1.5, ccsc), "center": (0.01, CenterLoss), "pairs": (1.0, Pairs)}
    first, again = (recipes.supervised(world, 0, BUDGET, terms) for _ in range(2))
    assert {"id", *terms} <= set(first.history)
    assert first.history[["id", *terms]].notna().all().all()
    assert len(first.history) == BUDGET.steps
    pd.testing.assert_frame_equal(first.history, again.history)
    row = first.history.iloc[0]
    assert row.loss == pytest.approx(row.id + 1.5 * row.ccsc + 0.01 * row.center + row.pairs, rel=1e-5)


def test_a_loss_of_weight_zero_changes_nothing(world):
    plain, beside = (recipes.supervised(world, 0, BUDGET, terms) for terms in ({}, {"ccsc": (0.0, ccsc)}))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, beside.model.state_dict()[name]), name


def test_the_center_loss_moves_by_its_rule_and_not_by_the_optimiser(world):
    made = []

    class Watched(CenterLoss):
        def __init__(self, *size):
            super().__init__(*size)
            made.append(self)

    recipes.supervised(world, 0, BUDGET, {"center": (0.0, Watched)})  # without a gradient the rule still moves it
    assert not made[0].centers.requires_grad
    assert made[0].centers.abs().sum() > 0


@pytest.mark.parametrize("how", [{}, {"classifier": "branches"}, {"hinges": ("instance", "centroid")}])
def test_intra_camera_keeps_a_memory_of_the_accumulated_identities(world, how):
    trained = recipes.intra_camera(world, 0, BUDGET, **how)
    count = len(recipes.accumulated(world.train)[1])
    assert trained.bank.memory.shape == (count, BUDGET.dim)
    assert trained.bank.memory.norm(dim=1) == pytest.approx(np.ones(count), abs=1e-5)
    assert set(how.get("hinges", ())) <= set(trained.history)
    assert (trained.model.classifier is not None) == (how.get("classifier") == "branches")


def test_intra_camera_refuses_words_that_it_does_not_know(world):
    with pytest.raises(ValueError, match="classifier is 'forest'"):
        recipes.intra_camera(world, 0, BUDGET, classifier="forest")
    with pytest.raises(ValueError, match="'quintuple'"):
        recipes.intra_camera(world, 0, BUDGET, hinges=["quintuple"])


class Looked(Exception):
    """Raised in place of a training."""


@pytest.fixture
def handed(monkeypatch):
    """handed(recipe, …): what a recipe hands to `fit`, its first batch, and what the network makes of it."""

    def look(model, objective, batches, *, after_step=None, stateful=None, **_):
        batch = next(iter(batches.epoch(0)))
        out = model(batch.images)
        f = F.normalize(out.features)
        ahead = SimpleNamespace(
            objective=lambda step: objective(lambda images: out, batch, step), after_step=after_step
        )
        ahead.batch, ahead.out, ahead.f, ahead.bank = batch, out, f, (stateful or {}).get("memory")
        raise Looked(ahead)

    def ask(recipe, *given, **how):
        with monkeypatch.context() as patch:
            patch.setattr(recipes, "fit", look)
            with pytest.raises(Looked) as looked:
                recipe(*given, **how)
        return looked.value.args[0]

    return ask


def agree(terms, expected):
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-5
    )


def test_intra_camera_terms_are_equations_3_and_4_on_its_memory(world, handed):
    at = handed(recipes.intra_camera, world, 0, BUDGET, hinges=("centroid", "instance"), margin=0.4)
    cameras = torch.from_numpy(recipes.accumulated(world.train)[1])
    labels = at.batch.pids, at.batch.camids
    both = quintuplet_hinges(
        at.out.pooled, at.f, *labels, at.bank.memory, cameras, instance_margin=0.4, centroid_margin=0.4
    )
    id_loss = camera_softmax(at.f, *labels, at.bank.memory, cameras, temperature=1 / 15)
    instance, centroid = (mean_by_camera(hinge, at.batch.camids) for hinge in both)
    assert not torch.isclose(instance, centroid)
    agree(at.objective(0), {"id": id_loss, "instance": instance, "centroid": centroid})


def test_second_stage_terms(world, handed):
    stage = recipes.intra_camera(world, 0, BUDGET)
    at = handed(recipes.second_stage, world, 0, BUDGET, stage, labels(world.train), margin=0.4)
    expected = {
        "id": F.cross_entropy(at.out.logits, at.batch.pids, label_smoothing=0.1),
        "triplet": batch_hard_triplet(at.out.pooled, at.batch.pids, margin=0.4),
    }
    agree(at.objective(0), expected)


def test_prototype_terms_are_equations_3_to_5_on_two_memories(world, handed):
    at = handed(recipes.with_prototypes, world, 0, BUDGET, intra_only=0.0, eps=0.99, margin=0.2)
    cameras = torch.from_numpy(recipes.accumulated(world.train)[1])
    found = torch.from_numpy(prototypes(at.bank.memory, cameras, eps=0.99))
    joined = found >= 0
    people = MemoryBank(int(found.max()) + 1, BUDGET.dim, rate=0.5)
    people.fill(at.bank.memory[joined], found[joined])
    mine = joined[at.batch.pids]
    own = found[at.batch.pids][mine]

    def expected():
        intra = camera_softmax(at.f, at.batch.pids, at.batch.camids, at.bank.memory, cameras, temperature=0.05)
        inter = F.cross_entropy(at.f[mine] @ people.memory.T / 0.05, own)
        return {
            "intra": intra,
            "inter": inter,
            "triplet": batch_hard_triplet(at.out.pooled[mine], own, margin=0.2, hinge=False),
        }

    first = at.objective(0)
    agree(first, expected())
    at.after_step(at.batch, at.out)  # both memories move
    people.update(at.f.detach()[mine], own)
    second = at.objective(1)  # of the same epoch: not clustered again
    agree(second, expected())
    assert not torch.isclose(first["inter"], second["inter"])


def test_the_second_stage_leaves_the_first_as_it_was(world):
    stage = recipes.intra_camera(world, 0, BUDGET)
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    ids, cameras, _ = recipes.accumulated(world.train)
    guessed = recipes.guessed_people(stage, world)
    assert np.array_equal(guessed, associate(stage.bank.memory, cameras, n_pairs=len(cameras))[ids])
    known = recipes.second_stage(world, 0, BUDGET, stage, labels(world.train))
    assert known.model.classifier.out_features == world.train.pid.nunique()
    assert {"id", "triplet"} <= set(known.history)
    assert all(torch.equal(value, before[name]) for name, value in stage.model.state_dict().items())
    with pytest.raises(ValueError, match="1 person"):
        recipes.second_stage(world, 0, BUDGET, stage, np.zeros(len(ids), np.int64))


def test_prototypes_come_in_after_their_share_of_the_steps(world):
    history = recipes.with_prototypes(world, 0, replace(BUDGET, steps=4), intra_only=0.5, eps=0.99).history
    assert history.prototypes.tolist()[:2] == [0, 0]
    assert (history.prototypes[2:] > 1).all()
    assert history[["inter", "triplet"]].notna().all(axis=1).tolist() == [False, False, True, True]
    nothing = recipes.with_prototypes(world, 0, BUDGET, intra_only=0.0, eps=1e-6).history
    assert not nothing.prototypes.any()
    assert "inter" not in nothing


def test_no_prototype_at_all_is_intra_camera_learning(world):
    alone = recipes.intra_camera(world, 0, BUDGET, temperature=0.05)
    apart = recipes.with_prototypes(world, 0, BUDGET, eps=1e-6)
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, apart.model.state_dict()[name]), name

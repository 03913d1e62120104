"""The camera-aware family: against plain loops, by hand, at the edges, and the dynamic weight."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from reidkit.losses import (
    DynamicWeight,
    camera_aware,
    camera_aware_flipped,
    camera_aware_triplet,
    cross_camera_pull,
    intra_camera_triplet,
    order_of_magnitude,
)

HINGES = [camera_aware, camera_aware_flipped, camera_aware_triplet, intra_camera_triplet]
LOSSES = [*HINGES, cross_camera_pull]


def batch(n=24, d=5, ids=4, cameras=3, seed=0):
    """Random features with every kind of partner, some anchors without."""
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, dtype=torch.float64, generator=stream, requires_grad=True)
    return features, *(torch.randint(high, (n,), generator=stream) for high in (ids, cameras))


def quadruplets(p=3, d=4, seed=0):
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(4 * p, d, dtype=torch.float64, generator=stream, requires_grad=True)
    return features, torch.arange(p).repeat_interleave(4), torch.tensor([0, 0, 1, 1]).repeat(p)


def near_and_far(loss):
    """Who is p and who is n, one pair (a, j) at a time: the table of the module."""
    return {
        camera_aware: lambda person, camera, itself: (person and camera and not itself, person and not camera),
        camera_aware_flipped: lambda person, camera, itself: (person and not camera, person and camera and not itself),
        camera_aware_triplet: lambda person, camera, itself: (person and not camera, camera and not person),
        intra_camera_triplet: lambda person, camera, itself: (
            person and camera and not itself,
            camera and not person,
        ),
    }[loss]


def looped(loss, features, pids, camids, *, margin=0.1, squared=False, normalise=False, reduction="mean"):
    """The definition, an anchor and a partner at a time."""
    if normalise:
        features = torch.stack([f / f.norm() for f in features])
    kind, terms = near_and_far(loss), []
    for a in range(len(features)):
        near, far = [], []
        for j in range(len(features)):
            is_near, is_far = kind(bool(pids[a] == pids[j]), bool(camids[a] == camids[j]), a == j)
            distance = (features[a] - features[j]).square().sum()
            distance = distance if squared else (distance + 1e-12).sqrt()
            near += [distance] if is_near else []
            far += [distance] if is_far else []
        if near and far:
            terms.append((max(near) - min(far) + margin).clamp(min=0))
    total = sum(terms)
    return total if reduction == "sum" else total / len(terms)


@pytest.mark.parametrize("options", [{}, {"squared": True}, {"normalise": True, "margin": 0.5}, {"reduction": "sum"}])
@pytest.mark.parametrize("loss", HINGES)
def test_equals_the_plain_loop_in_value_and_gradient(loss, options):
    features, pids, camids = batch()
    called = loss(features, pids, camids, **options)
    defined = looped(loss, features, pids, camids, **options)
    assert called.ndim == 0
    torch.testing.assert_close(called, defined, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(value, features)[0] for value in (called, defined)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"squared": True}, {"normalise": True}, {"reduction": "sum"}])
def test_the_pull_equals_the_plain_loop_in_value_and_gradient(options):
    features, pids, camids = batch()
    called, terms = cross_camera_pull(features, pids, camids, **options), []
    rows = [f / f.norm() for f in features] if "normalise" in options else features
    for a in range(len(rows)):
        for j in range(len(rows)):
            if pids[a] == pids[j] and camids[a] != camids[j]:
                squared = (rows[a] - rows[j]).square().sum()
                terms.append(squared if "squared" in options else squared.sqrt())
    defined = sum(terms) / (1 if "reduction" in options else len(terms))
    torch.testing.assert_close(called, defined, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(value, features)[0] for value in (called, defined)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


def test_the_pull_of_nearly_equal_images_far_from_zero_is_exact():
    """A matrix product would leave the difference of two numbers near 3e6, in float32 worth 0.25 each."""
    features = torch.full((2, 3), 1000.0)
    features[1, 0] += 0.125
    value = cross_camera_pull(features, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert value == pytest.approx(0.125)


def test_on_quadruplets_it_is_equation_11_as_printed():
    features, pids, camids = quadruplets()
    x = features.view(3, 2, 2, 4)  # person, camera, image, d
    total = 0.0
    for a in range(3):
        for c in range(2):
            for i in range(2):
                same_camera = (x[a, c, i] - x[a, c, 1 - i]).norm()
                others = min((x[a, c, i] - x[a, 1 - c, k]).norm() for k in range(2))
                total = total + (same_camera - others + 0.1).clamp(min=0)
    torch.testing.assert_close(camera_aware(features, pids, camids, reduction="sum"), total)
    torch.testing.assert_close(camera_aware(features, pids, camids), total / 12)


# One person on a line: camera 0 at 0 and 1, camera 1 at 3 and 5. Same-camera distances 1 1 2 2; the nearest image of
# the other camera is 3 2 2 4 away, the farthest 5 4 3 5.
LINE = torch.tensor([[0.0], [1.0], [3.0], [5.0]]), torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1])


def test_by_hand():
    features, pids, camids = LINE
    value = camera_aware(features, pids, camids, margin=0.5)  # 1-3, 1-2, 2-2, 2-4, each + 0.5, at least 0
    assert value == pytest.approx((0 + 0 + 0.5 + 0) / 4)
    flipped = camera_aware_flipped(features, pids, camids, margin=0.5)  # 5-1, 4-1, 3-2, 5-2, each + 0.5
    assert flipped == pytest.approx((4.5 + 3.5 + 1.5 + 3.5) / 4)
    assert cross_camera_pull(features, pids, camids) == pytest.approx((3 + 2 + 5 + 4) / 4)
    assert cross_camera_pull(features, pids, camids, reduction="sum") == pytest.approx(2 * (3 + 2 + 5 + 4))


def test_a_second_person_in_the_same_cameras():
    features, pids, camids = LINE
    other = torch.tensor([[0.5], [9.0]])
    features, pids, camids = (
        torch.cat([features, other]),
        torch.tensor([0, 0, 0, 0, 1, 1]),
        torch.tensor([0, 0, 1, 1, 0, 1]),
    )
    # camera 0 has the stranger at 0.5, camera 1 at 9. The stranger has no second image in a camera.
    intra = [1 - 0.5, 1 - 0.5, 2 - 6, 2 - 4]
    assert intra_camera_triplet(features, pids, camids) == pytest.approx(sum(max(0, v + 0.1) for v in intra) / 4)
    cross = [5 - 0.5, 4 - 0.5, 3 - 6, 5 - 4, 8.5 - 0.5, 8.5 - 4]
    assert camera_aware_triplet(features, pids, camids) == pytest.approx(sum(max(0, v + 0.1) for v in cross) / 6)


def test_negatives_of_anybody():
    features, pids, camids = LINE
    other = torch.tensor([[2.5]])  # a stranger in camera 1, nearer to camera 0 than the person's own images
    features, pids, camids = torch.cat([features, other]), torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 1, 1, 1])
    person = [1 - 3, 1 - 2, 2 - 2, 2 - 4]
    anybody = [1 - 2.5, 1 - 1.5, 2 - 2, 2 - 4]
    for negatives, values in (("person", person), ("batch", anybody)):
        value = camera_aware(features, pids, camids, margin=1.2, negatives=negatives)
        assert value == pytest.approx(sum(max(0, v + 1.2) for v in values) / 4)


def test_random_pairs_come_from_the_other_camera_all_equally_and_repeat_with_their_generator():
    features, pids, camids = LINE
    # anchor 0 alone: its partner is 1 away, its other-camera images 3 and 5; margin 10 keeps the hinge open
    expected = {
        round(sum(1 - a + 10 if i < 2 else 2 - a + 10 for i, a in enumerate(drawn)) / 4, 4)
        for drawn in [(p, q, r, s) for p in (3, 5) for q in (2, 4) for r in (3, 2) for s in (5, 4)]
    }
    stream = torch.Generator().manual_seed(0)
    seen = [camera_aware(features, pids, camids, margin=10, mining="random", generator=stream) for _ in range(400)]
    assert {round(v.item(), 4) for v in seen} == expected
    mean_far = (4 + 3 + 2.5 + 4.5) / 4
    assert torch.stack(seen).mean() == pytest.approx(1.5 - mean_far + 10, abs=0.1)
    again = torch.Generator().manual_seed(0)
    assert camera_aware(features, pids, camids, margin=10, mining="random", generator=again) == seen[0]


def test_hard_is_never_below_random():
    features, pids, camids = batch(48)
    hard = camera_aware(features, pids, camids)
    for seed in range(10):
        stream = torch.Generator().manual_seed(seed)
        assert camera_aware(features, pids, camids, mining="random", generator=stream) <= hard + 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("pids", "camids"),
    [([], []), ([0], [0]), ([0, 0, 0, 0], [0, 1, 2, 3]), ([0, 1, 2, 3], [0, 1, 2, 3]), ([0, 0, 0, 0], [0, 0, 0, 0])],
    ids=["empty", "one image", "one image a camera", "one image a person", "one camera"],
)
def test_no_pair_gives_a_differentiable_zero(loss, pids, camids):
    if loss is cross_camera_pull and camids == [0, 1, 2, 3]:
        pids = [0, 1, 2, 3]  # one person under four cameras has pairs to pull
    features = torch.ones(len(pids), 3, requires_grad=True)
    value = loss(features, torch.tensor(pids, dtype=torch.int64), torch.tensor(camids, dtype=torch.int64))
    value.backward()
    assert value == 0
    assert (features.grad == 0).all()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_no_pair_is_a_zero_also_where_features_are_infinite(loss, normalise):
    features = torch.ones(3, 4)
    features[0] = torch.inf
    value = loss(features.requires_grad_(), torch.arange(3), torch.arange(3), normalise=normalise)
    value.backward()
    assert value == 0
    assert (features.grad == 0).all()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_equal_images_have_a_finite_gradient(loss, normalise):
    """A collapsed network, or one image twice in a quadruplet: distances of 0."""
    pids, camids = torch.arange(2).repeat_interleave(4), torch.tensor([0, 0, 1, 1] * 2)
    features = torch.ones(8, 3, requires_grad=True)
    value = loss(features, pids, camids, normalise=normalise)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(features.grad).all()
    if loss is not cross_camera_pull:
        assert value.item() == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_value(loss):
    features, pids, camids = batch(12, 3, 2, 2, seed=3)
    assert gradcheck(lambda f: loss(f, pids, camids), features)


@pytest.mark.parametrize("loss", LOSSES)
def test_neither_the_order_of_a_batch_nor_names_of_cameras_matter(loss):
    features, pids, camids = batch()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    renamed = 7 - camids[order]
    torch.testing.assert_close(loss(features, pids, camids), loss(features[order], 5 + pids[order], renamed))


def test_a_step_down_the_camera_aware_loss_parts_the_cameras_and_one_down_the_pull_joins_them():
    features, pids, camids = LINE
    for loss, options, sign in ((camera_aware, {"margin": 5.0}, 1), (cross_camera_pull, {}, -1)):
        moved = features.clone().requires_grad_()
        loss(moved, pids, camids, **options).backward()
        stepped = features - 0.1 * moved.grad
        change = cross_camera_pull(stepped, pids, camids) - cross_camera_pull(features, pids, camids)
        assert sign * change > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_input_is_named(loss):
    features, pids, camids = batch()
    with pytest.raises(ValueError, match="24 features but camids"):
        loss(features, pids, camids[:3])
    with pytest.raises(ValueError, match="pids must be int64"):
        loss(features, pids.float(), camids)
    with pytest.raises(ValueError, match="features must be floating"):
        loss(features[0], pids, camids)
    with pytest.raises(ValueError, match="reduction is 'max'"):
        loss(features, pids, camids, reduction="max")


@pytest.mark.parametrize("loss", HINGES)
def test_unknown_mining_is_named(loss):
    with pytest.raises(ValueError, match="mining is 'soft'"):
        loss(*batch(), mining="soft")
    with pytest.raises(ValueError, match="reduction is 'max'"):  # also where there is no pair
        loss(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), reduction="max")


def test_unknown_negatives_are_named():
    with pytest.raises(ValueError, match="negatives is 'camera'"):
        camera_aware(*batch(), negatives="camera")


def test_dynamic_weight_is_equation_14():
    weight = DynamicWeight(1.0, 200)
    assert [weight(0), weight(50), weight(199)] == [0.0, 0.25, 0.995]
    assert DynamicWeight(6.6, 10)(5) == pytest.approx(3.3)
    assert sum(weight(k) for k in range(200)) / 200 == pytest.approx(0.5, abs=0.01)


def test_dynamic_weight_may_start_anew_every_epoch():
    weight = DynamicWeight(1.0, 200, period=50)
    assert [weight(49), weight(50), weight(75)] == [0.245, 0.0, 0.125]


def test_dynamic_weight_refuses_what_is_no_run():
    with pytest.raises(ValueError, match="total_steps is 0"):
        DynamicWeight(1.0, 0)
    with pytest.raises(ValueError, match="period 0"):
        DynamicWeight(1.0, 5, period=0)
    with pytest.raises(ValueError, match="order is nan"):
        DynamicWeight(math.nan, 5)
    with pytest.raises(ValueError, match="order is -1"):
        DynamicWeight(-1, 5)
    for step in (-1, 11):
        with pytest.raises(ValueError, match=f"step {step} of 10"):
            DynamicWeight(1.0, 10)(step)


@pytest.mark.parametrize(
    ("loss", "power"), [(math.log(751), 1), (math.log(40_000), 10), (0.5, 0.1), (10.0, 10), (1.0, 1)]
)
def test_order_of_magnitude(loss, power):
    assert order_of_magnitude(loss) == pytest.approx(power)
    assert order_of_magnitude(loss, reading="value") == loss


def test_order_of_magnitude_refuses_what_has_none():
    for loss in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="the loss is"):
            order_of_magnitude(loss)
    with pytest.raises(ValueError, match="reading is 'exponent'"):
        order_of_magnitude(6.6, reading="exponent")


def test_dynamic_weight_takes_any_order_of_magnitude():
    assert DynamicWeight(order_of_magnitude(0.5), 10)(5) == pytest.approx(0.05)
    assert DynamicWeight(0.0, 10)(10) == 0

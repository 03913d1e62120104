"""Plaza's pictures: the ray caster against a plain search, people, cameras, and what the gap does."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reidkit.datasets.bodies import Pose, Solids, build
from reidkit.datasets.cameras import OCCLUDERS, Camera, background, camera, develop, occlude
from reidkit.datasets.clothes import PARTS, linear, paint
from reidkit.datasets.people import person, stream
from reidkit.datasets.raycasting import View, cast
from reidkit.datasets.rendering import BATCH, Shot, _draw, contact_sheet, render, scene

# ---- the ray caster


def look(rotation=None, scale=40.0, lean=0.0):
    one = np.ones(1, np.float32)
    rotation = np.eye(3) if rotation is None else rotation
    return View(np.float32(rotation)[None], one * np.float32(scale), 0 * one, 0 * one, one * np.float32(lean))


def turned(rng):
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q))


def solid(a, b, ra, rb, **more):
    s = Solids(1)
    s.add("skin", np.float32(a), np.float32(b), ra, rb, **more)
    return s.stack()


def search(a, b, ra, rb, rotation, u, v, flat=(1, 1, 1), steps=4001):
    """The highest point of a round cone over (u, v): for flat 1, over many of its spheres; else along the ray."""
    t = np.linspace(0, 1, steps)
    centre = (np.asarray(a) + t[:, None] * (np.asarray(b) - a)) @ rotation.T  # in the view
    gap = (ra + t * (rb - ra)) ** 2 - (centre[:, 0] - u) ** 2 - (centre[:, 1] - v) ** 2
    return np.max(np.where(gap > 0, centre[:, 2] + np.sqrt(np.maximum(gap, 0)), -np.inf))


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_depth_is_that_of_the_highest_sphere(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-0.3, 0.3, (2, 3))
    ra, rb = rng.uniform(0.04, 0.15, 2)
    view = look(turned(rng))
    along = view.rotation[0] @ (b - a)
    # Seen so nearly end-on that one sphere hides in the other's outline, a cone is drawn approximately.
    assume(np.hypot(along[0], along[1]) > 1.2 * abs(rb - ra))
    seen = cast(solid(a, b, ra, rb), view, 48, 24)
    half = 0.5 / 40  # silhouettes are drawn half a pixel inside
    rows, cols = np.divmod(seen.spot, 24)
    inside = seen.share == 1
    for row, col, ours in zip(rows[inside], cols[inside], seen.depth[0, rows, cols][inside], strict=True):
        u, v = (col + 0.5 - 12) / 40, (24 - row - 0.5) / 40
        theirs = search(a, b, ra - half, rb - half, np.float32(view.rotation[0]), u, v)
        on_the_edge = theirs == -np.inf  # in single precision inside, in double just outside
        assert on_the_edge or ours == pytest.approx(theirs, abs=2e-3)


def test_a_sphere_has_its_area_and_its_normals():
    seen = cast(solid((0.03, 0, 0), (0.03, 0, 0), 0.25, 0.25), look(), 48, 24)
    assert seen.share.sum() == pytest.approx(np.pi * 10**2, rel=0.01)  # radius 0.25 at 40 pixels a unit
    outward = seen.xyz - np.array([[0.03], [0], [0]])
    outward /= np.linalg.norm(outward, axis=0)
    full = seen.share == 1
    assert np.abs(outward - seen.normal)[:, full].max() < 0.02
    assert (seen.depth[0, 0] < -10).all()


def test_a_flat_solid_is_an_ellipsoid():
    seen = cast(solid((0, 0, 0), (0, 0, 0), 0.2, 0.2, flat=(1, 1, 0.5)), look(scale=200.0), 128, 64)
    full = seen.share == 1
    x, y, z = seen.xyz[:, full]
    r = 0.2 - 0.5 / 200
    assert np.abs(x**2 / r**2 + y**2 / r**2 + z**2 / (0.5 * r) ** 2 - 1).max() < 1e-3
    gradient = np.stack([x, y, 4 * z])
    assert np.abs(gradient / np.linalg.norm(gradient, axis=0) - seen.normal[:, full]).max() < 1e-3


def test_of_two_solids_the_nearer_is_seen_and_a_hem_is_cut():
    s = Solids(1)
    s.add("head", np.zeros(3), np.zeros(3), 0.1, 0.1)
    s.add("hat", np.float32((0, 0, 0.3)), np.float32((0, 0, 0.3)), 0.05, 0.05)
    seen = cast(s.stack(), look(), 48, 24)
    middle = np.flatnonzero(seen.spot == 24 * 24 + 12)[0]
    assert seen.solid[middle] == 1
    assert set(seen.solid) == {0, 1}
    hem = cast(solid((0, 0.3, 0), (0, 0, 0), 0.1, 0.1, cut=True), look(), 48, 24)
    whole = cast(solid((0, 0.3, 0), (0, 0, 0), 0.1, 0.1), look(), 48, 24)
    assert (hem.spot // 24).max() == 24  # half a pixel beyond y = 0
    assert (whole.spot // 24).max() == 24 + 3  # down to y = -0.1


# ---- people


def test_a_person_is_the_same_whenever_asked_and_others_differ():
    people = [person(7, pid) for pid in range(1, 60)]
    assert people == [person(7, pid) for pid in range(1, 60)]
    assert len(set(people)) == len(people)
    assert person(8, 1) != people[0]
    assert stream(7, "tracklet", 1, 2).random() != stream(7, "tracklet", 2, 1).random()


def test_some_people_look_alike_within_their_split():
    alike = [pid for pid in range(3, 200) if person(0, pid).top_colour == person(0, pid - 2).top_colour]
    assert 10 < len(alike) < 80
    assert all(person(0, pid) != person(0, pid - 2) for pid in alike)
    assert all(person(0, pid).top_colour != person(0, pid - 1).top_colour for pid in range(2, 200))


def pose(n=1, phase=0.7):
    return Pose(np.full(n, phase), np.ones(n), np.zeros(n), np.zeros(n, int))


@pytest.mark.parametrize("phase", [0.0, 0.8, 2.0, 4.0, 5.5])
def test_the_lower_foot_stays_on_the_ground_and_the_head_on_top(phase):
    for pid in range(1, 12):
        body = build(replace(person(0, pid), hat="none", hair_style="short"), pose(phase=phase))
        low = np.minimum(body.a, body.b)[0, :, 1] - body.radii.max(1) * body.flat[:, 1]
        assert abs(low[[part == "shoe" for part in body.part]].min()) < 0.035
        high = np.maximum(body.a, body.b)[0, :, 1] + body.radii.max(1)
        assert 0.94 < high.max() < 1.06
        assert set(body.part) <= set(PARTS)


def test_a_print_is_in_front_and_straps_tell_of_a_backpack():
    who = replace(person(0, 1), top="tee", pattern="plain", logo="print", bag="backpack", second_colour=(0.9, 0.1, 0.1))
    ring = np.float32([[0.035, 0.035, 0.058], [0.705, 0.705, 0.70], [0.07, -0.07, 0.06]])
    normal = np.float32([[0, 0, 0], [0, 0, 0], [1, -1, 1]])
    part = np.full(3, PARTS.index("trunk"))
    who = replace(who, folds=(0.0, *who.folds[1:]))  # the print is a disc
    front, back, strap = paint(who, pose(), part, np.zeros(3, int), np.zeros(3), ring, normal).T
    assert np.allclose(front, linear(who.second_colour))
    assert np.allclose(back, linear(who.top_colour))
    assert np.allclose(strap, 0.7 * linear(who.bag_colour))


# ---- cameras and the gap


def test_at_gap_0_all_cameras_are_alike_and_each_goes_straight_to_its_own():
    for cam in range(8):
        none, half, full = (camera(3, cam, gap) for gap in (0.0, 0.5, 1.0))
        assert replace(none, both_ways=False) == Camera()
        for field in fields(Camera):
            ends = [np.asarray(getattr(c, field.name), float) for c in (none, half, full)]
            if field.name != "both_ways":
                assert np.allclose(ends[1], (ends[0] + ends[2]) / 2)


def test_a_group_of_six_cameras_shares_out_the_strata():
    for world in range(5):
        gains = sorted(camera(world, cam).gain for cam in range(6))
        assert gains[0] < 0.6 < 1.2 < gains[-1]
        assert len({round(camera(world, cam).resolution, 3) for cam in range(6)}) == 5  # two have full resolution


def test_the_same_person_poses_alike_at_every_gap():
    shots = [Shot(cam, cam % 2, 3) for cam in range(6)]
    draws = [_draw(0, 5, shots, gap, 6) for gap in (0.0, 0.4, 1.0)]
    for other in draws[1:]:
        for field in fields(Pose):
            assert (getattr(draws[0].pose, field.name) == getattr(other.pose, field.name)).all()
        assert (draws[0].exposure == other.exposure).all()


def test_cameras_differ_more_with_the_gap():
    def spread(gap):  # of the cameras' mean colours, over people
        shots = [Shot(cam, 0, k) for cam in range(6) for k in range(2)]
        means = [render(1, pid, shots, gap=gap).reshape(6, -1, 3).mean(1) for pid in range(1, 9)]
        return np.mean(means, 0).std(0).mean()

    assert spread(0.0) + 3 < spread(0.5) < spread(1.0) - 3


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_an_occluder_hides_something_and_not_everything(kind):
    picture = np.full((3, 64, 32), 0.5, np.float32)
    occlude(picture, kind, np.full(4, 0.5))
    changed = (np.abs(picture - 0.5) > 0.02).any(0).mean()
    assert 0.03 < changed < 0.7
    assert np.isfinite(picture).all()
    assert picture.min() >= 0


def test_development_follows_gain_saturation_and_noise():
    grey = np.full((64, 128, 3), (0.30, 0.25, 0.20), np.float32).T.copy()  # (3, 128, 64)
    quiet = Camera(noise=0.0, vignette=0.0)

    def develops(**change):
        return develop(grey.copy(), replace(quiet, **change), 1.0, 0).astype(float)

    plain = develops()
    assert plain.std((0, 1)).max() == 0
    assert develops(gain=0.5).mean() < plain.mean() - 20
    assert np.ptp(develops(saturation=0.0).mean((0, 1))) < 1 < np.ptp(plain.mean((0, 1)))
    assert develops(noise=0.02).std() == pytest.approx(develops(noise=0.01).std() * 2, rel=0.5)
    assert develops(cast=(1.3, 1.0, 0.7)).mean((0, 1))[0] > plain.mean((0, 1))[0]


def test_blur_and_resolution_take_detail_away():
    stripes = np.zeros((3, 128, 64), np.float32)
    stripes[:, ::2] = 0.8
    sharp = develop(stripes.copy(), Camera(noise=0.0, blur=0.0), 1.0, 0).std()
    assert develop(stripes.copy(), Camera(noise=0.0, blur=0.01), 1.0, 0).std() < sharp / 2
    assert develop(stripes.copy(), Camera(noise=0.0, blur=0.0, resolution=0.5), 1.0, 0).std() < sharp / 2


# ---- pictures


def test_pictures_have_their_shape_and_do_not_depend_on_their_company():
    shots = [Shot(cam, k % 2, k) for cam in range(6) for k in range(6)]
    pictures = render(0, 4, shots)
    assert pictures.shape == (36, 128, 64, 3)
    assert pictures.dtype == np.uint8
    assert len(shots) > BATCH
    for i in (0, 17, 35):
        shot = shots[i]
        assert (pictures[i] == scene(0, 4, shot.cam, tracklet=shot.tracklet, image=shot.image)).all()
    assert len({picture.tobytes() for picture in pictures}) == 36


def test_a_larger_picture_shows_the_same():
    small = scene(2, 3, 1, gap=0.0, height=128).astype(float)
    large = scene(2, 3, 1, gap=0.0, height=256).astype(float)
    assert large.shape == (256, 128, 3)
    assert np.abs(large.reshape(128, 2, 64, 2, 3).mean((1, 3)) - small).mean() < 8


def test_an_empty_box_shows_nobody_and_a_box_beside_only_a_part():
    who, shots = 6, [Shot(0, 0, 2, crop) for crop in ("box", "tight", "off", "empty")]
    box, tight, off, empty = render(5, who, shots, gap=0.0).astype(float)
    assert np.abs(box - empty).max() > 60
    assert np.abs(box - tight).mean() > 0.5
    assert np.abs(box - off).mean() > 8


def test_a_contact_sheet_has_a_row_a_person():
    sheet = contact_sheet(0, [1, 2, 3], cameras=3, images=2, height=64, border=2)
    assert sheet.shape == (3 * 64 + 2 * 2, 3 * 64 + 2 * 2, 3)
    assert (sheet[:64, 64:66] == 255).all()
    assert (sheet[64:66] == 255).all()
    assert (sheet[:64, :32] == scene(0, 1, 0, cameras=3, height=64)).all()


def test_backgrounds_keep_their_pattern_at_every_size():
    small, large = background(0, 2, 64), background(0, 2, 128)
    assert small.shape == (3, 128, 320)
    assert np.abs(large.reshape(3, 128, 2, 320, 2).mean((2, 4)) - small).mean() < 0.03
    assert np.abs(small - background(0, 3, 64)).mean() > 0.02

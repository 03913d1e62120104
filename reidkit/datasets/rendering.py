"""Draws the people of a world under its cameras: `render` many pictures, `scene` one, `contact_sheet` a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .bodies import Pose, Solids, build
from .cameras import OCCLUDERS, Camera, background, camera, develop, occlude
from .clothes import CLOTH, PARTS, paint
from .people import Person, person, stream
from .raycasting import Seen, View, cast

BATCH = 32  # pictures rendered at a time


@dataclass(frozen=True)
class Shot:
    """One picture to take. The same keys show the same person in the same pose, at every gap.

    cam       the camera, from 0
    tracklet  a passage of this person under this camera: heading, place, exposure, what stands in the way
    image     of this person under this camera: a moment of the walk, the box, the noise
    crop      "box" a detector's; "tight" drawn by hand; "off" cuts the person; "empty" shows nobody
    """

    cam: int
    tracklet: int = 0
    image: int = 0
    crop: str = "box"


def render(
    world: int, pid: int, shots: Sequence[Shot], *, gap: float = 1.0, cameras: int = 6, height: int = 128
) -> np.ndarray:
    """Pictures of one person, (B, height, height / 2, 3) uint8, in the order of `shots`.

    cameras  how many the plaza has (below gap 1 they share their backgrounds)
    """
    who = person(world, pid)
    parts = [shots[i : i + BATCH] for i in range(0, len(shots), BATCH)]
    return np.concatenate([_render(who, _draw(world, pid, part, gap, cameras), part, height) for part in parts])


def scene(
    world: int,
    pid: int,
    cam: int,
    *,
    gap: float = 1.0,
    tracklet: int = 0,
    image: int = 0,
    cameras: int = 6,
    height: int = 128,
) -> np.ndarray:
    """One picture, (height, height / 2, 3) uint8: a person of a world under a camera (from 0), at any gap."""
    return render(world, pid, [Shot(cam, tracklet, image)], gap=gap, cameras=cameras, height=height)[0]


def contact_sheet(
    world: int,
    pids: Sequence[int],
    *,
    gap: float = 1.0,
    cameras: int = 6,
    images: int = 2,
    height: int = 128,
    border: int = 2,
) -> np.ndarray:
    """A page, (H, W, 3) uint8: a row a person, `images` columns a camera, white borders between cameras."""
    shots = [Shot(cam, i % 2, i) for cam in range(cameras) for i in range(images)]
    page = []
    for pid in pids:
        pictures = render(world, pid, shots, gap=gap, cameras=cameras, height=height)
        row = np.concatenate(list(pictures), 1).reshape(height, cameras, -1, 3)  # (h, cameras, images w, 3)
        row = np.pad(row, ((0, border), (0, 0), (0, border), (0, 0)), constant_values=255)
        page.append(row.reshape(height + border, -1, 3))
    page = np.concatenate(page)
    return page[: len(page) - border, : page.shape[1] - border]


@dataclass
class _Draws:
    """Every random choice behind B pictures of one person."""

    cams: list[Camera]
    heading: np.ndarray  # (B,) radians
    pose: Pose
    exposure: np.ndarray  # (B,)
    sunny: np.ndarray  # (B,) 0 … 1
    wide: list[np.ndarray]  # the backgrounds
    where: np.ndarray  # (B,) 0 … 1, along them
    occluder: list[tuple[str, np.ndarray] | None]
    shift: np.ndarray  # (B, 3): right, up, zoom
    noise: np.ndarray  # (B,)


def _draw(world: int, pid: int, shots: Sequence[Shot], gap: float, cameras: int) -> _Draws:
    """Read the streams. A tracklet's has 20 uniform numbers, an image's 12 normal ones, whatever is made of them."""
    passages = {(shot.cam, shot.tracklet): None for shot in shots}
    passages = {key: stream(world, "tracklet", pid, *key).random(20) for key in passages}
    track = np.array([passages[shot.cam, shot.tracklet] for shot in shots])
    image = np.array([stream(world, "image", pid, shot.cam, shot.image).standard_normal(12) for shot in shots])
    cams = [camera(world, shot.cam, gap) for shot in shots]
    heading, spread, both_ways, jitter, occlusion = (
        np.array([getattr(cam, name) for cam in cams])
        for name in ("heading", "spread", "both_ways", "jitter", "occlusion")
    )
    heading = heading + spread * (2 * track[:, 0] - 1) + np.pi * (both_ways & (track[:, 1] < 0.5)) + 0.12 * image[:, 0]
    pose = Pose(
        phase=2 * np.pi * track[:, 3] + 2.4 * image[:, 1],
        effort=np.where(track[:, 4] < 0.12, 0.12, 1.0),
        head=np.clip(0.45 * (2 * track[:, 5] - 1) + 0.12 * image[:, 2], -0.7, 0.7),
        arm=np.select([track[:, 2] < 0.05, track[:, 2] < 0.13, track[:, 2] < 0.20], [1, 2, 3], 0),
    )
    # the camera's own surroundings with probability gap, else any of the plaza's
    around = [shot.cam if t[6] < gap else int(t[7] * cameras) for shot, t in zip(shots, track, strict=True)]
    at = track[:, 10:14].copy()
    at[:, :2] += 0.02 * image[:, 3:5]
    np.clip(at, 0, 1, out=at)
    hidden = (track[:, 9] < occlusion) & np.array([shot.crop != "empty" for shot in shots])
    shift = image[:, 5:8] * jitter[:, None] * (1.0, 1.0, 1.3)
    for i, shot in enumerate(shots):
        if shot.crop == "tight":
            shift[i] *= 0.25
        elif shot.crop == "off":
            shift[i] = (0.17 * np.sign(image[i, 5]), 0.22 * np.sign(image[i, 6]), 0.3 * image[i, 7])
    return _Draws(
        cams,
        heading,
        pose,
        exposure=np.exp(0.16 * (2 * track[:, 14] - 1) + 0.02 * image[:, 9]),
        sunny=track[:, 15],
        wide=[(world, other) for other in around],
        where=track[:, 8],
        occluder=[(OCCLUDERS[o % len(OCCLUDERS)], at[i]) if hidden[i] else None for i, o in enumerate(around)],
        shift=shift,
        noise=(np.abs(image[:, 8]) * 1e5).astype(int),
    )


def _render(who: Person, d: _Draws, shots: Sequence[Shot], height: int) -> np.ndarray:
    h, w = height, height // 2
    solids = build(who, d.pose)
    view = _view(who, solids, d, h)
    colour, share = _body(who, d, solids, view, h, w)
    ground, shadow = _shadows(view, d.cams, h, w)
    out = np.empty((len(shots), h, w, 3), np.uint8)
    for i, (shot, cam) in enumerate(zip(shots, d.cams, strict=True)):
        light = _backdrop(d, i, h, w)
        if shot.crop != "empty":
            rows = ground[i]
            light[:, rows] *= shadow[i, : max(rows.stop - rows.start, 0)]
            light *= 1 - share[i]
            light += colour[:, i]
        if d.occluder[i]:
            occlude(light, *d.occluder[i])
        out[i] = develop(light, cam, d.exposure[i], int(d.noise[i]))
    return out


def _view(who: Person, solids: Solids, d: _Draws, h: int) -> View:
    """Where the boxes are: around the person from head to feet, give or take their jitter."""
    c, s = np.cos(d.heading), np.sin(d.heading)
    cp, sp = (f(np.array([cam.pitch for cam in d.cams])) for f in (np.cos, np.sin))
    # turned by the heading about the vertical, then tilted towards the camera
    rows = [(c, 0, s), (sp * s, cp, -sp * c), (-cp * s, sp, cp * c)]
    rotation = np.stack([np.stack(np.broadcast_arrays(*row), -1) for row in rows], 1)  # (B, 3, 3)
    outline = [i for i, part in enumerate(solids.part) if part in ("head", "hair", "hat", "shoe", "shin")]
    ends = np.concatenate([solids.a[:, outline], solids.b[:, outline]], 1)
    v = np.einsum("bk,bpk->bp", rotation[:, 1], ends)
    top, low = v.max(1) + 0.05, v.min(1) - 0.035
    tall = 1 + 0.5 * (who.stature - 1)  # a box follows the person; some of their height remains visible
    scale = 0.90 * h * tall * np.exp(d.shift[:, 2]) / (top - low)
    middle = (top + low) / 2 - d.shift[:, 1]
    return View(*map(np.float32, (rotation, scale, d.shift[:, 0], middle, 0.30 * sp)))


def _backdrop(d: _Draws, i: int, h: int, w: int) -> np.ndarray:
    wide = background(*d.wide[i], h)
    foot = int(h * min(max(0.92 - 1.25 * d.cams[i].pitch, 0.12), 0.86))  # the row where wall and ground meet
    left = int(d.where[i] * (wide.shape[2] - w - 8) + 4 + min(max(d.shift[i, 0] * h, -4), 4))
    return wide[:, h - foot : 2 * h - foot, left : left + w].copy()


def _shadows(view: View, cams: Sequence[Camera], h: int, w: int) -> tuple[list[slice], np.ndarray]:
    """Soft shadows at the feet, longer away from the sun: the rows they are in, and factors of light (B, R, w) that
    start there and may go on beyond the picture."""
    f = np.float32
    azimuth, elevation, pitch, ambient = np.array([(*cam.sun, cam.pitch, cam.ambient) for cam in cams]).T  # (B,) each
    steep = f(np.maximum(np.sin(pitch), 0.12))
    feet = ((view.v0 + f(0.01)) * view.scale + f(h / 2)).astype(int)  # their row
    reach = (f(0.45) * steep * view.scale).astype(int) + 1
    top, bottom = np.maximum(feet - reach, 0), np.clip(feet + reach, 0, h)
    rows = top[:, None] + np.arange(max((bottom - top).max(), 0))
    v = view.v0[:, None] - (f(rows) + f(0.5 - h / 2)) / view.scale[:, None]  # (B, R)
    far = (v - f(0.004)) / steep[:, None]  # on the ground, away from the camera
    u = view.u0[:, None] + view.right(w)  # (B, w)
    away_u, away_far = f(-np.sin(azimuth))[:, None], f(np.cos(azimuth))[:, None]
    half = f(np.minimum(0.25 / np.tan(elevation), 0.4) / 2)[:, None]
    du, dfar = u - away_u * half, far - away_far * half
    along = (du * away_u)[:, None] + (dfar * away_far)[:, :, None]  # (B, R, w)
    along /= (f(0.13) + half)[:, None]
    across = (du * away_far)[:, None] - (dfar * away_u)[:, :, None]
    across /= f(0.11)
    along *= along
    across *= across
    along += across
    long = np.exp(np.negative(along, out=along), out=along)
    long *= f(0.65 - 0.5 * ambient)[:, None, None]
    near = np.exp(-((u / f(0.12)) ** 2))[:, None] * np.exp(-((far / f(0.10)) ** 2))[:, :, None]
    near *= f(0.55)
    dark = np.maximum(near, long, out=near)
    return [slice(*ends) for ends in zip(top.tolist(), bottom.tolist(), strict=True)], np.subtract(1, dark, out=dark)


def _body(who: Person, d: _Draws, solids: Solids, view: View, h: int, w: int):
    """The lit person: colour (3, B, h, w), already times its share of the pixel, and that share (B, h, w)."""
    b = len(view.scale)
    seen = cast(solids, view, h, w)
    for i, at in enumerate(seen.parts):
        seen.xyz[1, at] -= np.float32(solids.bob[i])  # where the point is when the trunk is at rest
    part = np.array([PARTS.index(p) for p in solids.part], np.int8)[seen.solid]
    colour = paint(who, d.pose, part, seen.spot // (h * w), seen.place, seen.xyz, seen.normal)
    light = _light(who, d, view, seen, part) * _crevices(seen.depth).ravel().take(seen.spot) * seen.share
    rgb, share = np.zeros((3, b * h * w), np.float32), np.zeros(b * h * w, np.float32)
    for channel, lit in zip(rgb, colour * light, strict=True):
        channel[seen.spot] = lit
    share[seen.spot] = seen.share
    return rgb.reshape(3, b, h, w), share.reshape(b, h, w)


def _light(who: Person, d: _Draws, view: View, seen: Seen, part) -> np.ndarray:
    """Light on each point, (N,): the sun, the sky and the ground; cloth has creases."""
    x, y, _ = seen.xyz
    creases = np.sin(34 * y + 20 * x + who.folds[0]) * np.sin(55 * x + 13 * y + who.folds[5])
    creases *= (np.float32(0.16) * CLOTH).take(part)
    azimuth, elevation = np.array([cam.sun for cam in d.cams]).T
    pitch, ambient = np.array([(cam.pitch, cam.ambient) for cam in d.cams]).T
    ambient = np.clip(ambient + 0.3 * (d.sunny - 0.5), 0.2, 0.95)
    up, ahead, c, s = np.sin(elevation), np.cos(elevation) * np.cos(azimuth), np.cos(pitch), np.sin(pitch)
    sun = np.stack([np.cos(elevation) * np.sin(azimuth), up * c - ahead * s, up * s + ahead * c], -1)  # in the view
    sun, eye = (view.rotation * np.float32(sun)[:, :, None]).sum(1), view.rotation[:, 2]  # (B, 3) in the body's frame
    counts = np.diff(seen.ends)

    def each(numbers):  # (B,) to (N,)
        return np.repeat(np.float32(numbers), counts)

    n = seen.normal
    direct = n[0] * each(sun[:, 0]) + n[1] * each(sun[:, 1]) + n[2] * each(sun[:, 2])
    direct += creases
    direct += np.float32(0.2)
    np.maximum(direct, 0, out=direct)
    direct *= each((1 - ambient) * 1.33)
    light = n[1] * np.float32(0.38)
    light += np.float32(0.62)
    light *= each(ambient * 1.25)
    light += direct
    rim = n[0] * each(eye[:, 0]) + n[1] * each(eye[:, 1]) + n[2] * each(eye[:, 2])
    rim *= np.float32(0.20)
    rim += np.float32(0.80)
    light *= rim
    return light


def _crevices(depth) -> np.ndarray:
    """Factors (B, h, w): darker where something nearer is close by, that is where blurred depth exceeds depth."""
    size = max(1, depth.shape[1] // 40)
    blurred = np.maximum(depth, np.float32(-0.25))
    for axis in (1, 2):
        for step in (size, 2 * size):
            blurred = _mean_of_three(blurred.swapaxes(1, axis), step).swapaxes(1, axis)
    blurred -= depth
    blurred *= np.float32(7)
    return 1 - np.clip(blurred, 0, np.float32(0.55), out=blurred)


def _mean_of_three(a, step):
    """The mean of rows i - step, i and i + step of a (B, N, M), around the edges."""
    total = np.empty_like(a)
    np.add(a[:, step:], a[:, :-step], out=total[:, step:])
    np.add(a[:, :step], a[:, -step:], out=total[:, :step])
    total[:, :-step] += a[:, step:]
    total[:, -step:] += a[:, :step]
    total *= np.float32(1 / 3)
    return total

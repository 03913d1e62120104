"""The cameras of Plaza: where each stands, what it sees behind people and in front of them, how it renders light."""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .people import stream

TONES = 1024  # steps of light that a camera tells apart
STRATA = 6  # cameras 0-5 (6-11, …) share out the values below, so that every world has, say, one camera behind people


@dataclass(frozen=True)
class Camera:
    """One camera at one gap. The defaults are the neutral camera that all cameras are at gap 0."""

    heading: float = 0.0  # mean angle between where people look and the camera, radians; pi: seen from behind
    spread: float = np.pi  # half width of the headings around it
    both_ways: bool = False  # people come and go
    pitch: float = 0.20  # looks down by, radians
    sun: tuple[float, float] = (0.6, 0.9)  # azimuth and elevation of the light, radians, from the camera
    ambient: float = 0.50  # share of the light that comes from everywhere
    gain: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    contrast: float = 1.0
    haze: float = 0.0
    blur: float = 0.0035  # Gaussian, in image heights
    resolution: float = 1.0  # of the detail that is there before it is scaled to the crop
    noise: float = 0.008
    jitter: float = 0.018  # of the boxes, in image heights
    occlusion: float = 0.08  # share of tracklets behind something
    vignette: float = 0.05


@lru_cache(maxsize=1024)
def camera(world: int, cam: int, gap: float = 1.0) -> Camera:
    """Camera `cam` (from 0) of a world: each parameter on the line from the neutral camera's (gap 0) to its own (1)."""
    group, slot = divmod(cam, STRATA)

    def stratum(purpose, *values):  # each camera of a group has another of the values
        return values[stream(world, purpose, group).permutation(STRATA)[slot]]

    rng = stream(world, "camera", cam)
    n, u = rng.standard_normal(12), rng.random(12)
    cool, warm, green, plain, pink, sepia = (
        (0.85, 0.98, 1.22), (1.23, 0.99, 0.70), (0.89, 1.10, 0.88), (1, 1, 1), (1.08, 0.94, 1.10), (1.12, 1.02, 0.85)
    )  # fmt: skip
    cast = stratum("cast", cool, warm, green, plain, pink, sepia)
    degrees = stratum("heading", 0, 180, 90, 270, 38, 215)
    own = Camera(
        heading=np.deg2rad(degrees + 8 * n[0]),
        spread=np.deg2rad(30 + 18 * u[0]),
        both_ways=degrees in (90, 215),
        pitch=np.deg2rad(stratum("pitch", 6, 10, 15, 20, 26, 33) + 2 * u[1]),
        sun=((2 * u[2] - 1) * 2.2, 0.35 + 0.75 * u[3]),
        ambient=0.32 + 0.5 * u[4],
        gain=stratum("gain", 0.46, 0.60, 0.78, 1.0, 1.25, 1.50) * np.exp(0.06 * n[1]),
        cast=tuple(np.asarray(cast) * np.exp(0.02 * n[2:5])),
        saturation=stratum("saturation", 0.58, 0.70, 0.82, 0.95, 1.08, 1.20),
        contrast=0.85 + 0.35 * u[5],
        haze=stratum("haze", 0.0, 0.0, 0.01, 0.03, 0.06, 0.10),
        blur=stratum("blur", 0.002, 0.003, 0.0045, 0.006, 0.0075, 0.0095),
        resolution=stratum("resolution", 1.0, 1.0, 0.88, 0.75, 0.62, 0.52),
        noise=stratum("noise", 0.006, 0.009, 0.012, 0.015, 0.019, 0.024),
        jitter=0.014 + 0.02 * u[6],
        occlusion=stratum("occlusion", 0.02, 0.04, 0.08, 0.12, 0.20, 0.30),
        vignette=0.30 * u[7],
    )
    mixed = {"both_ways": own.both_ways}  # matters only where the spread leaves a back
    for field in fields(Camera):
        if field.name not in mixed:
            neutral, value = np.asarray(field.default), np.asarray(getattr(own, field.name))
            value = (neutral + gap * (value - neutral)).tolist()
            mixed[field.name] = tuple(value) if isinstance(value, list) else value
    return Camera(**mixed)


# What stands behind people: wall, ground, what the wall has, how the ground is laid. Muted, as real places are.
PLACES = [
    ((0.72, 0.67, 0.60), (0.66, 0.64, 0.61), "windows", "slabs"),
    ((0.26, 0.34, 0.20), (0.36, 0.43, 0.27), "hedge", "grass"),
    ((0.60, 0.62, 0.66), (0.58, 0.57, 0.56), "shops", "tiles"),
    ((0.52, 0.33, 0.26), (0.34, 0.34, 0.36), "bricks", "asphalt"),
    ((0.56, 0.56, 0.60), (0.50, 0.49, 0.52), "columns", "slabs"),
    ((0.80, 0.84, 0.88), (0.74, 0.71, 0.66), "skyline", "tiles"),
]


@lru_cache(maxsize=64)
def background(world: int, cam: int, height: int) -> np.ndarray:
    """The wide view of one camera, (3, 2h, 5h) float32 linear light: wall above, ground below, meeting at row h."""
    rng = stream(world, "background", cam)
    order = stream(world, "places", cam // STRATA).permutation(len(PLACES))
    wall, ground, kind, laid = PLACES[order[cam % STRATA]]
    h, w = 2 * height, 10 * height  # drawn at twice the size
    tint = 1 + 0.06 * rng.standard_normal(3)
    canvas = Image.new("RGB", (w, 2 * h), _rgb(wall * tint))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, h, w, 2 * h), fill=_rgb(ground * tint))
    _lay(draw, laid, np.array(ground) * tint, h, w)
    _raise(draw, kind, np.array(wall) * tint, h, w, rng)
    _furnish(draw, h, w, rng)
    h, w = height, 5 * height
    picture = np.asarray(canvas.reduce(2), np.float32) / 255
    rough = {"hedge": 0.55, "bricks": 0.20, "skyline": 0.08}.get(kind, 0.14)
    grain = np.concatenate([_clouds(rng, 5, w, h) * rough, _clouds(rng, 5, w, h) * (0.4 if laid == "grass" else 0.16)])
    picture = picture * (1 + grain[:, :, None])
    rows = np.arange(2 * h)[:, None, None] / h - 1
    picture = picture * (1 - 0.25 * np.exp(-np.abs(rows) * 9)) * (1.08 - 0.16 * np.abs(rows))  # grime where they meet
    return np.ascontiguousarray(np.float32(np.clip(picture, 0.01, 1) ** 2.2).transpose(2, 0, 1))


def _rgb(colour):
    return tuple(int(c) for c in np.clip(np.asarray(colour) * 255, 0, 255))


def _clouds(rng, octaves, w, h):
    """Noise with structure at all sizes, (h, w), mean 0, the same pattern at every resolution."""
    total = 0.0
    for octave in range(octaves):
        grid = rng.standard_normal((4 * 2**octave, 10 * 2**octave)).astype(np.float32)
        smooth = Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC)
        total = total + np.asarray(smooth) * 0.62**octave
    return total / 2


def _lay(draw, laid, colour, h, w):
    """Draw the joints of the ground, closer together the farther away."""
    if laid == "grass":
        draw.polygon([(0, 1.10 * h), (w, 1.16 * h), (w, 1.42 * h), (0, 1.32 * h)], fill=_rgb((0.52, 0.48, 0.42)))
        return
    if laid == "asphalt":
        draw.rectangle((0, h, w, 1.05 * h), fill=_rgb((0.55, 0.54, 0.52)))  # a kerb
        for i in range(-2, 24):
            x = i * 0.42 * h
            draw.polygon([(x, 1.40 * h), (x + 0.22 * h, 1.40 * h), (x + 0.24 * h, 1.43 * h), (x, 1.43 * h)],
                         fill=_rgb((0.72, 0.72, 0.68)))  # fmt: skip
        return
    step, shade = (0.09, 0.84) if laid == "tiles" else (0.17, 0.80)
    row, gap = float(h), step * 0.35
    while row < 2 * h:
        draw.line((0, row, w, row), fill=_rgb(colour * shade), width=max(1, h // 110))
        gap *= 1.16
        row += gap * h
    for i in range(-40, 41):
        x = w / 2 + i * step * h
        draw.line((x, h, w / 2 + (x - w / 2) * 2.1, 2 * h), fill=_rgb(colour * shade), width=max(1, h // 110))


def _raise(draw, kind, colour, h, w, rng):
    """Draw what the wall has."""

    def box(x0, y0, x1, y1, c):
        draw.rectangle((x0 * h, y0 * h, x1 * h, y1 * h), fill=_rgb(c))

    if kind == "windows":
        box(0, 0.86, 5, 1.0, colour * 0.78)
        for x in np.arange(0.1, 5, 0.46):
            for y in (-0.02, 0.40):
                box(x, y, x + 0.24, y + 0.30, colour * 0.70)
                box(x + 0.02, y + 0.02, x + 0.22, y + 0.28, np.array((0.30, 0.34, 0.38)) * rng.uniform(0.6, 1.3))
                box(x + 0.115, y + 0.02, x + 0.13, y + 0.28, colour * 0.8)
    elif kind == "hedge":
        for _ in range(420):
            x, y, r = rng.uniform(0, 5) * h, rng.uniform(0, 1.0) * h, rng.uniform(0.02, 0.09) * h
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_rgb(colour * rng.uniform(0.55, 1.35)))
        for x in rng.uniform(0, 5, 7):
            box(x, 0, x + rng.uniform(0.04, 0.10), 1.0, np.array((0.22, 0.17, 0.13)))
    elif kind == "shops":
        for x in np.arange(0, 5, 0.72):
            box(x + 0.03, 0.34, x + 0.68, 0.96, np.array((0.20, 0.23, 0.26)) * rng.uniform(0.8, 1.3))
            box(x + 0.03, 0.17, x + 0.68, 0.30, np.clip(rng.uniform(0.25, 0.65, 3), 0, 1))
            for _ in range(4):  # what is on show
                px, py = x + rng.uniform(0.06, 0.55), rng.uniform(0.5, 0.8)
                box(px, py, px + rng.uniform(0.03, 0.1), 0.94, rng.uniform(0.2, 0.6, 3))
            box(x + 0.35, 0.34, x + 0.37, 0.96, np.array((0.5, 0.5, 0.5)))
    elif kind == "bricks":
        for i, y in enumerate(np.arange(0, 1, 0.045)):
            for x in np.arange(-(i % 2) * 0.06, 5, 0.12):
                box(x, y, x + 0.112, y + 0.036, colour * rng.uniform(0.86, 1.2))
        for x in rng.uniform(0, 4.6, 3):
            box(x, 0.30, x + 0.32, 1.0, np.array((0.26, 0.28, 0.30)))
    elif kind == "columns":
        box(0, 0, 5, 1.0, colour * 0.45)
        for x in np.arange(0.05, 5, 0.62):
            for i in range(10):
                box(x + 0.022 * i, 0, x + 0.022 * (i + 1), 1.0, colour * (1.12 - 0.055 * abs(i - 3)))
    else:  # a skyline far away
        for _ in range(26):
            x, y = rng.uniform(-0.2, 5), rng.uniform(0.25, 0.8)
            box(x, y, x + rng.uniform(0.15, 0.5), 1.0, np.array((0.62, 0.66, 0.71)) * rng.uniform(0.85, 1.1))
        for x in np.repeat(rng.uniform(0, 5, 8), 14):  # trees
            cx, cy, r = x + rng.normal(0, 0.06), 0.80 + rng.normal(0, 0.06), rng.uniform(0.03, 0.07)
            leaves = _rgb(np.array((0.40, 0.46, 0.37)) * rng.uniform(0.85, 1.15))
            draw.ellipse(((cx - r) * h, (cy - r) * h, (cx + r) * h, (cy + r) * h), fill=leaves)


def _furnish(draw, h, w, rng):
    """Stand posts, bins, benches and parked cars along the wall."""
    for x in rng.uniform(0, 5, 5):
        kind, shade = rng.integers(4), rng.uniform(0.18, 0.45)
        grey = np.array((1.0, 1.0, 1.04)) * shade
        if kind == 0:
            draw.rectangle((x * h, 0, (x + 0.035) * h, 1.12 * h), fill=_rgb(grey))
        elif kind == 1:
            draw.rectangle((x * h, 0.86 * h, (x + 0.13) * h, 1.12 * h), fill=_rgb(grey * (0.7, 0.9, 0.8)))
        elif kind == 2:
            draw.rectangle((x * h, 0.96 * h, (x + 0.5) * h, 1.0 * h), fill=_rgb((0.40, 0.30, 0.22)))
            draw.rectangle(((x + 0.05) * h, 1.0 * h, (x + 0.08) * h, 1.12 * h), fill=_rgb(grey))
            draw.rectangle(((x + 0.42) * h, 1.0 * h, (x + 0.45) * h, 1.12 * h), fill=_rgb(grey))
        else:
            paint = np.full(3, rng.uniform(0.15, 0.7)) + rng.normal(0, 0.04, 3)
            hull = [
                (0, 1.06),
                (0, 0.93),
                (0.14, 0.90),
                (0.28, 0.80),
                (0.62, 0.80),
                (0.78, 0.90),
                (0.95, 0.93),
                (0.95, 1.06),
            ]
            glass = [(0.20, 0.90), (0.30, 0.825), (0.60, 0.825), (0.72, 0.90)]
            draw.polygon([((x + px) * h, py * h) for px, py in hull], fill=_rgb(paint))
            draw.polygon([((x + px) * h, py * h) for px, py in glass], fill=_rgb((0.20, 0.23, 0.26)))
            for wheel in (0.2, 0.75):
                draw.ellipse(((x + wheel - 0.07) * h, 0.98 * h, (x + wheel + 0.07) * h, 1.12 * h), fill=(30, 30, 32))


OCCLUDERS = ("pole", "column", "planter", "car", "railing")


def occlude(picture: np.ndarray, kind: str, place: np.ndarray) -> None:
    """Put something before the person, in place. picture (3, H, W) linear; place: four numbers in [0, 1]."""
    _, h, w = picture.shape
    y = ((np.arange(h, dtype=np.float32) + 0.5) / h)[:, None]
    x = ((np.arange(w, dtype=np.float32) + 0.5) / w)[None]
    side, size, tone, hue = (float(p) for p in place)
    grey = np.float32((0.03 + 0.25 * tone**2) * (1 + 0.15 * np.cos(2 * np.pi * (hue + np.array((0, 1 / 3, 2 / 3))))))
    grey = grey[:, None, None]

    def inside(distance, soft=0.012):  # 1 inside, 0 outside, soft between
        return np.clip(0.5 - distance / soft / 2, 0, 1)

    if kind in ("pole", "column"):
        half = 0.05 + 0.05 * size if kind == "pole" else 0.15 + 0.12 * size
        centre = 0.15 + 0.7 * side if kind == "pole" else (half * 0.6 if side < 0.5 else 1 - half * 0.6)
        across = (x - centre) / half
        alpha, light = inside(np.abs(across) - 1, 0.2) * np.ones_like(y), 1.2 - 0.8 * (across + 0.3) ** 2
    elif kind == "railing":
        top = 0.55 + 0.15 * size
        bars = np.abs((x * 6 + side) % 1 - 0.5) / 6 - 0.018
        alpha = np.maximum(inside(np.maximum(bars, top - y)), inside(np.abs(y - top) - 0.012))
        light = np.ones_like(x)
    elif kind == "planter":
        top, half, centre = 0.72 + 0.10 * size, 0.34 + 0.2 * side, 0.15 + 0.7 * hue
        box = np.maximum(np.abs(x - centre) - half, top - y)
        leaf = 0.045 * np.sin(23 * x + 9 * hue) + 0.03 * np.sin(47 * x + 60 * y) + 0.02 * np.sin(90 * y)
        bush = np.hypot((x - centre) / (half + 0.05), (y - top) / 0.17) - 1 + leaf * 4
        leaves = inside(bush, 0.2) * (box > 0)
        alpha, light = np.maximum(inside(box), leaves), np.ones_like(x)
        green = np.float32((0.045, 0.075, 0.030))[:, None, None] * (1 + 6 * leaf)
        grey = np.where(leaves > 0.01, green, grey)
    else:
        top = 0.66 + 0.12 * size
        roof = top + 0.10 * np.clip(np.abs(x - side) - 0.25, 0, 1)
        shine, body = np.exp(-(((y - roof - 0.05) / 0.03) ** 2)), y > roof + 0.16
        alpha, light = inside(roof - y), 0.7 + 0.9 * shine - 0.4 * body
    picture += np.float32(alpha) * (grey * np.float32(np.clip(light, 0.25, 2)) - picture)


def develop(light: np.ndarray, cam: Camera, exposure: float, noise_at: int) -> np.ndarray:
    """What one camera makes of the light: (3, H, W) float32 linear to (H, W, 3) uint8. Changes `light`.

    exposure is a factor (a cloud, a shadow); noise_at in [0, 1 << 19) says which noise.
    """
    _, h, w = light.shape
    strength, haze = _exposed(cam, h, w)
    light *= strength
    light *= np.float32(exposure)
    if cam.haze:
        light += haze
    shown = tone_curve(cam.contrast).take(light.astype(np.intp), mode="clip")
    if cam.saturation != 1:
        grey = shown[0] * np.float32(0.30)
        grey += shown[1] * np.float32(0.59)
        grey += shown[2] * np.float32(0.11)
        grey *= np.float32(1 - cam.saturation)
        shown *= np.float32(cam.saturation)
        shown += grey
        if cam.saturation > 1:  # else colours come closer to grey, and stay between 0 and 255 once rounded
            np.clip(shown, 0, 255, out=shown)
    down = _softened(h, cam.blur * h, cam.resolution, 4)  # 4 to round to quarters
    if down is not None:
        # Sums of whole numbers (of 1/1024, of 1/16384) below 2^24 are exact: neither BLAS nor threads change a pixel.
        np.rint(shown, out=shown)
        for half, near, matrix in down:
            np.matmul(matrix, shown[:, near], out=light[:, half])
        np.rint(light, out=light)
        for half, near, matrix in _softened(w, cam.blur * h, cam.resolution, 1 / 4):
            np.matmul(light.reshape(3 * h, w)[:, near], matrix.T, out=shown.reshape(3 * h, w)[:, half])
    noise = _noise(cam.noise)
    start = noise_at % (len(noise) - h * w * 3)
    shown = np.rint(shown, out=shown).astype(np.int16)
    shown += noise[start : start + h * w * 3].reshape(3, h, w)
    np.clip(shown, 0, 255, out=shown)
    picture = np.empty((h, w, 3), np.uint8)
    for channel in range(3):  # faster than a transposed copy
        picture[..., channel] = shown[channel]
    return picture


@lru_cache(maxsize=256)
def tone_curve(contrast: float) -> np.ndarray:
    """Display value 0..255 of linear light 0..1 in 1,024 steps: sRGB's power and an S around middle grey."""
    v = (np.arange(TONES) / (TONES - 1)) ** (1 / 2.2)
    return np.float32(255 * np.clip(0.45 + (v - 0.45) * contrast, 0, 1))


@lru_cache(maxsize=64)
def _exposed(cam: Camera, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and haze of a camera, (3, h, w), from light to steps of the tone curve; its corners are darker."""
    y = (np.arange(h)[:, None] / h - 0.5) * 2
    x = (np.arange(w)[None] / w - 0.5) * 2
    tint = np.array(cam.cast)[:, None, None] * (1 - cam.vignette * (0.6 * y**2 + 0.4 * x**2)) * (TONES - 1)
    return np.float32(tint * cam.gain * (1 - cam.haze)), np.float32(tint * 0.5 * cam.haze)


@lru_cache(maxsize=256)
def _softened(size: int, sigma: float, resolution: float, times: float) -> list[tuple[slice, slice, np.ndarray]] | None:
    """The lens and the sensor along one axis: scaled down, blurred and scaled up again; None if sharp.

    sigma of the blur, in pixels of the smaller picture at `resolution`. Entries are multiples of 1/4096, `times` a
    power of 2. For either half of the pixels: which they are, which ones they mix, and how much of each (half, mixed).
    """
    if resolution >= 0.97 and sigma <= 0.3:
        return None
    small = max(8, round(size * resolution)) if resolution < 0.97 else size
    along = np.arange(small)
    blur = np.exp(-(((along[:, None] - along) / max(sigma * small / size, 0.2)) ** 2) / 2)
    blur /= blur.sum(1, keepdims=True)
    there = Image.fromarray(np.eye(size, dtype=np.float32)).resize((size, small), Image.Resampling.BILINEAR)
    back = Image.fromarray(np.eye(small, dtype=np.float32)).resize((small, size), Image.Resampling.BICUBIC)
    whole = np.asarray(back, np.float64) @ blur @ np.asarray(there, np.float64)
    whole = np.float32(np.rint(whole * 4096) / 4096 * times)
    parts = []
    for half in (slice(0, size // 2), slice(size // 2, size)):
        mixed = np.flatnonzero(whole[half].any(0))
        near = slice(mixed[0], mixed[-1] + 1)
        parts.append((half, near, whole[half, near].copy()))
    return parts


@lru_cache(maxsize=64)
def _noise(strength: float) -> np.ndarray:
    """Noise in display values, (2^19,) int16."""
    return np.rint(_noise_bank() * np.float32(255 * strength)).astype(np.int16)


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    return np.random.default_rng(20150901).standard_normal(1 << 19, dtype=np.float32)

"""One building painted from a seed, and one photograph of it: what `facades` is made of.

Lengths are metres: x along the front, y up, z out of the front towards the street. A front is painted flat, with its
roof and towers, at SCALE pixels a metre; a photograph puts it where a pinhole camera sees it, at twice its size, and
takes the mean of 2 x 2 pixels.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .people import stream

WALLS = (
    (196, 178, 140),
    (172, 92, 70),
    (205, 200, 190),
    (150, 130, 104),
    (222, 206, 170),
    (120, 112, 106),
    (184, 120, 90),
)
WALLS += ((210, 180, 160), (140, 72, 60), (168, 176, 170), (232, 226, 214), (186, 160, 110))
ROOFS = ((84, 84, 92), (128, 66, 50), (70, 92, 84), (58, 56, 58), (104, 98, 86))
FRAMES = ((240, 238, 230), (60, 50, 44), (96, 116, 104), (214, 200, 168), (120, 40, 36))
GLASS = ((44, 54, 66), (70, 84, 98), (36, 38, 44))
SCALE = 20  # pixels of the painted wall a metre


# ---- what a building looks like ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Building:
    front: Image.Image  # RGBA; the wall, and above it roof and towers
    flank: Image.Image  # RGB
    width: float  # metres
    height: float  # to the top of the front's picture
    eaves: float  # of the wall
    depth: float


def building(world: int, number: int) -> Building:
    style = stream(world, "style", number - (number % 5 == 1))  # one in five has its neighbour's
    rng = stream(world, "building", number)
    bays, storeys = int(rng.integers(3, 9)), int(rng.integers(2, 5))
    pitch, floor = float(style.uniform(1.9, 2.8)), float(style.uniform(3.0, 4.2))  # metres
    wall = _vary(WALLS[style.integers(len(WALLS))], style, 14)
    roof, frame, glass = (_vary(c[style.integers(len(c))], style, 10) for c in (ROOFS, FRAMES, GLASS))
    looks = {
        "shape": ("square", "arched", "pointed", "round-headed")[style.integers(4)],
        "course": ("brick", "stone", "plain")[style.integers(3)],
        "size": (float(style.uniform(0.4, 0.62)), float(style.uniform(0.5, 0.72))),
        "panes": int(style.integers(1, 4)),
        "bands": bool(style.random() < 0.6),
        "pilasters": bool(style.random() < 0.4),
        "balconies": bool(style.random() < 0.25),
        "shutters": bool(style.random() < 0.2),
    }
    eaves, width = storeys * floor, bays * pitch
    crown = ("gable", "slope", "battlements", "dome", "pediment", "steps")[style.integers(6)]
    top = float(rng.uniform(0.25, 0.5)) * min(width, 12) if crown != "battlements" else 1.3
    towers = [side for side in (0.0, 1.0) if rng.random() < 0.22] + ([0.5] if rng.random() < 0.2 else [])
    rise = float(rng.uniform(3, 7)) if towers else 0.0
    height = eaves + max(top, rise + 2)
    front = Image.new("RGBA", (round(width * SCALE), round(height * SCALE)))
    draw = ImageDraw.Draw(front)
    ground = front.height - 1
    y = ground - round(eaves * SCALE)  # of the eaves
    _crown(draw, crown, front.width, y, round(top * SCALE), wall, roof)
    _wall(draw, (0, y, front.width - 1, ground), wall, looks["course"], rng)
    for i in range(1, storeys + 1):
        if looks["bands"] and i < storeys:
            draw.rectangle(
                (0, ground - i * floor * SCALE - 3, front.width, ground - i * floor * SCALE + 2), _shade(wall, 1.18)
            )
    draw.rectangle((0, y, front.width, y + 7), _shade(wall, 1.22))
    draw.rectangle((0, ground - 14, front.width, ground), _shade(wall, 0.72))
    door = int(rng.integers(bays)) if rng.random() < 0.5 else bays // 2
    for bay in range(bays):
        for storey in range(storeys):
            cx = (bay + 0.5) * pitch * SCALE
            bottom = ground - storey * floor * SCALE
            if storey == 0 and bay == door:
                _door(draw, cx, ground, pitch * SCALE, floor * SCALE, frame, looks["shape"], wall)
            else:
                _window(draw, cx, bottom, pitch * SCALE, floor * SCALE, looks, frame, glass, wall, rng, storey)
        if looks["pilasters"] and bay:
            x = bay * pitch * SCALE
            draw.rectangle((x - 4, y + 8, x + 4, ground - 14), _shade(wall, 1.12), _shade(wall, 0.8))
    for place in towers:
        _tower(
            draw,
            place,
            front.width,
            ground,
            (eaves + rise) * SCALE,
            pitch * SCALE * 1.1,
            wall,
            roof,
            glass,
            looks["shape"],
        )
    if rng.random() < 0.3:
        r, cx, cy = 0.75 * SCALE, front.width / 2, y + 0.9 * SCALE
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), (235, 230, 215), (50, 45, 40), 3)  # a clock
        draw.line((cx, cy, cx, cy - r * 0.75), (30, 30, 30), 2)
        draw.line((cx, cy, cx + r * 0.5, cy + r * 0.2), (30, 30, 30), 2)
    depth = float(rng.uniform(5, 9))
    flank = Image.new("RGB", (round(depth * SCALE), round(eaves * SCALE)))
    draw = ImageDraw.Draw(flank)
    _wall(draw, (0, 0, flank.width, flank.height), _shade(wall, 0.92), looks["course"], rng)
    for bay in range(int(depth / pitch / 1.5)):
        for storey in range(storeys):
            where = (bay + 0.8) * pitch * 1.5 * SCALE, flank.height - storey * floor * SCALE
            _window(draw, *where, pitch * SCALE, floor * SCALE, looks, frame, glass, wall, rng, storey)
    return Building(front, flank, width, height, eaves, depth)


def _wall(draw, box, colour, course, rng) -> None:
    left, top, right, bottom = map(int, box)
    draw.rectangle(box, colour)
    if course == "plain":
        return
    high, long = (5, 14) if course == "brick" else (13, 30)
    mortar = _shade(colour, 0.88)
    for row, y in enumerate(range(bottom, top, -high)):
        for x in range(left - (row % 2) * long // 2, right, long):
            if rng.random() < 0.3:
                stone = (max(left, x), max(top, y - high), min(right, x + long), y)
                if stone[0] < stone[2]:
                    draw.rectangle(stone, _shade(colour, rng.uniform(0.86, 1.1)))
            if course == "stone" and left <= x < right:
                draw.line((x, y - high, x, y), mortar)
        draw.line((left, y, right, y), mortar)


def _opening(draw, box, shape, fill, outline, width) -> None:
    """A rectangle with the head of the shape."""
    left, top, right, bottom = box
    middle, half = (left + right) / 2, (right - left) / 2
    if shape == "square":
        draw.rectangle(box, fill, outline, width)
        return
    rise = {"arched": 0.35, "round-headed": 1.0, "pointed": 1.5}[shape] * half
    spring = min(top + rise, bottom - 2)
    angles = np.linspace(0, np.pi, 13)
    if shape == "pointed":
        head = [
            (left, spring),
            (left + 0.25 * half, spring - 0.6 * rise),
            (middle, top),
            (right - 0.25 * half, spring - 0.6 * rise),
            (right, spring),
        ]
    else:
        head = [(middle - half * np.cos(a), spring - (spring - top) * np.sin(a)) for a in angles]
    points = [(left, bottom), *head, (right, bottom)]
    draw.polygon(points, fill)
    draw.line([*points, points[0]], outline, width)


def _window(draw, cx, bottom, pitch, floor, looks, frame, glass, wall, rng, storey) -> None:
    width, height = looks["size"][0] * pitch, looks["size"][1] * floor
    low = bottom - 0.2 * floor
    box = (cx - width / 2, low - height, cx + width / 2, low)
    if looks["shutters"]:
        for sign in (-1, 1):
            edge = cx + sign * width / 2
            draw.rectangle((min(edge, edge + sign * 8), box[1], max(edge, edge + sign * 8), low), _shade(frame, 0.7))
    pane = _shade(glass, rng.uniform(0.8, 1.5))
    _opening(
        draw, (box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 2), looks["shape"], _shade(wall, 1.2), _shade(wall, 0.75), 1
    )
    _opening(draw, box, looks["shape"], pane, frame, 2)
    for i in range(1, looks["panes"]):
        x = box[0] + i * width / looks["panes"]
        draw.line((x, box[1] + 6, x, low), frame, 2)
    draw.line((box[0], low - 0.55 * height, box[2], low - 0.55 * height), frame, 2)
    draw.rectangle((box[0] - 4, low, box[2] + 4, low + 3), _shade(wall, 1.25))
    if looks["balconies"] and storey:
        draw.rectangle((box[0] - 6, low - 0.25 * height, box[2] + 6, low + 2), None, (40, 40, 44), 1)
        for x in np.linspace(box[0] - 6, box[2] + 6, 7):
            draw.line((x, low - 0.25 * height, x, low), (40, 40, 44))


def _door(draw, cx, ground, pitch, floor, frame, shape, wall) -> None:
    box = (cx - 0.34 * pitch, ground - 0.78 * floor, cx + 0.34 * pitch, ground)
    _opening(draw, (box[0] - 5, box[1] - 5, box[2] + 5, box[3]), shape, _shade(wall, 1.25), _shade(wall, 0.7), 1)
    _opening(draw, box, shape, _shade(frame, 0.55), (30, 26, 24), 2)
    draw.line((cx, box[1] + 6, cx, ground), (30, 26, 24), 2)


def _crown(draw, crown, width, y, top, wall, roof) -> None:
    """What stands on the wall, from its eaves at y up."""
    edge = _shade(roof, 0.7)
    if crown == "gable":
        draw.polygon([(0, y), (width / 2, y - top), (width, y)], wall, edge)
        draw.line([(0, y), (width / 2, y - top), (width, y)], edge, 7)
        draw.ellipse(
            (width / 2 - 9, y - 0.5 * top - 9, width / 2 + 9, y - 0.5 * top + 9), (40, 46, 56), _shade(wall, 1.2), 2
        )
    elif crown == "slope":
        inset = min(0.25 * width, top)
        draw.polygon([(0, y), (inset, y - top), (width - inset, y - top), (width, y)], roof, edge)
        for line in range(6, top, 9):
            draw.line((inset * line / top, y - line, width - inset * line / top, y - line), _shade(roof, 0.85))
        for x in (0.3 * width, 0.7 * width):
            draw.rectangle((x - 8, y - top - 14, x + 8, y - 0.6 * top), _shade(wall, 0.8), edge)
    elif crown == "battlements":
        for x in range(0, width, 26):
            draw.rectangle((x, y - top, min(x + 14, width), y), wall, _shade(wall, 0.75))
    elif crown == "dome":
        half = min(0.3 * width, 1.3 * top)
        draw.rectangle((width / 2 - half, y - 0.35 * top, width / 2 + half, y), wall, edge)
        draw.pieslice((width / 2 - half, y - 1.05 * top, width / 2 + half, y + 0.35 * top), 180, 360, roof, edge, 2)
        draw.rectangle((width / 2 - 4, y - 1.05 * top - 10, width / 2 + 4, y - 1.03 * top), roof, edge)
    elif crown == "pediment":
        draw.polygon([(0.2 * width, y), (width / 2, y - 0.7 * top), (0.8 * width, y)], _shade(wall, 1.12), edge)
        draw.line(
            [(0.2 * width, y), (width / 2, y - 0.7 * top), (0.8 * width, y), (0.2 * width, y)], _shade(wall, 0.7), 4
        )
        draw.rectangle((0, y - 8, width, y), _shade(wall, 1.1))
    else:
        for step in range(4):
            draw.rectangle(
                (width * (0.1 + 0.1 * step), y - top * (step + 1) / 4, width * (0.9 - 0.1 * step), y), wall, edge
            )


def _tower(draw, place, width, ground, height, wide, wall, roof, glass, shape) -> None:
    cx = wide / 2 + place * (width - wide)
    box = (cx - wide / 2, ground - height, cx + wide / 2, ground)
    draw.rectangle(box, _shade(wall, 1.05), _shade(wall, 0.7), 2)
    for y in np.arange(box[1] + 12, ground - 60, 52):
        _opening(draw, (cx - 7, y, cx + 7, y + 30), shape, glass, _shade(wall, 0.7), 2)
    spire = min(1.9 * SCALE, box[1])
    draw.polygon([(box[0] - 3, box[1]), (cx, box[1] - spire), (box[2] + 3, box[1])], roof, _shade(roof, 0.7))


# ---- how it is photographed --------------------------------------------------------------------------------------


def photograph(building: Building, rng, side: int, view: int, glimpse: bool):
    """(the photograph, share of the front in sight, box of what is in sight)."""
    long, short = 2 * side, 2 * round(side * rng.uniform(2 / 3, 0.85))  # twice as large, then the mean of 2 x 2
    width, height = (long, short) if rng.random() < 0.65 else (short, long)
    kind = "part" if glimpse else ("whole", "whole", "part", "far")[view % 4]
    azimuth = np.radians(rng.uniform(-55, 55)) if view else np.radians(rng.uniform(-15, 15))
    reach = max(building.width, 1.2 * building.height)
    distance = (
        reach * {"whole": rng.uniform(1.15, 1.5), "part": rng.uniform(0.85, 1.1), "far": rng.uniform(1.7, 2.3)}[kind]
    )
    focal = max(width, height) * {"whole": 1.0, "part": rng.uniform(1.3, 1.7), "far": 1.0}[kind]
    aim = [rng.uniform(-0.1, 0.1) * building.width, 0.45 * building.height]
    if kind == "part":
        aim = [rng.uniform(-0.28, 0.28) * building.width, rng.uniform(0.3, 0.7) * building.height]
    if glimpse:
        aim[0] = rng.choice([-1, 1]) * rng.uniform(0.62, 0.72) * building.width
    eye = np.array([distance * np.sin(azimuth), rng.uniform(1.5, 3.5), distance * np.cos(azimuth)])
    project = _camera(eye, np.array([*aim, 0.0]), focal, width, height, np.radians(rng.normal(0, 1.2)))

    horizon = project(np.array([[-1e4 * np.sin(azimuth), eye[1], -1e4 * np.cos(azimuth)]]))[0, 1]
    picture = _surroundings(rng, width, height, horizon)
    half, h, d = building.width / 2, building.height, building.depth
    sun = rng.uniform(0.75, 1.15)
    x = half if eye[0] > 0 else -half
    if abs(eye[0]) > half:  # then a flank is seen
        corners = [(x, building.eaves, 0), (x, building.eaves, -d), (x, 0, -d), (x, 0, 0)]
        _paste(picture, building.flank, project(np.array(corners, float)), sun * rng.uniform(0.55, 0.9))
    corners = np.array([(-half, h, 0), (half, h, 0), (half, 0, 0), (-half, 0, 0)], float)
    _paste(picture, building.front, project(corners), sun)

    hidden = Image.new("L", picture.size)
    _in_front(picture, ImageDraw.Draw(hidden), rng, project, building)
    grid = np.stack(np.meshgrid(np.linspace(-half, half, 24), np.linspace(0, building.eaves, 24), [0.0]), -1).reshape(
        -1, 3
    )
    at = project(grid)  # (576, 2)
    inside = (at >= 0).all(1) & (at[:, 0] < width) & (at[:, 1] < height)
    free = inside.copy()
    free[inside] = np.asarray(hidden)[at[inside, 1].astype(int), at[inside, 0].astype(int)] == 0
    shown = at[inside] if inside.any() else at
    box = (
        np.clip([shown[:, 0].min(), shown[:, 1].min(), shown[:, 0].max(), shown[:, 1].max()], 0, [width, height] * 2)
        / 2
    )
    return _developed(picture, rng), float(free.mean()), box


def _camera(eye, aim, focal, width, height, roll):
    """(N, 3) metres -> (N, 2) pixels, for a camera at `eye` that looks at `aim`."""
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right

    def project(points: np.ndarray) -> np.ndarray:
        x, y, z = ((points - eye) @ np.stack([right, up, forward], 1)).T  # (N,) each
        z = np.maximum(z, 0.3)
        return np.stack([width / 2 + focal * x / z, height / 2 - focal * y / z], 1)

    return project


def _paste(picture: Image.Image, face: Image.Image, corners: np.ndarray, light: float) -> None:
    """A painted face put where its four corners lie, by the homography from picture to face."""
    w, h = face.size
    source = [(0, 0), (w, 0), (w, h), (0, h)]
    rows, right = [], []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    try:
        coefficients = np.linalg.solve(np.array(rows), np.array(right, float))
    except np.linalg.LinAlgError:  # seen edge on
        return
    lit = Image.merge("RGB", [band.point(lambda v: min(255, v * light)) for band in face.convert("RGB").split()])
    mask = face.getchannel("A") if face.mode == "RGBA" else Image.new("L", face.size, 255)
    how = (picture.size, Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BILINEAR)
    picture.paste(lit.transform(*how), (0, 0), mask.transform(*how))


def _surroundings(rng, width: int, height: int, horizon: float) -> Image.Image:
    """Sky, a skyline, ground."""
    top, low = (
        ((90, 140, 205), (190, 212, 232)),
        ((150, 158, 168), (205, 208, 210)),
        ((70, 90, 140), (236, 190, 150)),
    )[rng.choice(3, p=[0.5, 0.35, 0.15])]
    share = np.linspace(0, 1, height)[:, None]
    sky = np.array(top) * (1 - share) + np.array(low) * share  # (H, 3)
    picture = Image.fromarray(np.repeat(sky[:, None], width, 1).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    horizon = float(np.clip(horizon, 0.2 * height, height))
    for x in np.arange(-0.1, 1.1, rng.uniform(0.12, 0.22)):
        rise, colour = rng.uniform(0.05, 0.3) * height, _shade((150, 146, 140), rng.uniform(0.7, 1.2))
        if rng.random() < 0.35:
            draw.ellipse(
                (x * width, horizon - rise, (x + 0.22) * width, horizon + rise),
                _shade((84, 110, 70), rng.uniform(0.7, 1.2)),
            )
        else:
            draw.rectangle((x * width, horizon - rise, (x + 0.2) * width, horizon + 5), colour)
    ground = ((120, 118, 114), (104, 130, 78), (146, 136, 118))[rng.integers(3)]
    draw.rectangle((0, horizon, width, height), _shade(ground, rng.uniform(0.8, 1.1)))
    return picture.filter(ImageFilter.GaussianBlur(2))


def _in_front(picture: Image.Image, hidden: ImageDraw.ImageDraw, rng, project, building: Building) -> None:
    """Trees, lamp posts and cars between camera and front; what they hide is drawn into `hidden` as well."""
    draws = (ImageDraw.Draw(picture), hidden)

    def blob(kind, box, colour):
        for draw, fill in zip(draws, (colour, 255), strict=True):
            getattr(draw, kind)(tuple(box), fill=fill)

    for _ in range(int(rng.integers(0, 4))):
        at = np.array([rng.uniform(-0.7, 0.7) * building.width, 0.0, rng.uniform(1.5, 4)])
        (x, foot), (_, head) = project(np.stack([at, at + np.array([0, 1, 0])]))
        metre = foot - head
        what = rng.random()
        if what < 0.4:
            size = rng.uniform(3, 5.5)
            blob("rectangle", (x - 0.15 * metre, foot - 0.6 * size * metre, x + 0.15 * metre, foot), (72, 58, 46))
            leaf = _shade((70, 100, 54), rng.uniform(0.7, 1.25))
            for _ in range(14):
                dx, dy, r = (
                    rng.uniform(-0.9, 0.9) * metre,
                    rng.uniform(0.5, 1.0) * size * metre,
                    rng.uniform(0.35, 0.75) * metre,
                )
                blob(
                    "ellipse",
                    (x + dx - r, foot - dy - r, x + dx + r, foot - dy + r),
                    _shade(leaf, rng.uniform(0.8, 1.2)),
                )
        elif what < 0.7:
            blob("rectangle", (x - 0.07 * metre, foot - 4.2 * metre, x + 0.07 * metre, foot), (52, 52, 54))
            blob(
                "ellipse", (x - 0.28 * metre, foot - 4.7 * metre, x + 0.28 * metre, foot - 4.1 * metre), (230, 224, 200)
            )
        else:
            paint = tuple(int(v) for v in rng.integers(40, 220, 3))
            blob("rectangle", (x - 1.9 * metre, foot - 0.95 * metre, x + 1.9 * metre, foot - 0.25 * metre), paint)
            blob(
                "rectangle",
                (x - 1.1 * metre, foot - 1.45 * metre, x + 1.0 * metre, foot - 0.9 * metre),
                _shade(paint, 0.6),
            )
            for wheel in (-1.2, 1.2):
                blob(
                    "ellipse",
                    (x + (wheel - 0.3) * metre, foot - 0.6 * metre, x + (wheel + 0.3) * metre, foot),
                    (28, 28, 30),
                )


def _developed(picture: Image.Image, rng) -> Image.Image:
    """Half size; blur, exposure, colour cast, gamma and noise of the photograph."""
    blur = rng.uniform(0, 1.6) if rng.random() < 0.5 else 0.0
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    light = np.asarray(picture, np.float32) / 255  # (H, W, 3)
    light = light ** rng.uniform(0.75, 1.25) * rng.uniform(0.8, 1.2) * rng.uniform(0.91, 1.09, 3)
    light = light + rng.normal(0, rng.uniform(0.003, 0.02), light.shape)
    return Image.fromarray((255 * light.clip(0, 1)).astype(np.uint8))


def _shade(colour, by: float) -> tuple[int, int, int]:
    return tuple(int(np.clip(value * by, 0, 255)) for value in colour)


def _vary(colour, rng, spread: float) -> tuple[int, int, int]:
    return tuple(int(np.clip(value + rng.normal(0, spread), 0, 255)) for value in colour)

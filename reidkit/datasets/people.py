"""Who walks over the Plaza: the identities of a world, drawn from its seed."""

from dataclasses import dataclass, replace
from functools import lru_cache
from zlib import crc32

import numpy as np

# (weight, sRGB). Real wardrobes are skewed: mostly black, grey, white and navy, which is what makes people look alike.
TOPS = [
    (17, (0.07, 0.07, 0.08)), (9, (0.20, 0.20, 0.22)), (10, (0.50, 0.50, 0.52)), (6, (0.70, 0.70, 0.70)),
    (13, (0.93, 0.92, 0.90)), (11, (0.10, 0.13, 0.27)), (6, (0.16, 0.34, 0.66)), (5, (0.58, 0.74, 0.88)),
    (5, (0.72, 0.11, 0.13)), (3, (0.40, 0.10, 0.15)), (4, (0.92, 0.62, 0.68)), (3, (0.16, 0.43, 0.24)),
    (4, (0.37, 0.38, 0.22)), (5, (0.80, 0.71, 0.56)), (3, (0.39, 0.26, 0.18)), (3, (0.92, 0.77, 0.25)),
    (2, (0.88, 0.46, 0.14)), (2, (0.42, 0.24, 0.52)), (2, (0.14, 0.50, 0.52)),
]  # fmt: skip
BOTTOMS = [
    (26, (0.08, 0.08, 0.09)), (18, (0.16, 0.20, 0.33)), (16, (0.30, 0.40, 0.58)), (5, (0.56, 0.66, 0.78)),
    (9, (0.42, 0.42, 0.44)), (6, (0.22, 0.22, 0.24)), (8, (0.60, 0.53, 0.38)), (5, (0.79, 0.72, 0.60)),
    (3, (0.90, 0.89, 0.86)), (3, (0.34, 0.24, 0.18)), (2, (0.36, 0.37, 0.24)), (2, (0.50, 0.12, 0.18)),
]  # fmt: skip
BAGS = [
    (34, (0.08, 0.08, 0.09)), (12, (0.38, 0.38, 0.40)), (11, (0.12, 0.16, 0.34)), (9, (0.70, 0.12, 0.14)),
    (10, (0.42, 0.27, 0.16)), (6, (0.18, 0.42, 0.26)), (5, (0.42, 0.22, 0.54)), (6, (0.80, 0.72, 0.58)),
    (4, (0.88, 0.48, 0.14)), (3, (0.16, 0.48, 0.66)),
]  # fmt: skip
SHOES = [
    (34, (0.07, 0.07, 0.07)), (32, (0.93, 0.93, 0.92)), (12, (0.36, 0.23, 0.14)), (10, (0.48, 0.48, 0.50)),
    (5, (0.14, 0.20, 0.44)), (4, (0.72, 0.14, 0.16)), (3, (0.90, 0.72, 0.20)),
]  # fmt: skip
HAIRS = [
    (40, (0.07, 0.06, 0.05)), (28, (0.20, 0.12, 0.07)), (12, (0.38, 0.24, 0.12)), (9, (0.72, 0.56, 0.30)),
    (3, (0.50, 0.20, 0.08)), (8, (0.62, 0.62, 0.62)),
]  # fmt: skip
SKINS = [
    (26, (0.93, 0.76, 0.65)), (24, (0.88, 0.69, 0.55)), (20, (0.78, 0.58, 0.43)), (14, (0.61, 0.42, 0.29)),
    (10, (0.44, 0.29, 0.20)), (6, (0.31, 0.20, 0.14)),
]  # fmt: skip

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """What never changes about one identity. Colours are sRGB in [0, 1]; sizes are factors around 1."""

    stature: float
    girth: float
    shoulders: float
    feminine: float  # 0..1: hips, shoulders and hair, not a label
    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    glasses: bool
    beard: bool
    top: str
    top_colour: Colour
    second_colour: Colour
    pattern: str
    pattern_scale: float
    sleeve: float  # how far down the arm it reaches: 0 shoulder, 1 elbow, 2 wrist
    logo: str
    bottom: str
    bottom_colour: Colour
    shoes: Colour
    sole: Colour
    boots: bool
    bag: str
    bag_colour: Colour
    bag_side: int
    stride: float
    swing: float
    folds: tuple[float, ...]  # phases of the creases in the cloth


WARDROBE = (
    "top", "top_colour", "second_colour", "pattern", "pattern_scale", "sleeve", "logo", "bottom", "bottom_colour",
)  # fmt: skip


def stream(world: int, purpose: str, *key: int) -> np.random.Generator:
    """The random stream of one thing in one world: the same whenever, wherever and in whatever order it is drawn."""
    return np.random.default_rng(np.array([crc32(purpose.encode()), world, *key], np.uint32))  # as a list: half as fast


def pick(rng: np.random.Generator, table, jitter: float = 0.035) -> Colour:
    """A colour of a weighted palette, a little off the rack."""
    colour = np.array(table[_draw(rng, tuple(w for w, _ in table))][1])
    colour = colour * (1 + jitter * 2 * rng.standard_normal()) + jitter * rng.standard_normal(3)
    return tuple(float(c) for c in np.clip(colour, 0.03, 0.97))


def choose(rng: np.random.Generator, **weights: float) -> str:
    """One of the names, by weight."""
    return list(weights)[_draw(rng, tuple(weights.values()))]


def _draw(rng: np.random.Generator, weights: tuple[float, ...]) -> int:
    """What rng.choice(len(weights), p=weights / sum(weights)) draws, in a fraction of its time."""
    return int(_borders(weights).searchsorted(rng.random(), side="right"))


@lru_cache(maxsize=1024)
def _borders(weights: tuple[float, ...]) -> np.ndarray:
    p = np.array(weights, float)
    p = (p / p.sum()).cumsum()
    return p / p[-1]


def person(world: int, pid: int) -> Person:
    """The identity `pid` of a world. About one in five wears what another identity of the same split wears."""
    own = _person(stream(world, "identity", pid))
    look = stream(world, "look-alike", pid)
    if pid > 2 and look.random() < 0.2:  # pid - 2: train pids are odd, test pids even
        other = _person(stream(world, "identity", pid - 2))
        shared = {name: getattr(other, name) for name in WARDROBE}
        if look.random() < 0.5:  # the same jacket over other trousers
            shared |= {"bottom": own.bottom, "bottom_colour": own.bottom_colour}
        own = replace(own, **shared)
    return own


def _person(rng: np.random.Generator) -> Person:
    feminine = float(rng.beta(0.5, 0.5))
    lady = feminine > 0.5
    hair_style = (
        choose(rng, bob=2.2, long=3.2, ponytail=2.4, bun=1.2, short=0.8, afro=0.4)
        if lady
        else choose(rng, short=5, crop=3, bald=1, long=0.4, afro=0.5, bun=0.2)
    )
    hat = choose(rng, none=8.2, cap=0.9, beanie=0.7)
    top = choose(rng, tee=3, shirt=2.2, hoodie=1.6, jacket=2.2, coat=0.9, vest=0.25 + 0.4 * lady)
    sleeve = {"tee": 0.55, "shirt": 1.9, "hoodie": 2, "jacket": 2, "coat": 2, "vest": 0.0}[top]
    if top in ("tee", "shirt"):
        sleeve = float(np.clip(sleeve + rng.choice([0, 0, 0.3, -0.15]), 0.3, 2))
    plain = {"tee": 5, "shirt": 4, "hoodie": 7, "jacket": 8, "coat": 12, "vest": 6}[top]
    pattern = choose(rng, plain=plain, stripes=1.5, pinstripes=0.5, checks=1.1, block=1.2, yoke=0.7, raglan=0.6)
    top_colour = pick(rng, TOPS)
    second = pick(rng, TOPS)
    while sum(abs(a - b) for a, b in zip(top_colour, second, strict=True)) < 0.45:  # a pattern must show
        second = pick(rng, TOPS)
    logo = choose(rng, none=5, chest=2, print=1.6, back=1.2) if top in ("tee", "hoodie") else "none"
    warm = top in ("coat", "jacket")
    bottom = choose(
        rng, jeans=4, trousers=3.4, wide=0.7, shorts=0.4 if warm else 1.5,
        skirt=1.7 * lady, maxi=0.7 * lady, leggings=1.2 * lady,
    )  # fmt: skip
    bottom_colour = pick(rng, BOTTOMS if bottom not in ("skirt", "maxi") else BOTTOMS + [(w * 2, c) for w, c in TOPS])
    shoes = pick(rng, SHOES)
    return Person(
        stature=float(np.clip(1 + 0.055 * rng.standard_normal() - 0.06 * (feminine - 0.5), 0.85, 1.15)),
        girth=float(np.clip(1 + 0.12 * rng.standard_normal(), 0.82, 1.38)),
        shoulders=float(np.clip(1.03 - 0.12 * feminine + 0.035 * rng.standard_normal(), 0.84, 1.14)),
        feminine=feminine,
        skin=pick(rng, SKINS, 0.015),
        hair=pick(rng, HAIRS, 0.02),
        hair_style=hair_style,
        hat=hat,
        hat_colour=pick(rng, TOPS),
        glasses=bool(rng.random() < 0.14),
        beard=bool(not lady and rng.random() < 0.25),
        top=top,
        top_colour=top_colour,
        second_colour=second,
        pattern=pattern,
        pattern_scale=float(rng.uniform(0.8, 1.5)),
        sleeve=sleeve,
        logo=logo,
        bottom=bottom,
        bottom_colour=bottom_colour,
        shoes=shoes,
        sole=(0.93, 0.93, 0.92) if rng.random() < 0.45 else tuple(0.6 * c for c in shoes),
        boots=bool(rng.random() < 0.15),
        bag=choose(rng, none=4.6, backpack=2.5, shoulder=1.4, hand=0.7 + 0.5 * lady, tote=0.6),
        bag_colour=pick(rng, BAGS),
        bag_side=int(rng.choice([-1, 1])),
        stride=float(rng.uniform(0.30, 0.50)),
        swing=float(rng.uniform(0.25, 0.60)),
        folds=tuple(float(f) for f in rng.uniform(0, 2 * np.pi, 6)),
    )

"""Clothes, hair and faces of Plaza: the colour of every point of a body, from where the point is on it.

What a camera sees of somebody follows from its viewpoint alone: a print is on the chest, a backpack's straps come
over the shoulders, the parting of a jacket is in front.
"""

import numpy as np

from .bodies import Pose
from .people import Person

PARTS = (
    "skin", "head", "hair", "hat", "trunk", "hood", "upper arm", "forearm", "seat", "short", "skirt", "thigh", "shin",
    "shoe", "bag", "pocket", "handle",
)  # fmt: skip
CLOTH = np.array([part not in ("skin", "head", "hair", "hat", "shoe", "bag", "pocket", "handle") for part in PARTS])
SKIRT_HEMS = {"skirt": 0.315, "maxi": 0.10}


def linear(colour) -> np.ndarray:
    """Light that an sRGB colour stands for, float32."""
    return np.float32(np.asarray(colour) ** 2.2)


class Paint:
    """Colours of N points of one person's body: one of the person's few inks each, and how much light it gives back."""

    def __init__(self, count: int):
        self.inks: list = []
        self.ink = np.zeros(count, np.uint8)
        self.shade = np.ones(count, np.float32)

    def mix(self, colour) -> int:
        """The number of a new ink: a colour in linear light."""
        self.inks.append(colour)
        return len(self.inks) - 1

    def colours(self) -> np.ndarray:
        """(3, N) float32, linear light."""
        return np.float32(self.inks).T.take(self.ink, 1) * self.shade


def paint(who: Person, pose: Pose, part: np.ndarray, image: np.ndarray, t, xyz, normal) -> np.ndarray:
    """Colours of N points of a body, (3, N) float32, linear light.

    part   (N,) index into PARTS              image  (N,) which of the B pictures
    t      (N,) place along the solid         xyz, normal  (3, N) in the body's frame, the trunk at its height at rest
    """
    p = Paint(len(part))
    skin, shoe, sole, hair, bag = map(linear, (who.skin, who.shoes, who.sole, who.hair, who.bag_colour))
    bare, leather, rubber = map(p.mix, (skin, shoe, sole))
    order = np.argsort(part, kind="stable")
    ends = np.searchsorted(part.take(order), np.arange(len(PARTS) + 1))

    def of(name):
        k = PARTS.index(name)
        return order[ends[k] : ends[k + 1]]

    p.ink[of("skin")], p.ink[of("handle")] = bare, p.mix(0.5 * bag)
    p.ink[of("hood")] = p.mix(0.9 * linear(who.top_colour))
    upper, lower = _top_inks(who, p), p.mix(linear(who.bottom_colour))
    for name in ("trunk", "seat", "short", "skirt", "thigh", "shin"):
        i = of(name)
        if i.size:
            _dress(who, p, name, i, xyz.take(i, 1), normal.take(i, 1), upper, lower, bare)
    for name, start in (("upper arm", 0.0), ("forearm", 1.0)):
        i = of(name)
        arm = t.take(i) + np.float32(start)
        sleeve = arm < who.sleeve
        p.ink[i[~sleeve]] = bare
        i = i[sleeve]
        p.ink[i] = _top(who, upper, xyz.take(i, 1), None, arm=arm[sleeve])
    if who.boots or bare_legs(who):  # a boot, or a sock
        i = of("shin")
        i = i[t.take(i) > (0.45 if who.boots else 0.86)]
        p.ink[i], p.shade[i] = (leather if who.boots else rubber), 1
    i = of("shoe")
    p.ink[i] = np.where(normal[1].take(i) < -0.30, rubber, leather)
    i = of("head")
    p.ink[i] = _face(who, p, skin, hair, xyz.take(i, 1), pose.head.astype(np.float32).take(image.take(i)))
    i = of("hair")
    p.ink[i], p.shade[i] = p.mix(hair), 1 + 0.18 * np.sin(160 * xyz[0].take(i) + 25 * xyz[1].take(i))
    i = of("hat")
    p.ink[i], p.shade[i] = p.mix(linear(who.hat_colour)), np.where(np.abs(xyz[1].take(i) - 0.95) < 0.008, 0.75, 1.0)
    i = of("bag")
    p.ink[i] = p.mix(bag)
    if who.bag == "backpack":
        seam = (np.abs(np.abs(xyz[0].take(i)) - 0.055) < 0.004) | (np.abs(xyz[1].take(i) - 0.74) < 0.004)
        p.shade[i] = np.where(seam, 0.55, 1.0)
    i = of("pocket")
    p.ink[i], p.shade[i] = p.mix(bag), np.where(np.abs(xyz[1].take(i) - 0.69) < 0.006, 0.5, 0.80)
    return p.colours()


def bare_legs(who: Person) -> bool:
    return who.bottom in ("shorts", "skirt", "maxi")


def tucked(who: Person) -> bool:
    return who.top in ("shirt", "tee") and who.folds[1] > 4.4


def hem_of(who: Person) -> float:
    """The height at which the upper garment ends."""
    return {"coat": 0.35, "jacket": 0.487, "hoodie": 0.505}.get(who.top, 0.568 if tucked(who) else 0.515)


def _dress(who, p: Paint, name, i, xyz, normal, upper, lower, bare):
    """Trunk and legs: which garment a point shows depends on its height, so that nothing pokes through another."""
    y = xyz[1]
    over = y > hem_of(who)
    if name == "skirt" and who.top not in ("jacket", "coat"):  # a skirt hangs over what is worn above it
        over &= y > 0.56
    at = np.flatnonzero(over)
    if at.size:
        p.ink[i[at]] = _top(who, upper, xyz.take(at, 1), normal[2].take(at) > 0, arm=None)
    at = np.flatnonzero(~over)
    if at.size:
        under = i[at]
        p.ink[under], p.shade[under] = lower, _creased(who, xyz.take(at, 1), normal.take(at, 1))
        if name in ("thigh", "shin") and bare_legs(who):
            under = under[y.take(at) < SKIRT_HEMS.get(who.bottom, 1.0)]
            p.ink[under], p.shade[under] = bare, 1


def _top_inks(who, p: Paint) -> dict[str, int]:
    """The inks of the upper garment and what is on it."""
    one, two, white = linear(who.top_colour), linear(who.second_colour), linear((0.9, 0.9, 0.88))
    inks = {
        "one": one,
        "half": one + (two - one) * np.float32(0.5),
        "two": two,
        "skin": linear(who.skin),
        "cuff": 0.6 * one,
        "inner": 0.85 * two if who.pattern == "plain" else white,
        "edge": 0.45 * one,
        "collar": 0.7 * one,
        "pale": np.clip(1.25 * one + 0.02, 0, 0.9),
        "pouch": 0.5 * one,
        "string": white,
        "belt": linear((0.12, 0.09, 0.07)),
        "strap": 0.7 * linear(who.bag_colour),
    }
    return {name: p.mix(colour) for name, colour in inks.items()}


def _top(who, inks, xyz, front, arm):
    """Inks of the upper garment on the trunk (arm None), or on an arm: `arm` (N,) is how far down from the shoulder."""
    x, y, _ = xyz
    if arm is not None:  # unroll the sleeve so that it hangs beside the trunk
        y = np.float32(0.80) - np.float32(0.155) * arm
    ink = _pattern(who, inks, x, y, arm is not None)

    def over(where, name):
        np.putmask(ink, where, inks[name])

    if arm is not None:
        if who.top in ("hoodie", "jacket"):
            over(arm > who.sleeve - 0.16, "cuff")
        return ink
    wide = np.abs(x)
    reach = np.sqrt(x * x + (y - np.float32(0.855)) ** 2)
    if who.top in ("jacket", "coat"):
        gape = 0.09 * max(who.pattern_scale - 1.0, 0.0)  # some wear it open
        edge = np.float32(gape) * np.clip((y - np.float32(0.30)) * np.float32(2.2), 0.3, 1.2)
        over(front & (wide < edge), "inner")
        over(front & (np.abs(wide - edge) < 0.004), "edge")
        over((y > 0.815) & (reach > 0.028), "collar")
    elif who.top == "shirt":
        over(front & (wide < 0.004), "collar")
        over((reach < 0.052) & (y > 0.81), "pale")
    elif who.top == "hoodie":
        over(front & (wide < 0.075) & (np.abs(y - np.float32(0.585)) < 0.004), "pouch")
        over(front & (np.abs(wide - np.float32(0.016)) < 0.004) & (y > 0.755), "string")
    deep = {"tee": 0.050, "vest": 0.075, "shirt": 0.034}.get(who.top, 0.0)
    if deep:
        over(front & (reach < deep), "skin")
    if who.top == "vest":
        over((wide > 0.062) & (y > 0.77), "skin")
    if who.logo != "none":
        over(_logo(who, x, y, front), "two")
    hem = hem_of(who)
    if tucked(who):
        over(y < hem + 0.012, "belt")
    elif who.top == "hoodie":
        over(y < hem + 0.018, "cuff")
    if who.bag in ("backpack", "shoulder"):
        over(_straps(who, x, y, front), "strap")
    return ink


def _pattern(who, inks, x, y, sleeve: bool):
    f, one, two = np.float32(who.pattern_scale), np.uint8(inks["one"]), np.uint8(inks["two"])
    if who.pattern == "stripes":
        return np.where((y * (17 * f)) % 1 < 0.5, two, one)
    if who.pattern == "pinstripes":
        return np.where((x * (26 * f) + np.float32(0.15)) % 1 < 0.30, two, one)
    if who.pattern == "checks":  # "one", "half" and "two" follow one another
        return one + ((y * (15 * f)) % 1 < 0.5) + ((x * (15 * f) + np.float32(0.25)) % 1 < 0.5).astype(np.uint8)
    if who.pattern == "block":
        return np.where(y < 0.69, two, one)
    if who.pattern == "yoke":
        return np.where(y > 0.755, two, one)
    return np.full(len(y), two if who.pattern == "raglan" and sleeve else one)


def _logo(who, x, y, front):
    if who.logo == "chest":
        return front & (np.abs(x - 0.040) < 0.021) & (np.abs(y - 0.745) < 0.020)
    if who.logo == "back":
        return ~front & (np.abs(x) < 0.062) & (np.abs(y - 0.735) < 0.034) & ((y * 45) % 1 < 0.62)
    disc = np.hypot(x, y - 0.705) / 0.058
    bar = (np.abs(x) < 0.062) & (np.abs(y - 0.715) < 0.028)
    return front & (disc < 1, (disc < 1.1) & (disc > 0.62), bar)[int(who.folds[0] * 3 / 6.3)]


def _straps(who, x, y, front):
    """They tell who carries a bag from where the bag itself is out of sight."""
    if who.bag == "backpack":
        return (np.abs(np.abs(x) - 0.056) < 0.013) & ((y > 0.80) | (front & (y > 0.655)))
    across = (x * who.bag_side + 0.065) * 0.86 + (y - 0.81) * 0.51  # from the other shoulder down to the bag
    return (np.abs(across) < 0.012) & (y > 0.53)


def _creased(who, xyz, normal):
    """How much light trousers, shorts or a skirt give back, (N,) or 1."""
    x, y, z = xyz
    if who.bottom == "jeans":  # worn pale along the thigh
        return 1 + 0.35 * np.maximum(normal[2], 0) * np.exp(-(((y - 0.36) / 0.10) ** 2))
    if who.bottom == "skirt" and who.folds[2] < 1.0:  # a plaid
        return 1 - (0.35 * ((y * 30) % 1 < 0.4) + 0.25 * ((np.arctan2(x, z) * 4) % 1 < 0.35))
    if who.bottom in SKIRT_HEMS:
        return 1 + 0.16 * np.sin(np.arctan2(x, z) * 14 + who.folds[3])  # pleats
    return 1


def _face(who, p: Paint, skin, hair, xyz, turn):
    """Inks of a head that looks by `turn` (N,) to its left: hair, brows, eyes, mouth, beard, glasses."""
    c, s = np.cos(turn), np.sin(turn)
    x, y, z = (c * xyz[0] - s * xyz[2]) / 0.048, (xyz[1] - 0.935) / 0.060, (s * xyz[0] + c * xyz[2]) / 0.056
    front, apart = z > 0.15, np.abs(np.abs(x) - 0.40)
    ink = np.full(len(x), p.mix(skin), np.uint8)

    def over(where, colour):
        np.putmask(ink, where, p.mix(colour))

    over(front & (np.abs(x) < 0.30) & (np.abs(y + 0.66) < 0.07), skin * np.float32((0.62, 0.36, 0.36)))
    if who.beard:
        over((z > -0.25) & (y < -0.42) & ((np.abs(x) > 0.26) | (y < -0.76)), 0.65 * hair + 0.2 * skin)
    over(front & (apart < 0.22) & (np.abs(y - 0.20) < 0.05), 0.45 * hair + 0.35 * skin)
    if who.glasses:
        over(front & (apart < 0.30) & (np.abs(y + 0.04) < 0.15), linear((0.16, 0.15, 0.15)))
    else:
        over(front & (apart < 0.16) & (np.abs(y + 0.05) < 0.075), linear((0.20, 0.16, 0.15)))
    if who.hair_style == "bald":
        over((y > -0.25) & (y < 0.25) & (z < 0.05), 0.5 * hair + 0.5 * skin)
        return ink
    line = -0.10 + np.where(z > 0, 0.72, 0.85) * z
    if who.feminine > 0.5 and who.folds[4] < 2:  # a fringe
        line = np.minimum(line, 0.34)
    over(y > line, hair)
    return ink

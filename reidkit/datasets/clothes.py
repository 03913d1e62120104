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


def paint(who: Person, pose: Pose, part: np.ndarray, image: np.ndarray, t, xyz, normal) -> np.ndarray:
    """Colours of N points of a body, (N, 3) float32, linear light.

    part   (N,) index into PARTS              image  (N,) which of the B pictures
    t      (N,) place along the solid         xyz, normal  (3, N) in the body's frame, the trunk at its height at rest
    """
    colour = np.empty((len(part), 3), np.float32)
    skin, shoe, sole, hair, bag = map(linear, (who.skin, who.shoes, who.sole, who.hair, who.bag_colour))

    def of(name):
        return np.flatnonzero(part == PARTS.index(name))

    colour[of("skin")], colour[of("handle")], colour[of("hood")] = skin, 0.5 * bag, 0.9 * linear(who.top_colour)
    for name in ("trunk", "seat", "short", "skirt", "thigh", "shin"):
        i = of(name)
        if i.size:
            colour[i] = _dress(who, name, xyz[:, i], normal[:, i])
    for name, start in (("upper arm", 0.0), ("forearm", 1.0)):
        i = of(name)
        sleeve = (t[i] + start < who.sleeve)[:, None]
        colour[i] = np.where(sleeve, _top(who, xyz[:, i], normal[:, i], arm=t[i] + start), skin)
    if who.boots or bare_legs(who):  # a boot, or a sock
        i = of("shin")
        colour[i[t[i] > (0.45 if who.boots else 0.86)]] = shoe if who.boots else sole
    i = of("shoe")
    colour[i] = np.where((normal[1, i] < -0.30)[:, None], sole, shoe)
    i = of("head")
    colour[i] = _face(who, skin, hair, xyz[:, i], pose.head[image[i]].astype(np.float32))
    i = of("hair")
    colour[i] = hair * (1 + 0.18 * np.sin(160 * xyz[0, i] + 25 * xyz[1, i]))[:, None]
    i = of("hat")
    colour[i] = linear(who.hat_colour) * np.where(np.abs(xyz[1, i] - 0.95) < 0.008, 0.75, 1.0)[:, None]
    i = of("bag")
    seam = (np.abs(np.abs(xyz[0, i]) - 0.055) < 0.004) | (np.abs(xyz[1, i] - 0.74) < 0.004)
    colour[i] = bag * np.where(seam & (who.bag == "backpack"), 0.55, 1.0)[:, None]
    i = of("pocket")
    colour[i] = bag * np.where(np.abs(xyz[1, i] - 0.69) < 0.006, 0.5, 0.80)[:, None]
    return colour


def bare_legs(who: Person) -> bool:
    return who.bottom in ("shorts", "skirt", "maxi")


def tucked(who: Person) -> bool:
    return who.top in ("shirt", "tee") and who.folds[1] > 4.4


def hem_of(who: Person) -> float:
    """The height at which the upper garment ends."""
    return {"coat": 0.35, "jacket": 0.487, "hoodie": 0.505}.get(who.top, 0.568 if tucked(who) else 0.515)


def _dress(who, name, xyz, normal):
    """Trunk and legs: which garment a point shows depends on its height, so that nothing pokes through another."""
    y = xyz[1]
    over = y > hem_of(who)
    if name == "skirt" and who.top not in ("jacket", "coat"):  # a skirt hangs over what is worn above it
        over &= y > 0.56
    colour = np.empty((len(y), 3), np.float32)
    colour[over] = _top(who, xyz[:, over], normal[:, over], arm=None)
    under = ~over
    colour[under] = _bottom(who, xyz[:, under], normal[:, under])
    if name in ("thigh", "shin") and bare_legs(who):
        colour[under & (y < SKIRT_HEMS.get(who.bottom, 1.0))] = linear(who.skin)
    return colour


def _mix(colour, where, other):
    return np.where(where[:, None], np.float32(other), colour)


def _top(who, xyz, normal, arm):
    """The upper garment on the trunk (arm None), or on an arm: `arm` (N,) is how far down from the shoulder."""
    x, y, _ = xyz
    one, two, skin = linear(who.top_colour), linear(who.second_colour), linear(who.skin)
    if arm is not None:  # unroll the sleeve so that it hangs beside the trunk
        y = 0.80 - 0.155 * arm
    colour = _pattern(who, one, two, x, y, arm is not None)
    if arm is not None:
        return _mix(colour, (arm > who.sleeve - 0.16) & (who.top in ("hoodie", "jacket")), 0.6 * one)  # cuffs
    front = normal[2] > 0
    reach = np.hypot(x, y - 0.855)
    if who.top in ("jacket", "coat"):
        gape = 0.09 * max(who.pattern_scale - 1.0, 0.0)  # some wear it open
        inner = 0.85 * two if who.pattern == "plain" else linear((0.9, 0.9, 0.88))
        edge = gape * np.clip((y - 0.30) * 2.2, 0.3, 1.2)
        colour = _mix(colour, front & (np.abs(x) < edge), inner)
        colour = _mix(colour, front & (np.abs(np.abs(x) - edge) < 0.004), 0.45 * one)
        colour = _mix(colour, (y > 0.815) & (reach > 0.028), 0.7 * one)  # collar
    elif who.top == "shirt":
        colour = _mix(colour, front & (np.abs(x) < 0.004), 0.7 * one)
        colour = _mix(colour, (reach < 0.052) & (y > 0.81), np.clip(1.25 * one + 0.02, 0, 0.9))
    elif who.top == "hoodie":
        colour = _mix(colour, front & (np.abs(x) < 0.075) & (np.abs(y - 0.585) < 0.004), 0.5 * one)
        strings = front & (np.abs(np.abs(x) - 0.016) < 0.004) & (y > 0.755)
        colour = _mix(colour, strings, linear((0.9, 0.9, 0.88)))
    deep = {"tee": 0.050, "vest": 0.075, "shirt": 0.034}.get(who.top, 0.0)
    colour = _mix(colour, front & (reach < deep), skin)
    if who.top == "vest":
        colour = _mix(colour, (np.abs(x) > 0.062) & (y > 0.77), skin)
    colour = _mix(colour, _logo(who, x, y, front), two)
    hem = hem_of(who)
    if tucked(who):
        colour = _mix(colour, y < hem + 0.012, linear((0.12, 0.09, 0.07)))  # a belt
    elif who.top == "hoodie":
        colour = _mix(colour, y < hem + 0.018, 0.6 * one)
    return _mix(colour, _straps(who, x, y, front), 0.7 * linear(who.bag_colour))


def _pattern(who, one, two, x, y, sleeve: bool):
    f = who.pattern_scale
    colour = np.broadcast_to(one, (len(y), 3))
    if who.pattern == "stripes":
        return _mix(colour, (y * 17 * f) % 1 < 0.5, two)
    if who.pattern == "pinstripes":
        return _mix(colour, (x * 26 * f + 0.15) % 1 < 0.30, two)
    if who.pattern == "checks":
        share = ((y * 15 * f) % 1 < 0.5).astype(np.float32) + ((x * 15 * f + 0.25) % 1 < 0.5)
        return one + (two - one) * (share / 2)[:, None]
    if who.pattern == "block":
        return _mix(colour, y < 0.69, two)
    if who.pattern == "yoke":
        return _mix(colour, y > 0.755, two)
    return np.broadcast_to(two, colour.shape) if who.pattern == "raglan" and sleeve else colour


def _logo(who, x, y, front):
    if who.logo == "chest":
        return front & (np.abs(x - 0.040) < 0.021) & (np.abs(y - 0.745) < 0.020)
    if who.logo == "print":
        disc = np.hypot(x, y - 0.705) / 0.058
        bar = (np.abs(x) < 0.062) & (np.abs(y - 0.715) < 0.028)
        return front & (disc < 1, (disc < 1.1) & (disc > 0.62), bar)[int(who.folds[0] * 3 / 6.3)]
    if who.logo == "back":
        return ~front & (np.abs(x) < 0.062) & (np.abs(y - 0.735) < 0.034) & ((y * 45) % 1 < 0.62)
    return np.zeros(len(x), bool)


def _straps(who, x, y, front):
    """They tell who carries a bag from where the bag itself is out of sight."""
    if who.bag == "backpack":
        return (np.abs(np.abs(x) - 0.056) < 0.013) & ((y > 0.80) | (front & (y > 0.655)))
    if who.bag == "shoulder":  # from the other shoulder down to the bag
        across = (x * who.bag_side + 0.065) * 0.86 + (y - 0.81) * 0.51
        return (np.abs(across) < 0.012) & (y > 0.53)
    return np.zeros(len(x), bool)


def _bottom(who, xyz, normal):
    """Trousers, shorts or a skirt."""
    x, y, z = xyz
    shade = np.ones(len(y), np.float32)
    if who.bottom == "jeans":  # worn pale along the thigh
        shade += 0.35 * np.clip(normal[2], 0, 1) * np.exp(-(((y - 0.36) / 0.10) ** 2))
    if who.bottom == "skirt" and who.folds[2] < 1.0:  # a plaid
        shade -= 0.35 * ((y * 30) % 1 < 0.4) + 0.25 * ((np.arctan2(x, z) * 4) % 1 < 0.35)
    elif who.bottom in SKIRT_HEMS:
        shade += 0.16 * np.sin(np.arctan2(x, z) * 14 + who.folds[3])  # pleats
    return linear(who.bottom_colour) * shade[:, None]


def _face(who, skin, hair, xyz, turn):
    """A head that looks by `turn` (N,) to its left: hair, brows, eyes, mouth, beard, glasses."""
    c, s = np.cos(turn), np.sin(turn)
    x, y, z = (c * xyz[0] - s * xyz[2]) / 0.048, (xyz[1] - 0.935) / 0.060, (s * xyz[0] + c * xyz[2]) / 0.056
    front, apart = z > 0.15, np.abs(np.abs(x) - 0.40)
    lips = skin * np.float32((0.62, 0.36, 0.36))
    colour = _mix(np.broadcast_to(skin, (len(x), 3)), front & (np.abs(x) < 0.30) & (np.abs(y + 0.66) < 0.07), lips)
    if who.beard:
        bearded = (z > -0.25) & (y < -0.42) & ((np.abs(x) > 0.26) | (y < -0.76))
        colour = _mix(colour, bearded, 0.65 * hair + 0.2 * skin)
    colour = _mix(colour, front & (apart < 0.22) & (np.abs(y - 0.20) < 0.05), 0.45 * hair + 0.35 * skin)
    if who.glasses:
        colour = _mix(colour, front & (apart < 0.30) & (np.abs(y + 0.04) < 0.15), linear((0.16, 0.15, 0.15)))
    else:
        colour = _mix(colour, front & (apart < 0.16) & (np.abs(y + 0.05) < 0.075), linear((0.20, 0.16, 0.15)))
    if who.hair_style == "bald":
        return _mix(colour, (y > -0.25) & (y < 0.25) & (z < 0.05), 0.5 * hair + 0.5 * skin)
    line = -0.10 + np.where(z > 0, 0.72, 0.85) * z
    if who.feminine > 0.5 and who.folds[4] < 2:  # a fringe
        line = np.minimum(line, 0.34)
    return _mix(colour, y > line, hair)

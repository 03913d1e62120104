"""Bodies of Plaza: one person dressed and posed.

A body is some thirty *solids*: round cones (the hull of two spheres), some flattened. Lengths are in body heights, in a
frame of the person's own: x to the person's left, y up from the ground, z forward. `rendering` casts rays at them.
"""

from dataclasses import dataclass

import numpy as np

from .people import Person


@dataclass
class Pose:
    """How one person holds themselves in each of B pictures; arrays (B,), angles in radians."""

    phase: np.ndarray  # of the walking cycle
    effort: np.ndarray  # 1 walks, 0 stands
    head: np.ndarray  # head turned to the left
    arm: np.ndarray  # 0 swings both, 1 holds a phone to the ear, 2 hands in the pockets, 3 reads a phone


class Solids:
    """Round cones of one person in B pictures.

    a, b   (B, P, 3) centres of the two end spheres        flat  (P, 3) flattening along x, y and z
    radii  (P, 2) of the spheres                           cut   (P,) whether the end at b is cut off flat (a hem)
    part   P names that `paint` knows
    """

    def __init__(self, count: int):
        self.rows, self.ends = [], np.empty((count, 64, 2, 3), np.float32)

    def add(self, part, a, b, ra, rb, *, flat=(1.0, 1.0, 1.0), cut=False):
        here = self.ends[:, len(self.rows)]
        here[:, 0], here[:, 1] = a, b
        self.rows.append((part, (ra, rb), flat, cut))

    def stack(self) -> "Solids":
        self.part, radii, flat, cut = zip(*self.rows, strict=True)
        self.a, self.b = self.ends[:, : len(self.rows), 0], self.ends[:, : len(self.rows), 1]
        self.radii, self.flat, self.cut = np.float32(radii), np.float32(flat), np.array(cut)
        return self


def at(x, y, z) -> np.ndarray:
    """Points (3,) or (B, 3), float32."""
    if not any(isinstance(v, np.ndarray) for v in (x, y, z)):
        return np.array((x, y, z), np.float32)
    points = np.empty((max(np.size(v) for v in (x, y, z)), 3), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = x, y, z
    return points


def build(who: Person, pose: Pose) -> Solids:
    """The solids of one person in the B pictures of `pose`."""
    s = Solids(len(pose.phase))
    s.bob = bounce(who, pose)
    bob = at(0, s.bob, 0)
    loose = {"vest": 0.001, "tee": 0.004, "shirt": 0.004, "hoodie": 0.011, "jacket": 0.010, "coat": 0.013}[who.top]

    def fixed(part, a, b, ra, rb, **more):  # what moves with the trunk
        s.add(part, at(*a) + bob, at(*b) + bob, ra, rb, **more)

    _trunk(who, fixed, loose)
    _head(who, pose, s, fixed, bob)
    _legs(who, pose, s, fixed, bob)
    hands = _arms(who, pose, s, bob, loose)
    _bag(who, s, fixed, hands)
    return s.stack()


def leg_angles(who: Person, pose: Pose, side: int):
    """Angles of thigh and shin from the vertical, forward positive, (B,) each; side 1 is the left."""
    phase = pose.phase + (np.pi if side > 0 else 0)
    thigh = who.stride * pose.effort * np.sin(phase) + 0.05
    return thigh, thigh - 0.10 - pose.effort * (0.75 * np.clip(np.cos(phase), 0, 1) ** 1.5 + 0.08)


def bounce(who: Person, pose: Pose) -> np.ndarray:
    """How far the trunk is from its height at rest, (B,): the lower foot stays on the ground."""
    drop = [0.245 * np.cos(a) + 0.243 * np.cos(b) for a, b in (leg_angles(who, pose, side) for side in (-1, 1))]
    return np.maximum(*drop) - 0.487


def _trunk(who, fixed, loose):
    g, wide = who.girth, who.shoulders
    hips = 0.98 + 0.10 * who.feminine
    fixed("trunk", (0, 0.63, 0.004), (0, 0.748, 0), 0.074 * g + loose, 0.090 * wide + 0.03 * (g - 1) + loose,
          flat=(1, 1, 0.70))  # fmt: skip
    fixed("trunk", (0, 0.55, -0.004), (0, 0.62, 0.004), 0.081 * g * hips + loose, 0.075 * g + loose, flat=(1, 1, 0.76))
    fixed("trunk", (-0.072 * wide, 0.785, -0.004), (0.072 * wide, 0.785, -0.004), 0.043 + loose, 0.043 + loose)
    for side in (-1, 1):
        fixed("trunk", (0.012 * side, 0.842, -0.010), (0.098 * side * wide, 0.800, -0.006), 0.022 + loose / 2,
              0.031 + loose / 2)  # fmt: skip
        if who.feminine > 0.5 and loose < 0.01:
            fixed("trunk", (0.034 * side, 0.724, 0.020), (0.036 * side, 0.765, 0.008), 0.042 + loose / 2, 0.036)
    fixed("seat", (0, 0.535, -0.012), (0, 0.505, -0.008), 0.080 * g * hips, 0.078 * g * hips, flat=(1, 1, 0.84))
    if who.top == "hoodie":
        fixed("hood", (-0.026, 0.838, -0.046), (0.026, 0.838, -0.046), 0.036, 0.036)
    if who.top in ("coat", "jacket"):
        hem, flare = (0.35, 0.118) if who.top == "coat" else (0.487, 0.094 * hips)
        fixed("trunk", (0, 0.62, 0), (0, hem, 0), 0.078 * g + loose, flare * g + loose, flat=(1, 1, 0.78), cut=True)
    if who.bottom in ("skirt", "maxi"):
        hem, flare = (0.315, 0.115) if who.bottom == "skirt" else (0.10, 0.135)
        fixed("skirt", (0, 0.575, 0), (0, hem, 0), 0.076 * g, flare * g, flat=(1, 1, 0.85), cut=True)


def _head(who, pose, s, fixed, bob):
    fixed("skin", (0, 0.82, -0.012), (0, 0.885, 0.0), 0.033, 0.029)
    fixed("head", (0, 0.901, 0.014), (0, 0.942, 0.0), 0.041, 0.056, flat=(0.86, 1, 1))
    face = at(np.sin(pose.head), 0, np.cos(pose.head))  # (B, 3) where it looks
    s.add("skin", at(0, 0.926, 0) + bob + 0.050 * face, at(0, 0.914, 0) + bob + 0.059 * face, 0.007, 0.010)
    style = who.hair_style
    if style != "bald":
        big = {"afro": 0.078, "crop": 0.054}.get(style, 0.0575)
        back = 0.016 if style == "afro" else 0.010
        fixed("hair", (0, 0.952, -back), (0, 0.957, -back), big, big, flat=(0.92, 1, 1))
    if style in ("bob", "long", "ponytail", "bun"):
        fixed("hair", (0, 0.93, -0.018), (0, 0.91, -0.022), 0.054, 0.048, flat=(0.92, 1, 1))
    if style == "bob":
        fixed("hair", (0, 0.92, -0.012), (0, 0.878, -0.016), 0.056, 0.060, flat=(1, 1, 0.85))
    if style == "long":
        fixed("hair", (0, 0.92, -0.024), (0, 0.775, -0.056), 0.055, 0.060, flat=(1, 1, 0.58))
    if style == "ponytail":
        fixed("hair", (0, 0.965, -0.066), (0, 0.835, -0.086), 0.024, 0.014)
    if style == "bun":
        fixed("hair", (0, 0.985, -0.052), (0, 0.990, -0.054), 0.029, 0.027)
    if who.hat == "beanie":
        fixed("hat", (0, 0.957, -0.006), (0, 0.978, -0.012), 0.0605, 0.053, flat=(0.94, 1, 1))
    if who.hat == "cap":
        fixed("hat", (0, 0.963, -0.006), (0, 0.968, -0.006), 0.0585, 0.056, flat=(0.94, 1, 1))
        s.add("hat", at(0, 0.972, 0) + bob + 0.040 * face, at(0, 0.962, 0) + bob + 0.084 * face, 0.040, 0.030,
              flat=(1, 0.22, 1))  # fmt: skip


def _legs(who, pose, s, fixed, bob):
    g, loose = 0.5 + 0.5 * who.girth, {"wide": 0.012, "trousers": 0.006, "jeans": 0.004}.get(who.bottom, 0.0)
    ankle = {"wide": 0.050, "trousers": 0.034, "jeans": 0.030}.get(who.bottom, 0.024)
    bare = who.bottom in ("shorts", "skirt", "maxi")
    for side in (-1, 1):
        thigh, shin = leg_angles(who, pose, side)
        hip = at(0.046 * side, 0.515, -0.004) + bob
        bend = hip + 0.245 * at(0.02 * side, -np.cos(thigh), np.sin(thigh))
        heel = bend + 0.243 * at(0, -np.cos(shin), np.sin(shin))
        s.add("thigh", hip, bend, 0.063 * g + loose, (0.040 if bare else 0.042 + loose) * g)
        s.add("shin", bend, heel, (0.039 if bare else 0.041 + loose) * g, ankle)
        if bare or who.bottom in ("leggings", "jeans"):  # the calf
            calf = 0.33 * bend + 0.67 * heel + 0.013 * at(0, np.sin(shin), -np.cos(shin))
            s.add("shin", 0.72 * bend + 0.28 * heel + 0.006 * at(0, 0, -1), calf, 0.034 * g, 0.026 * g)
        if who.bottom == "shorts":
            low = 0.18 * hip + 0.82 * bend
            s.add("short", hip, low, 0.066 * g, 0.058 * g, cut=True)
        sole = 0.55 * np.minimum(shin, 0.25) - 0.05  # the foot follows the shin a little
        toe = at(0.012 * side, np.sin(sole) - 0.10, np.cos(sole))
        s.add(
            "shoe",
            heel + at(0, -0.002, -0.012),
            heel + 0.080 * toe + at(0, -0.008, 0),
            0.028,
            0.022,
            flat=(0.92, 0.86, 1),
        )


def _arms(who, pose, s, bob, loose) -> dict[int, np.ndarray]:
    """Add both arms; the hands' places (B, 3) by side (1 is the left)."""
    cloth = loose + 0.003 if who.sleeve > 0.2 else 0.0
    long = cloth if who.sleeve > 1.2 else 0.0
    hands = {}
    for side in (-1, 1):
        # the arm swings against the leg of its side
        swing = who.swing * pose.effort * np.sin(pose.phase + (0 if side > 0 else np.pi)) - 0.04
        elbow = 0.22 + 0.45 * pose.effort * np.clip(np.sin(pose.phase + (0 if side > 0 else np.pi)), 0, 1)
        out, turn = np.full_like(swing, 0.13), np.zeros_like(swing)
        held = (pose.arm == 3) | ((pose.arm == 1) & (side == -who.bag_side))
        pocket = pose.arm == 2
        swing = np.where(pocket, -0.30, np.where(held, 0.15, swing))
        out = np.where(pocket, 0.30, np.where(held, 0.16, out))
        ear = (pose.arm == 1) & (side == -who.bag_side)
        elbow = np.where(pocket, 0.75, np.where(ear, 2.45, np.where(held, 1.55, elbow)))
        turn = np.where(held & ~ear, 0.35, np.where(pocket, 0.5, turn))
        shoulder = at(0.108 * side * who.shoulders, 0.793, -0.006) + bob
        bend = shoulder + 0.165 * at(side * np.sin(out), -np.cos(out) * np.cos(swing), np.cos(out) * np.sin(swing))
        lower = swing + elbow
        aim = at(side * (0.06 - turn), -np.cos(lower), np.sin(lower))
        aim = aim / np.linalg.norm(aim, axis=-1, keepdims=True)
        wrist = bend + 0.140 * aim
        hand = wrist + 0.050 * aim
        s.add("upper arm", shoulder, bend, 0.034 + cloth, 0.028 + cloth)
        s.add("forearm", bend, wrist, 0.0275 + long, 0.020 + long)
        s.add("skin", wrist + 0.012 * aim, hand, 0.0215, 0.0175, flat=(0.72, 1, 1))
        hands[side] = hand
    return hands


def _bag(who, s, fixed, hands):
    side = who.bag_side
    if who.bag == "backpack":
        fixed("bag", (0, 0.655, -0.110), (0, 0.775, -0.100), 0.088, 0.078, flat=(0.95, 1, 0.62))
        fixed("pocket", (0, 0.645, -0.150), (0, 0.680, -0.148), 0.058, 0.056, flat=(1, 1, 0.50))
    if who.bag == "shoulder":
        fixed("bag", (0.120 * side, 0.515, -0.045), (0.120 * side, 0.520, 0.045), 0.056, 0.056, flat=(0.50, 1, 1))
        fixed("pocket", (0.130 * side, 0.545, -0.040), (0.130 * side, 0.545, 0.040), 0.036, 0.036, flat=(0.72, 0.9, 1))
    if who.bag in ("hand", "tote"):
        drop, size = (0.085, 0.050) if who.bag == "hand" else (0.125, 0.068)
        hand = hands[side]
        for end in (-0.5, 0.5):
            s.add("handle", hand, hand + at(0, -drop + size, end * size), 0.006, 0.006)
        s.add(
            "bag",
            hand + at(0, -drop, -size * 0.75),
            hand + at(0, -drop - 0.01, size * 0.75),
            size,
            size,
            flat=(0.45, 1, 1),
        )

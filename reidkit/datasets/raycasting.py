"""Casts parallel rays at round cones, in NumPy, for many pictures of one body at a time.

A round cone is the hull of two spheres. Along a ray, its surface is the highest of the spheres between them,
w(t) + sqrt(r(t)^2 - d(t)^2): the centre's height w and radius r are linear in the place t along the axis, the squared
distance d^2 between centre and ray is quadratic. The best t has a closed form (`_Cones.hit`), and the surface there
faces away from the centre. A flattened solid is a round one after an affine map of space, which keeps rays parallel.
"""

from dataclasses import dataclass

import numpy as np

from .bodies import Solids

NOTHING = FRINGE = -4096  # depth of pixels that see nothing, and to which pixels at an edge add their share


@dataclass
class View:
    """How B pictures look at their body. Lengths are in body heights.

    rotation  (B, 3, 3) from the body's frame to the view's: right, up, towards the camera
    scale     (B,) pixels a unit              u0, v0  (B,) what the middle of the picture sees, right and up
    lean      (B,) how much larger things are that are higher up: a camera above is nearer to a head than to feet
    """

    rotation: np.ndarray
    scale: np.ndarray
    u0: np.ndarray
    v0: np.ndarray
    lean: np.ndarray

    def up(self, h: int) -> np.ndarray:
        """v of every row, (B, h)."""
        return self.v0[:, None] - (np.arange(h, dtype=np.float32) + (0.5 - h / 2)) / self.scale[:, None]

    def right(self, w: int) -> np.ndarray:
        """u - u0 of every column, (B, w), in rows where `stretch` is 1."""
        return (np.arange(w, dtype=np.float32) + (0.5 - w / 2)) / self.scale[:, None]

    def stretch(self, v: np.ndarray) -> np.ndarray:
        """What a pixel spans to the right at height v (B, h), relative to the middle of the picture."""
        return 1 - self.lean[:, None] * (v - self.v0[:, None])


@dataclass
class Seen:
    """The N pixels of B pictures (h, w) that see a body.

    depth   (B, h, w) towards the camera, very low elsewhere    share   (N,) of the pixel that the body fills
    spot    (N,) which pixel of B h w, increasing               ends    B + 1 borders between the pictures' pixels
    solid   (N,) which solid                                    place   (N,) how far along it, 0 … 1
    xyz, normal   (3, N) in the body's frame
    """

    depth: np.ndarray
    share: np.ndarray
    spot: np.ndarray
    ends: np.ndarray
    solid: np.ndarray
    place: np.ndarray
    xyz: np.ndarray
    normal: np.ndarray

    @property
    def parts(self) -> list[slice]:
        """The pixels of each picture."""
        return [slice(a, b) for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)]


def cast(solids: Solids, view: View, h: int, w: int) -> Seen:
    """A ray through the middle of every pixel. Edges against the background are smoothed over a pixel."""
    b, picture = len(view.scale), np.arange(len(view.scale))[:, None]
    v, u = view.up(h) * view.scale[:, None], np.arange(w, dtype=np.float32) + np.float32(0.5 - w / 2)  # in pixels
    stretch, u1 = view.stretch(view.up(h)), np.stack([u, np.ones_like(u)], 1)
    cones = _Cones(solids, view, b * h * w)
    depth = np.full(b * h * w, NOTHING, np.float32)
    entry = np.zeros(b * h * w, np.int32)  # the row of `found` that each pixel sees
    found, total = [], 0
    pixels = np.arange(h * w).reshape(h, w)
    for p, (rows, cols) in enumerate(cones.windows(v, stretch, u)):  # (B, th), (B, tw)
        near, local = cones.hit(p, u1[cols], v[picture, rows], stretch[picture, rows])
        index = (picture * h + rows[:, :1]) * w + cols[:, :1] + pixels[: rows.shape[1], : cols.shape[1]].ravel()
        chosen = np.flatnonzero(near > depth.take(index))
        spot = index.ravel().take(chosen)
        depth[spot] = near.ravel().take(chosen)
        entry[spot] = np.arange(total, total + len(spot), dtype=np.int32)
        total += len(spot)
        found.append(local.take(chosen, 1))  # (5, chosen)
    spot = np.flatnonzero(depth > NOTHING)
    which = entry.take(spot)
    solid = np.repeat(np.arange(len(found), dtype=np.int32), [f.shape[1] for f in found]).take(which)
    x, y, s, place, z = np.concatenate(found, 1).take(which, 1)
    share = np.minimum(depth.take(spot) - FRINGE, 1)
    depth[spot] = s
    m = cones.basis.take(spot // (h * w) * len(found) + solid, 1).reshape(3, 3, -1)
    normal = m[0] * x + m[1] * y + m[2] * z  # (3, N)
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-9)
    ends = np.searchsorted(spot, np.arange(b + 1) * (h * w))
    depth = depth.reshape(b, h, w) / view.scale[:, None, None]
    seen = Seen(depth, share, spot, ends, solid, place, np.empty_like(normal), normal)
    up, right = np.repeat(v, w).take(spot), (u * stretch[:, :, None]).ravel().take(spot)
    middle, turn = view.u0 * view.scale, view.rotation[..., None] / view.scale[:, None, None, None]  # (B, 3, 3, 1)
    for i, at in enumerate(seen.parts):
        seen.xyz[:, at] = turn[i, 0] * (right[at] + middle[i]) + turn[i, 1] * up[at] + turn[i, 2] * s[at]
    return seen


class _Cones:
    """Every solid of every picture in coordinates of its own: x along the axis as seen, y across, w along the ray.

    Lengths are in pixels, so that the last half pixel inside an edge and the first outside are where its share fades.
    """

    def __init__(self, solids: Solids, view: View, pixels: int):
        flat, turn, scale = solids.flat, view.rotation.transpose(0, 2, 1), view.scale[:, None]
        m = (1 / flat)[None, :, :, None] * turn[:, None]  # (B, P, 3, 3): from the view to where the solid is round
        ray = m[..., 2]
        stretch = np.sqrt((ray * ray).sum(-1))  # (B, P)
        ray = ray / stretch[..., None]
        a, axis = solids.a / flat, (solids.b - solids.a) / flat
        dw = (axis * ray).sum(-1)
        across = axis - dw[..., None] * ray
        length = np.sqrt((across * across).sum(-1))
        any_way = m[..., 0] - (m[..., 0] * ray).sum(-1, keepdims=True) * ray  # for a ray along the axis
        across = np.where((length > 1e-5)[..., None], across, any_way)
        e1 = across / np.sqrt((across * across).sum(-1, keepdims=True))
        e2 = np.cross(ray, e1)
        self.basis = np.float32(np.stack([e1, e2, ray], 2) / flat[:, None]).reshape(-1, 9).T.copy()  # (9, B P)
        r0 = solids.radii[:, 0] * scale - 0.5  # half a pixel less: edges fade outwards
        dr, dw, length = (solids.radii[:, 1] - solids.radii[:, 0]) * scale, dw * scale, length * scale
        m2 = np.maximum(length**2 - dr**2, 1e-3)
        # x, y and w at (u, v): coefficients of u and v, and a constant (with the middle of the picture in it)
        lines = []
        for e, by in ((e1, 1), (e2, 1), (ray, 1 / stretch)):
            right, up, rest = (m[..., 0] * e).sum(-1), (m[..., 1] * e).sum(-1), -(a * e).sum(-1)
            lines.append([right * by, up * by, (rest + right * view.u0[:, None]) * scale * by])
        self.lines = np.ascontiguousarray(np.float32(lines).transpose(3, 1, 0, 2))[..., None]  # (P, 3, 3, B, 1)
        numbers = [r0, dr, length, r0 * dr, m2, m2 * r0**2, dw / (m2 * np.sqrt(dw**2 + m2)), 1 / m2, dw / stretch]
        numbers = np.float32(np.broadcast_arrays(*numbers, 1 / stretch))  # (10, B, P)
        self.numbers = np.ascontiguousarray(numbers.transpose(2, 0, 1))[..., None, None]  # (P, 10, B, 1, 1)
        self.flat, self.cut = flat.min(1) < 1, solids.cut
        # NumPy's maximum and minimum are several times as fast between arrays as with a number.
        self.zeros, self.ones = np.zeros(pixels, np.float32), np.ones(pixels, np.float32)
        ends = np.concatenate([solids.a, solids.b], 1) @ turn  # (B, 2 P, 3) in the view
        ends = ends.reshape(len(turn), 2, -1, 3)
        reach = (solids.radii * flat.max(1, keepdims=True)).T[..., None]  # (2, P, 1)
        low, high = (ends[..., :2] - reach).min(1), (ends[..., :2] + reach).max(1)  # (B, P, 2)
        low[..., 0] -= view.u0[:, None]
        high[..., 0] -= view.u0[:, None]
        self.low, self.high = low * scale[..., None], high * scale[..., None]

    def windows(self, v, stretch, u):
        """For each solid, the rows (B, th) and columns (B, tw) of the pixels that may see it."""
        h, w, picture = v.shape[1], len(u), np.arange(len(v))[:, None]
        top, bottom = v[:, :1] - self.high[..., 1], v[:, :1] - self.low[..., 1]  # (B, P)
        rows = _windows(top, bottom, h)
        grow = 1 / np.minimum(*(stretch[picture, np.clip(side.astype(int), 0, h - 1)] for side in (top, bottom)))
        left, right = self.low[..., 0], self.high[..., 0]
        left, right = np.minimum(left, left * grow), np.maximum(right, right * grow)
        return zip(rows, _windows(left - u[0], right - u[0], w), strict=True)

    def hit(self, p, u, v, stretch):
        """Where rays meet solid p. u (B, tw, 2) with a 1 beside each, v and stretch (B, th).

        Returns the depth to compare (B, th tw), and (5, B th tw): the gradient's first two parts, the depth, the place
        along the solid, and the gradient's third part. Written in place: this is where the time goes.
        """
        r0, dr, length, r0dr, m, mr0, root, per_m, dw, per_stretch = self.numbers[p]  # (B, 1, 1) each
        right, up, rest = self.lines[p]  # (3, B, 1) each
        (b, th), tw = v.shape, u.shape[1]
        by_row = np.empty((3, b, th, 2), np.float32)  # factors of the column's u and of 1
        np.multiply(right, stretch, out=by_row[..., 0])
        np.add(up * v, rest, out=by_row[..., 1])
        local = np.empty((5, b, th, tw), np.float32)
        np.matmul(by_row, u.transpose(0, 2, 1), out=local[:3])
        x, y, w0, t, w = local
        zero, one = (a[: b * th * tw].reshape(b, th, tw) for a in (self.zeros, self.ones))
        half = length * x
        half += r0dr
        y2 = np.multiply(y, y)
        # dw t + sqrt((r0 + dr t)^2 - y^2 - (x - length t)^2) is highest at
        #     t = half / m + dw sqrt((half^2 + m (r0^2 - y^2 - x^2)) / (dw^2 + m)) / m
        np.multiply(half, half, out=t)
        q = x * x
        q += y2
        q *= m
        t -= q
        t += mr0
        np.maximum(t, zero, out=t)
        np.sqrt(t, out=t)
        t *= root
        half *= per_m
        t += half
        past = (t - 1) * length if self.cut[p] else None  # pixels beyond the hem
        np.maximum(t, zero, out=t)
        np.minimum(t, one, out=t)
        x -= np.multiply(length, t, out=half)
        r = np.multiply(dr, t, out=half)
        r += r0
        np.multiply(x, x, out=q)
        q += y2
        share = np.sqrt(q)  # the distance between ray and centre
        np.multiply(r, r, out=y2)
        y2 -= q
        np.maximum(y2, zero, out=y2)
        np.sqrt(y2, out=w)
        np.subtract(r, share, out=share)
        share += 1  # 1 and more: the pixel is filled
        if past is not None:
            np.minimum(share, 1 - past, out=share)
        s = np.multiply(dw, t, out=half)
        s += np.multiply(w, per_stretch, out=q) if self.flat[p] else w
        s = np.subtract(s, w0, out=w0)
        filled = share >= 1
        share += np.float32(FRINGE)  # NOTHING and less: the ray misses
        np.putmask(share, filled, s)
        return share.reshape(b, -1), local.reshape(5, -1)


def _windows(low, high, size):
    """P windows of pixel numbers (B, length): for every picture as long as the longest needs to hold [low, high]."""
    low, high = (np.clip(np.floor(edge), 0, size - 1).astype(int) for edge in (low + 0.4, high + 0.6))
    lengths = (high - low).max(0) + 1
    low, along = np.minimum(low, size - lengths).T[..., None], np.arange(size)  # (P, B, 1)
    return [start + along[:n] for start, n in zip(low, lengths.tolist(), strict=True)]

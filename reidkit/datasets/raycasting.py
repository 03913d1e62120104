"""Casts parallel rays at round cones, in NumPy, for many pictures of one body at a time.

A round cone is the hull of two spheres. Along a ray, its surface is the highest of the spheres between them,
w(t) + sqrt(r(t)^2 - d(t)^2): the centre's height w and radius r are linear in the place t along the axis, the squared
distance d^2 between centre and ray is quadratic. The best t has a closed form (`_Cones.hit`), and the surface there
faces away from the centre. A flattened solid is a round one after an affine map of space, which keeps rays parallel.
"""

from dataclasses import dataclass

import numpy as np

from .bodies import Solids

NOTHING, FRINGE = -10, -8  # depths of pixels that see nothing, and of those at an edge, to which their share is added


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

    depth   (B, h, w) towards the camera, NOTHING elsewhere     share   (N,) of the pixel that the body fills
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
    b, v, u = len(view.scale), view.up(h), view.right(w)
    stretch = view.stretch(v)
    cones = _Cones(solids, view)
    depth = np.full(b * h * w, NOTHING, np.float32)
    entry = np.zeros(b * h * w, np.int32)  # the row of `found` that each pixel sees
    found, total = [], 0
    picture = np.arange(b)[:, None]
    for p, (rows, cols) in enumerate(cones.windows(view, u, v, stretch)):  # (B, th), (B, tw)
        uu = u[picture, cols][:, None] * stretch[picture, rows][:, :, None] + view.u0[:, None, None]  # (B, th, tw)
        near, *local = cones.hit(p, uu, v[picture, rows][:, :, None])
        index = ((picture * h + rows) * w)[:, :, None] + cols[:, None]
        chosen = np.flatnonzero(near > depth.take(index))
        spot = index.ravel().take(chosen)
        depth[spot] = near.ravel().take(chosen)
        entry[spot] = np.arange(total, total + len(spot))
        total += len(spot)
        found.append([a.ravel().take(chosen) for a in local])
    spot = np.flatnonzero(depth > NOTHING)
    which = entry.take(spot)
    solid = np.repeat(np.arange(len(found), dtype=np.int32), [len(f[0]) for f in found]).take(which)
    s, place, *local = (np.concatenate(column).take(which) for column in zip(*found, strict=True))
    share = np.minimum(depth.take(spot) - FRINGE, 1)
    depth[spot] = s
    basis = cones.basis.reshape(-1, 9).take(spot // (h * w) * len(found) + solid, 0)  # (N, 9)
    normal = np.stack([sum(basis[:, 3 * j + k] * local[j] for j in range(3)) for k in range(3)])
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-9)
    ends = np.searchsorted(spot, np.arange(b + 1) * (h * w))
    seen = Seen(depth.reshape(b, h, w), share, spot, ends, solid, place, np.empty_like(normal), normal)
    row, col = np.divmod(spot % (h * w), w)
    for i, at in enumerate(seen.parts):
        uvs = (u[i].take(col[at]) * stretch[i].take(row[at]) + view.u0[i], v[i].take(row[at]), s[at])
        for k in range(3):
            seen.xyz[k, at] = sum(view.rotation[i, j, k] * uvs[j] for j in range(3))
    return seen


class _Cones:
    """Every solid of every picture in coordinates of its own: x along the axis as seen, y across, w along the ray."""

    def __init__(self, solids: Solids, view: View):
        flat, turn = solids.flat, view.rotation.transpose(0, 2, 1)
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
        # x, y and w at (u, v): coefficients of u and v, and a constant; (3, B, P) each
        for name, e in (("x", e1), ("y", e2), ("w", ray)):
            linear = [(m[..., 0] * e).sum(-1), (m[..., 1] * e).sum(-1), -(a * e).sum(-1)]
            setattr(self, name, np.float32(np.stack(linear)))
        self.stretch, self.dw, self.length = map(np.float32, (stretch, dw, length))
        self.basis = np.float32(
            np.stack([e1, e2, ray], 2) / flat[:, None]
        )  # (B, P, 3, 3): gradients to the body's frame
        self.r0 = np.float32(solids.radii[:, 0] - 0.5 / view.scale[:, None])  # half a pixel less: edges fade outwards
        self.dr = solids.radii[:, 1] - solids.radii[:, 0]
        self.pace, self.cut = np.float32(1 / view.scale), solids.cut
        ends = np.stack([solids.a, solids.b], 2) @ turn[:, None]  # (B, P, 2, 3) in the view
        reach = (solids.radii * flat.max(1, keepdims=True))[None, :, :, None] * np.float32((1, 1))
        self.low, self.high = (ends[..., :2] - reach).min(2), (ends[..., :2] + reach).max(2)  # (B, P, 2)

    def windows(self, view, u, v, stretch):
        """For each solid, the rows (B, th) and columns (B, tw) of the pixels that may see it."""
        (b, h), w = v.shape, u.shape[1]
        scale, picture = view.scale[:, None], np.arange(b)[:, None]
        top, bottom = ((v[:, :1] - side[..., 1]) * scale for side in (self.high, self.low))  # (B, P)
        rows = _windows(top - 1, bottom + 2, h)
        grow = 1 / np.minimum(*(stretch[picture, np.clip(side.astype(int), 0, h - 1)] for side in (top, bottom)))
        left, right = (side[..., 0] - view.u0[:, None] for side in (self.low, self.high))
        left, right = np.minimum(left, left * grow), np.maximum(right, right * grow)
        cols = _windows((left - u[:, :1]) * scale - 1, (right - u[:, :1]) * scale + 2, w)
        return zip(rows, cols, strict=True)

    def hit(self, p, u, v):
        """Where rays meet solid p. u (B, th, tw), v (B, th, 1).

        Returns six arrays (B, th, tw): the depth to compare, the depth, the place along the solid, and the gradient's
        three parts. Written in place: this is where the time goes.
        """
        stretch, dw, length = (each[:, p, None, None] for each in (self.stretch, self.dw, self.length))
        (xu, xv, x0), (yu, yv, y0), (wu, wv, w0) = (each[:, :, p, None, None] for each in (self.x, self.y, self.w))
        r0, dr, pace = self.r0[:, p, None, None], self.dr[p], self.pace[:, None, None]
        x = xu * u + (xv * v + x0)
        y = yu * u + (yv * v + y0)
        m = np.maximum(length**2 - dr * dr, np.float32(1e-7))
        half = length * x
        half += r0 * dr
        y2 = y * y
        # dw t + sqrt((r0 + dr t)^2 - y^2 - (x - length t)^2) is highest at
        #     t = half / m + dw sqrt((half^2 + m (r0^2 - y^2 - x^2)) / (dw^2 + m)) / m
        t = half * half
        q = x * x
        q += y2
        np.subtract(r0 * r0, q, out=q)
        q *= m
        t += q
        np.maximum(t, 0, out=t)
        np.sqrt(t, out=t)
        t *= dw / (m * np.sqrt(dw**2 + m))
        half /= m
        t += half
        past = (t - 1) * (length / pace) if self.cut[p] else None  # pixels beyond the hem
        np.maximum(t, 0, out=t)
        np.minimum(t, 1, out=t)
        x -= np.multiply(length, t, out=half)
        r = np.multiply(dr, t, out=half)
        r += r0
        np.multiply(x, x, out=q)
        q += y2
        share = np.sqrt(q)  # the distance between ray and centre
        np.multiply(r, r, out=y2)
        y2 -= q
        w = np.sqrt(np.maximum(y2, 0, out=y2), out=y2)
        np.subtract(r, share, out=share)
        share /= pace
        share += 1  # 1 and more: the pixel is filled
        if past is not None:
            np.minimum(share, 1 - past, out=share)
        s = dw * t
        s += w
        s -= wu * u
        s -= wv * v + w0
        s /= stretch
        near = np.where(share >= 1, s, share + np.float32(FRINGE))
        near[share <= 0] = NOTHING
        return near, s, t, x, y, w


def _windows(low, high, size):
    """P windows of pixel numbers (B, length): for every picture as long as the longest needs to hold [low, high]."""
    low, high = (np.clip(edge, 0, size - 1).astype(int) for edge in (low, high))
    lengths = (high - low).max(0) + 1
    return [np.minimum(low[:, p], size - n)[:, None] + np.arange(n) for p, n in enumerate(lengths.tolist())]

"""What a world of Plaza consists of: who is seen where, how often, and what the pictures are called."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from numbers import Integral, Real

from .base import DatasetError
from .people import stream
from .rendering import Shot

VERSION = 2  # of the pictures: a world made by another version is another world
STRANGERS = 10_000  # pids from here on are the people of the distractors


@dataclass(frozen=True)
class Plan:
    """What to render. Ranges (low, high) include both ends.

    gap             0 … 1: how much the cameras differ
    world           which people and cameras: any whole number from 0
    train_ids, test_ids   identities of either split, at least 2
    cameras         2 … 9 (names carry one digit, and common readers read one)
    cameras_per_id  how many cameras see a person; by default 3 … 6 (or all, where there are fewer)
    tracklets       passages per person and camera        images   pictures per person and camera, without the query
    distractors     pid 0 in the gallery: passers-by nobody asks for, and boxes around nothing
    junk            pid -1 in the gallery: boxes that cut a test person; by default one per two test identities
    height          of the images, in pixels; they are half as wide
    layout          "market1501", or "cuhk03" (see `plaza_cuhk03`)
    """

    gap: float = 1.0
    world: int = 0
    train_ids: int = 100
    test_ids: int = 200
    cameras: int = 6
    cameras_per_id: tuple[int, int] | None = None
    tracklets: tuple[int, int] = (1, 2)
    images: tuple[int, int] = (2, 5)
    distractors: int = 0
    junk: int | None = None
    height: int = 128
    layout: str = "market1501"

    def __post_init__(self):
        market = self.layout == "market1501"
        if self.layout not in ("market1501", "cuhk03"):
            raise DatasetError(f"plaza: layout must be 'market1501' or 'cuhk03'; got {self.layout!r}")
        if isinstance(self.gap, bool) or not isinstance(self.gap, Real) or not 0 <= self.gap <= 1:
            raise DatasetError(f"plaza: gap must be a number from 0 (cameras alike) to 1; got {self.gap!r}")
        cameras = _whole("cameras", self.cameras, 2, 9 if market else 10)
        seen = self.cameras_per_id or (min(3, cameras), min(6, cameras))
        test_ids = _whole("test_ids", self.test_ids, 2, 4_999)
        junk = (test_ids // 2 if market else 0) if self.junk is None else self.junk
        checked = {
            "gap": float(self.gap),
            "world": _whole("world", self.world, 0, 2**32 - 1),
            "train_ids": _whole("train_ids", self.train_ids, 2, 4_999),
            "test_ids": test_ids,
            "cameras": cameras,
            "cameras_per_id": _range("cameras_per_id", seen, 1, cameras),
            "tracklets": _range("tracklets", self.tracklets, 1, 9),
            "images": _range("images", self.images, 1, 99 if market else 5),
            "distractors": _whole("distractors", self.distractors, 0, 1_000_000),
            "junk": _whole("junk", junk, 0, 1_000_000),
            "height": _whole("height", self.height, 32, 1_024),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.cameras_per_id[1] < 2:
            raise DatasetError("plaza: with cameras_per_id at most 1, nobody has a match in another camera")
        if self.height % 2:
            raise DatasetError(f"plaza: height must be even (images are half as wide); got {self.height}")
        if not market and (cameras % 2 or self.distractors or junk):
            raise DatasetError("plaza: the cuhk03 layout has pairs of cameras, and neither distractors nor junk")

    @property
    def key(self) -> str:
        """A folder name: what people look for in it, and a hash of everything."""
        digest = hashlib.sha256(repr((VERSION, sorted(asdict(self).items()))).encode()).hexdigest()[:8]
        kind = "" if self.layout == "market1501" else f"{self.layout}-"
        size = f"c{self.cameras}-{self.train_ids}+{self.test_ids}-h{self.height}"
        return f"{kind}w{self.world}-g{self.gap:g}-{size}-{digest}"

    @property
    def train_pids(self) -> range:
        return range(1, 2 * self.train_ids, 2)

    @property
    def test_pids(self) -> range:
        return range(2, 2 * self.test_ids + 1, 2)

    def cameras_of(self, pid: int) -> list[int]:
        """The cameras that see a person, from 0."""
        rng = stream(self.world, "presence", pid)
        low, high = self.cameras_per_id
        return sorted(int(c) for c in rng.permutation(self.cameras)[: rng.integers(low, high + 1)])

    def visit(self, pid: int, cam: int) -> list[tuple[Shot, int]]:
        """The pictures of a person under a camera, each with its frame number; the last is the query's."""
        rng = stream(self.world, "visit", pid, cam)
        count = int(rng.integers(self.images[0], self.images[1] + 1))
        passages = min(int(rng.integers(self.tracklets[0], self.tracklets[1] + 1)), count)
        first = [1 + 25 * int(rng.integers(1, 3_000)) for _ in range(passages)]
        shots, seen = [], [0] * passages
        for image, passage in enumerate([*sorted(i % passages for i in range(count)), 0]):
            shots.append((Shot(cam, passage, image), first[passage] + 25 * seen[passage]))
            seen[passage] += 1
        return shots


@dataclass(frozen=True)
class Job:
    """Pictures of one person, and the files they go into."""

    pid: int
    shots: tuple[Shot, ...]
    files: tuple[str, ...]

    def without(self, there: set[str]) -> "Job":
        """Only the pictures whose files are not there."""
        if there.isdisjoint(self.files):
            return self
        left = [i for i, file in enumerate(self.files) if file not in there]
        return Job(self.pid, tuple(self.shots[i] for i in left), tuple(self.files[i] for i in left))


def market_jobs(plan: Plan) -> Iterator[Job]:
    """Every picture of a world in Market-1501's layout."""
    for pid in plan.train_pids:
        yield _job(pid, _named(plan, pid, "bounding_box_train"))
    for pid in plan.test_pids:
        yield _job(pid, _named(plan, pid, "bounding_box_test", "query"))
    test = plan.test_pids
    for start in range(0, plan.junk, 8):
        rows = []
        pid = test[start // 8 % len(test)]
        cams = plan.cameras_of(pid)
        for i in range(start, min(start + 8, plan.junk)):
            cam = cams[i % len(cams)]
            rows.append(
                (Shot(cam, i % 2, 1_000 + i, "off"), f"bounding_box_test/-1_c{cam + 1}s1_{1 + 25 * i:06d}_01.jpg")
            )
        yield _job(pid, rows)
    for start in range(0, plan.distractors, 8):
        rng = stream(plan.world, "distractor", start // 8)
        rows = []
        for i in range(start, min(start + 8, plan.distractors)):
            cam = int(rng.integers(plan.cameras))
            crop = ("box", "empty", "off", "box")[i % 4]
            rows.append((Shot(cam, i % 3, i, crop), f"bounding_box_test/0000_c{cam + 1}s1_{1 + 25 * i:06d}_01.jpg"))
        yield _job(STRANGERS + start // 8, rows)


def _job(pid, rows) -> Job:
    return Job(pid, *map(tuple, zip(*rows, strict=True)))


def _named(plan, pid, folder, query=None):
    cams = plan.cameras_of(pid)
    for cam in cams:
        *visits, last = plan.visit(pid, cam)
        for shot, frame in visits:
            yield shot, f"{folder}/{pid:04d}_c{cam + 1}s{shot.tracklet + 1}_{frame:06d}_{1 + shot.image % 3:02d}.jpg"
        if query and len(cams) > 1:
            shot, frame = last
            tight = Shot(cam, shot.tracklet, shot.image, "tight")
            yield tight, f"{query}/{pid:04d}_c{cam + 1}s{shot.tracklet + 1}_{frame:06d}_00.jpg"


def _whole(name, value, low, high) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        raise DatasetError(f"plaza: {name} must be a whole number from {low:,} to {high:,}; got {value!r}")
    return int(value)


def _range(name, value, low, high) -> tuple[int, int]:
    try:
        first, last = (_whole(name, edge, low, high) for edge in value)
        if first <= last:
            return first, last
    except (TypeError, ValueError):
        pass
    raise DatasetError(f"plaza: {name} must be a pair, {low} <= low <= high <= {high}; got {value!r}") from None

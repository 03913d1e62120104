"""Tiny benchmarks on disk, each in its real layout; the images are noise of a few pixels."""

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000776_01.jpg", "0007_c3s3_077419_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c2s1_000551_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c1s1_001051_03.jpg",
        "0001_c2s1_000301_01.jpg",
        "0003_c3s1_000551_02.jpg",
    ],
    "gt_bbox": [
        "0001_c1s1_001051_00.jpg",
        "0001_c1s1_001076_00.jpg",
        "0001_c2s1_000301_00.jpg",
        "0002_c1s1_000451_00.jpg",
    ],
}
DUKE = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0005_c8_f0052465.jpg"],
    "query": ["0002_c1_f0044158.jpg"],
    "bounding_box_test": ["0002_c2_f0047842.jpg", "0006_c2_f0083341.jpg"],
}
MSMT = {
    "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_001_15_0114noon_0008_1_ex.jpg 1"],
    "val": ["0000/0000_002_03_0113afternoon_1009_0.jpg 0"],
    "query": ["0000/0000_000_01_0303morning_0015_0.jpg 0"],
    "gallery": ["0000/0000_001_02_0303morning_0016_0.jpg 0", "0001/0001_000_07_0302noon_0600_2.jpg 1"],
}
PERSONS = (3, 2, 1, 1, 1)  # of CUHK03, in each pair of cameras


def image(path, width=4, height=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = np.frombuffer(path.name.encode(), np.uint8)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folders(root, parts):
    """Folders of images, as Market-1501, DukeMTMC-reID and CUHK03-NP have them; returns `root`."""
    for part, names in parts.items():
        (root / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            image(root / part / name)
    return root


def msmt17(root, train="train", test="test", lists=MSMT):
    for name, lines in lists.items():
        for line in lines:
            image(root / (train if name in ("train", "val") else test) / line.rsplit(maxsplit=1)[0])
        (root / f"list_{name}.txt").write_text("".join(line + "\n" for line in lines))
    return root


def cuhk_views(pair, person):
    """Which of a person's ten cells hold an image here: both views, not always the same number."""
    return [0, 1, 5] if (pair + person) % 2 else [0, 5, 6]


def cuhk_pixels(pair, person, index):
    """(height, width, 3) uint8, no two alike, taller than wide."""
    rng = np.random.default_rng([pair, person, index])
    return rng.integers(0, 256, (9 + index, 4, 3), dtype=np.uint8)


def cuhk03(root):
    """cuhk-03.mat as MATLAB 7.3 writes it, and the new protocol's two files as MATLAB 5 does."""
    release = root / "cuhk03_release"
    release.mkdir(parents=True)
    with h5py.File(release / "cuhk-03.mat", "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def cell(value, **attributes):
            data = refs.create_dataset(f"{len(refs):06d}", data=value)
            data.attrs.update(attributes)
            return data.ref

        def cells(array):  # an array of references
            return np.array(array, dtype=h5py.ref_dtype)

        for boxes in ("labeled", "detected"):
            pairs = []
            for pair, persons in enumerate(PERSONS, 1):
                people = np.empty((10, persons), dtype=h5py.ref_dtype)
                for index, person in np.ndindex(10, persons):
                    if index in cuhk_views(pair, person + 1):
                        people[index, person] = cell(cuhk_pixels(pair, person + 1, index).T)  # (3, width, height)
                    else:
                        people[index, person] = cell(np.zeros(2, np.uint64), MATLAB_empty=np.uint8(1))
                pairs.append(cell(people))
            file.create_dataset(boxes, data=cells([pairs]))  # (1, 5)
        # MATLAB: persons by 2, each row a pair and a person
        splits = [np.array([[1, 1], [2, 2]]), np.array([[1, 3], [1, 1], [2, 1]])]
        file.create_dataset("testsets", data=cells([[cell(split.T.astype(float)) for split in splits]]))  # (1, 2)
    with open(release / "cuhk-03.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(116))

    names, labels = [], []
    people = [(pair, person) for pair, persons in enumerate(PERSONS, 1) for person in range(1, persons + 1)]
    for label, (pair, person) in enumerate(people, 1):
        for index in cuhk_views(pair, person):
            names.append(f"{pair}_{person:03d}_{index // 5 + 1}_{index + 1:02d}.png")
            labels.append(label)
    column = np.array(labels)[:, None]
    train = [row for row, label in enumerate(labels, 1) if label in (2, 5, 6)]
    query = [
        row for row, label in enumerate(labels, 1) if label in (1, 4) and names[row - 1][6:] in ("1_01.png", "2_06.png")
    ]
    gallery = [row for row, label in enumerate(labels, 1) if label in (1, 4) and row not in query]
    for boxes in ("labeled", "detected"):
        savemat(
            root / f"cuhk03_new_protocol_config_{boxes}.mat",
            {
                "filelist": np.array([[name] for name in names], dtype=object),
                "labels": column,
                "camId": np.array([[int(name[6])] for name in names]),
                "train_idx": np.array(train)[:, None],
                "query_idx": np.array(query)[:, None],
                "gallery_idx": np.array(gallery)[:, None],
            },
        )
    return root

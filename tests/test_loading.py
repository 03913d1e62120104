"""Loading: each augmentation against a plain loop over pixels; batches as pure functions of (seed, epoch, position)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.loading import MEAN, STD, Augment, Batches, Draws, RandomCrop, normalise
from reidkit.samplers import PKSampler, ShuffleSampler

SIZE = (16, 8)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_normalise_by_the_definition():
    images = noise(3, *SIZE, 3)
    ours = normalise(torch.from_numpy(images))
    expected = (torch.from_numpy(images).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert ours.shape == (3, 3, *SIZE)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours.permute(0, 2, 3, 1).double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(normalise(images), ours, atol=0, rtol=0)
    images.flags.writeable = False  # as in the memmap: no warning, nothing written
    torch.testing.assert_close(normalise(images[1:]), ours[1:], atol=0, rtol=0)


@pytest.mark.parametrize("wrong", [noise(2, 3, 16, 8), noise(16, 8, 3), np.zeros((1, 4, 4, 3), np.float32)])
def test_normalise_refuses_other_layouts(wrong):
    with pytest.raises(ValueError, match=r"\(N, H, W, 3\) uint8"):
        normalise(torch.from_numpy(wrong))


def by_loop(image, flip, shift, box):
    """Definition, a pixel at a time: shift with black coming in, mirror, normalise, erase."""
    height, width, _ = image.shape
    result = np.zeros((3, height, width))
    for y in range(height):
        for x in range(width):
            down, right = y - shift[0], (width - 1 - x if flip else x) - shift[1]
            inside = 0 <= down < height and 0 <= right < width
            colour = image[down, right] / 255 if inside else np.zeros(3)
            erased = box[0] <= y < box[0] + box[2] and box[1] <= x < box[1] + box[3]
            result[:, y, x] = 0 if erased else (colour - MEAN) / STD
    return result


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(4, 9), st.integers(3, 9))
@settings(max_examples=25)
def test_apply_equals_the_plain_loop(seed, pad, height, width):
    images, rng = noise(6, height, width, 3), np.random.default_rng(seed)
    augment = Augment(flip=0.5, pad=pad, erase=0.6)
    rows = rng.integers(0, 6, 5)
    draws = augment.draw(rng, 5, (height, width))
    ours = augment.apply(images, rows, draws)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    expected = [by_loop(images[row], *choice) for row, *choice in zip(rows, *draws, strict=True)]
    np.testing.assert_allclose(ours.numpy(), np.stack(expected), atol=2e-6)


def test_apply_by_hand():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, :, :, 0] = [[1, 2], [3, 4]]
    box = np.zeros((1, 4), np.int64)

    def red(flip, shift):
        draws = Draws(np.array([flip]), np.array([shift]), box)
        values = Augment().apply(images, np.array([0]), draws)[0, 0] * float(STD[0]) + float(MEAN[0])
        return (values * 255).round().int().tolist()

    assert red(False, (0, 0)) == [[1, 2], [3, 4]]
    assert red(True, (0, 0)) == [[2, 1], [4, 3]]
    assert red(False, (1, 0)) == [[0, 0], [1, 2]]
    assert red(False, (-1, 1)) == [[0, 3], [0, 0]]
    assert red(True, (0, 1)) == [[1, 0], [3, 0]]
    assert red(False, (2, 0)) == [[0, 0], [0, 0]]


def test_apply_does_not_touch_the_pixels():
    images = noise(4, *SIZE, 3)
    images.flags.writeable = False
    before = images.copy()
    augment = Augment(flip=1, pad=2, erase=1)
    augment.apply(images, np.arange(4), augment.draw(np.random.default_rng(0), 4, SIZE))
    np.testing.assert_array_equal(images, before)


def test_draws_follow_their_probabilities_and_limits():
    n, (height, width) = 20_000, (256, 128)
    flip, shift, box = Augment(flip=0.3, erase=0.5).draw(np.random.default_rng(0), n, (height, width))
    assert abs(flip.mean() - 0.3) < 0.015
    counts = np.stack([np.bincount(side + 10, minlength=21) for side in shift.T]) / n
    assert np.abs(counts - 1 / 21).max() < 0.008  # uniform from -10 to 10 at height 256
    erased = box[:, 2] > 0
    assert abs(erased.mean() - 0.5) < 0.015
    assert (box[~erased] == 0).all()
    top, left, high, wide = box[erased].T
    assert min(top.min(), left.min()) == 0
    assert (top + high).max() == height
    assert (left + wide).max() == width
    share, ratio = high * wide / (height * width), high / wide
    assert share.min() > 0.019
    assert 0.35 < share.max() < 0.41
    assert 0.28 < ratio.min() < 0.32
    assert 3.2 < ratio.max() < 3.5


def test_erasing_leaves_flips_and_crops_as_they_were():
    plain = Augment().draw(np.random.default_rng(5), 50, (64, 32))
    erased = Augment(erase=1.0).draw(np.random.default_rng(5), 50, (64, 32))
    np.testing.assert_array_equal(plain.flip, erased.flip)
    np.testing.assert_array_equal(plain.shift, erased.shift)
    assert np.abs(plain.shift).max() == 2  # pad in proportion: 10 at 256, 2 at 64


def test_erasing_where_nothing_fits_leaves_images_whole():
    box = Augment(erase=1.0, erase_area=(1.0, 1.0)).draw(np.random.default_rng(0), 8, SIZE).box
    assert (box == 0).all()


WRONG = [{"flip": 1.5}, {"erase": -0.1}, {"pad": -1}]
WRONG += [{"erase_area": (-1, 2)}, {"erase_area": (0.4, 0.1)}, {"erase_ratio": (0, 1)}]


@pytest.mark.parametrize("wrong", WRONG)
def test_augment_refuses_wrong_settings_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augment(**wrong)


PIDS = np.repeat(np.arange(6), 4)
CAMIDS = np.arange(24) % 3


def batches(**changes):
    settings = {"augment": Augment(erase=0.5), "seed": 3} | changes
    return Batches(noise(24, *SIZE, 3), PIDS, CAMIDS, PKSampler(PIDS, p=4, k=2, seed=1), **settings)


def equal(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_a_batch_carries_the_right_images_and_labels():
    plain = batches(augment=Augment(flip=0, pad=0))
    found = list(plain.epoch(2))
    assert len(found) == len(plain) == 3
    for batch, rows in zip(found, plain.sampler.epoch(2), strict=True):
        np.testing.assert_array_equal(batch.rows, rows)
        np.testing.assert_array_equal(batch.pids, PIDS[rows])
        np.testing.assert_array_equal(batch.camids, CAMIDS[rows])
        assert {batch.pids.dtype, batch.camids.dtype, batch.rows.dtype} == {torch.int64}
        torch.testing.assert_close(batch.images, normalise(plain.pixels[rows]), atol=0, rtol=0)


def test_a_batch_is_a_pure_function_of_seed_epoch_and_position():
    whole = list(batches().epoch(5))
    used = batches()
    list(used.epoch(0))  # what came before does not matter
    resumed = list(used.epoch(5, skip=2))
    assert len(resumed) == 1
    assert equal(resumed[0], whole[2])
    assert not torch.equal(next(batches().epoch(6)).images, whole[0].images)
    assert not torch.equal(next(batches(seed=4).epoch(5)).images, whole[0].images)
    assert list(used.epoch(5, skip=3)) == []


def test_augmentation_varies_from_batch_to_batch_where_the_rows_do_not():
    twice = Batches(noise(4, *SIZE, 3), PIDS[:4], CAMIDS[:4], ShuffleSampler(4, batch_size=4), augment=Augment(pad=7))
    twice.sampler.epoch = lambda e: [np.arange(4)] * 2
    first, second = twice.epoch(0)
    assert not torch.equal(first.images, second.images)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_shares_of_all_processes_are_the_batch(world):
    whole = list(batches().epoch(1))
    shares = [list(batches().epoch(1, rank=rank, world=world)) for rank in range(world)]
    for position, batch in enumerate(whole):
        for name in vars(batch):
            joined = torch.cat([getattr(share[position], name) for share in shares])
            assert torch.equal(joined, getattr(batch, name))
        for share in shares:  # whole identities: two images of each
            assert (torch.unique(share[position].pids, return_counts=True)[1] == 2).all()


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ValueError, match=r"8 images in groups of 2 .* 3 processes: .* \(4\) a multiple of 3"):
        next(batches().epoch(0, rank=0, world=3))
    with pytest.raises(ValueError, match="8 processes"):  # 8 images, but only 4 identities
        next(batches().epoch(0, rank=0, world=8))
    with pytest.raises(ValueError, match="rank 2 of 2"):
        batches().epoch(0, rank=2, world=2)


def test_labels_and_sampler_may_be_replaced_between_epochs():
    pseudo = batches()
    list(pseudo.epoch(0))
    pseudo.pids = np.where(PIDS < 4, PIDS // 2, -1)
    pseudo.sampler = PKSampler(pseudo.pids, p=2, k=8, ignore=-1)
    (batch,) = pseudo.epoch(1)
    assert batch.pids.tolist() == (batch.rows // 8).tolist()
    pseudo.pids = pseudo.pids[:-1]
    with pytest.raises(ValueError, match="24 images, 23 pids and 24 camids"):
        pseudo.epoch(2)
    for wrong, words in (
        (PIDS / 2, r"0\.5"),
        (np.where(PIDS, PIDS, np.nan), "nan"),
        (np.where(PIDS, PIDS, np.inf), "inf"),
    ):
        pseudo.pids = wrong
        with pytest.raises(ValueError, match=f"pids must be integers, not {words}"):
            pseudo.epoch(2)
    pseudo.pids = PIDS.astype(object)  # a column of several kinds, say
    pseudo.epoch(2)


def test_pixels_may_be_a_memmap_an_array_or_a_tensor(tmp_path):
    noise(5, *SIZE, 3).tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, mode="r", shape=(5, *SIZE, 3))
    pids = np.array([2, 2, 1, 1, 0])

    def first(images):
        sampler = ShuffleSampler(5, batch_size=5)
        return next(Batches(images, torch.from_numpy(pids), pids.tolist(), sampler, seed=2).epoch(0))

    assert equal(first(mapped), first(np.array(mapped)))
    assert equal(first(mapped), first(torch.tensor(np.array(mapped))))


@pytest.mark.parametrize("wrong", [noise(24, 3, *SIZE), noise(24, *SIZE), np.zeros((24, *SIZE, 3))])
def test_pixels_of_another_layout_are_refused(wrong):
    with pytest.raises(ValueError, match=r"pixels must be \(N, H, W, 3\) uint8"):
        Batches(wrong, PIDS, CAMIDS, ShuffleSampler(24, batch_size=4))


def test_random_crop_by_loop():
    images, augment = noise(5, *SIZE, 3), RandomCrop(size=(12, 5), erase=0.5)
    draws = augment.draw(np.random.default_rng(0), 40, SIZE)
    assert draws.shift.min(0).tolist() == [0, 0]
    assert draws.shift.max(0).tolist() == [4, 3]
    assert (draws.box[:, 0] + draws.box[:, 2] <= 12).all()
    assert (draws.box[:, 1] + draws.box[:, 3] <= 5).all()
    rows = np.arange(40) % 5
    found = augment.apply(images, rows, draws)
    assert found.shape == (40, 3, 12, 5)
    for i, row in enumerate(rows):
        top, left = draws.shift[i]
        expected = images[row, top : top + 12, left : left + 5]
        expected = normalise((expected[:, ::-1] if draws.flip[i] else expected).copy()[None])[0]
        y, x, height, width = draws.box[i]
        expected[:, y : y + height, x : x + width] = 0
        torch.testing.assert_close(found[i], expected)


def test_random_crop_in_batches_and_its_middle():
    images = noise(6, *SIZE, 3)
    augment = RandomCrop(size=(10, 8))
    batches = Batches(images, np.arange(6) // 2, np.zeros(6), PKSampler(np.arange(6) // 2, p=2, k=2), augment=augment)
    assert next(batches.epoch(0)).images.shape == (4, 3, 10, 8)
    np.testing.assert_array_equal(augment.middle(images), images[:, 3:13])
    with pytest.raises(ValueError, match=r"a crop of \(20, 8\) out of images of \(16, 8\)"):
        RandomCrop(size=(20, 8)).draw(np.random.default_rng(0), 2, SIZE)

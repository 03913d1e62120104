"""The pictures: what they draw matches what they were given, bad input is named, and nothing leaks into matplotlib."""

import io
from functools import cache

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image

from reidkit import plots
from reidkit.plots.embeddings import MOST, identity_markers
from reidkit.plots.style import BLUE, COLOURS, GREEN, GREY, VERMILLION, text_on

N = 24
PIDS = np.repeat([2, 7, 11], 8)
CAMIDS = np.tile(np.repeat([0, 1, 3, 4], 2), 3)


def crops(count=N, height=16, width=8):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def texts(picture):
    """Every string in the picture, in drawing order."""
    return [t.get_text() for t in picture.findobj(matplotlib.text.Text) if t.get_text()]


def pixels_of(axes):
    return [np.asarray(image.get_array()) for image in axes.images]


def borders(axes):
    """Edge colours of the unfilled frames, in drawing order."""
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    return [to_rgb(p.get_edgecolor()) for p in frames]


def results(seeds=3):
    rows = [("ID", 0.50, 2.0), ("ID + CCSC", 0.60, 1.5), ("triplet", 0.55, 1.8)]
    return pd.DataFrame(
        [
            {"variant": v, "seed": s, "mAP": m + 0.01 * s, "rank1": m + 0.1, "camera_bias": b, "error": None}
            for v, m, b in rows
            for s in range(seeds)
        ]
    )


def over_the_dial():
    return pd.concat([results().assign(gap=gap, mAP=lambda f: f["mAP"] - 0.1 * gap) for gap in (0.0, 0.5, 1.0)])  # noqa: B023


def history(steps=40, terms=("id", "ccsc")):
    frame = pd.DataFrame({"step": np.arange(steps), "epoch": np.arange(steps) // 10, "lr": 1e-3})
    for i, term in enumerate(("loss", *terms)):
        frame[term] = np.exp(-np.arange(steps) / 10) + i
    return frame


def cloud(shift=0.0):
    return np.random.default_rng(1).normal(size=(N, 2)) + shift


EVERY = {
    "contact_sheet": lambda: plots.contact_sheet(crops(), PIDS, CAMIDS),
    "dial": lambda: plots.dial({0: crops(), 1: crops()}, PIDS, CAMIDS),
    "ranked_lists": lambda: plots.ranked_lists(crops(2), crops(), [[0, 1], [2, 3]], [[True, False], [False, True]]),
    "protocol_picture": lambda: plots.protocol_picture(crops(1)[0], crops(2), ["junk", "right"]),
    "activation_overlay": lambda: plots.activation_overlay(crops(2), np.arange(16.0).reshape(2, 4, 2)),
    "embedding_map": lambda: plots.embedding_map(cloud(), PIDS, CAMIDS),
    "embedding_map with crops": lambda: plots.embedding_map(cloud(), PIDS, CAMIDS, crops=crops()),
    "embedding_maps": lambda: plots.embedding_maps({"a": cloud(), "b": cloud(3)}, PIDS, CAMIDS),
    "loss_curves": lambda: plots.loss_curves(history()),
    "ablation_chart": lambda: plots.ablation_chart(results(), reported={"ID": 0.7}),
    "dial_chart": lambda: plots.dial_chart(over_the_dial()),
    "cmc_curve": lambda: plots.cmc_curve(np.linspace(0.5, 1, 30)),
    "camera_pair_heatmap": lambda: plots.camera_pair_heatmap(np.full((3, 3), 0.5)),
    "identities_per_camera": lambda: plots.identities_per_camera(PIDS, CAMIDS),
    "images_per_identity": lambda: plots.images_per_identity(PIDS, CAMIDS),
    "similarity_histogram": lambda: plots.similarity_histogram(np.random.default_rng(0).random((N, N)), PIDS, CAMIDS),
    "pipeline": lambda: plots.pipeline(crops(), ["backbone", "neck"], ["loss"]),
    "association_graph": lambda: plots.association_graph(crops(3), [1, 1, 2], [0, 1, 0], [[0, 1]]),
}


@cache
def drawn(name):
    """(picture, what a notebook stores of it), drawn once for all the tests that only look."""
    picture = EVERY[name]()
    return picture, picture.stored()


# ---- every picture ----------------------------------------------------------------------------------------------


def test_every_function_of_the_package_is_drawn_below():
    drawn = {name.split()[0] for name in EVERY}
    assert drawn == set(plots.__all__) - {"Picture", "camera_colours"}


@pytest.mark.parametrize("name", EVERY)
def test_nothing_leaks(name):
    settings, figures = dict(matplotlib.rcParams), plt.get_fignums()
    picture = EVERY[name]()
    bundle = picture.stored()
    assert dict(matplotlib.rcParams) == settings
    assert plt.get_fignums() == figures
    kind = next(k for k in bundle if k.startswith("image/"))
    width, height = Image.open(io.BytesIO(bundle[kind])).size
    assert 250 < width <= 9.01 * 96
    assert height > 150


@pytest.mark.parametrize("name", EVERY)
def test_looks_the_same_whatever_the_session_set(name):
    """Ticks and fonts come from the kit's style even when the picture is drawn later, under other settings."""
    _, usual = drawn(name)
    with matplotlib.rc_context({"font.size": 25, "xtick.labelsize": 30, "axes.facecolor": "red", "legend.fontsize": 3}):
        other = EVERY[name]().stored()
    kind = next(iter(usual))
    first, second = (np.asarray(Image.open(io.BytesIO(b[kind])).convert("RGB")) for b in (usual, other))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", EVERY)
def test_every_letter_is_legible(name):
    sizes = [t.get_fontsize() for t in drawn(name)[0].findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes, default=8) >= 8


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_cut_off(name):
    picture, _ = drawn(name)
    ink = picture.get_tightbbox()  # inches, everything visible
    width, height = picture.get_size_inches()
    assert ink.x0 > -0.02
    assert ink.y0 > -0.02
    assert ink.x1 < width + 0.02
    assert ink.y1 < height + 0.02


def test_a_notebook_shows_a_picture_once(monkeypatch):
    """One output in one format, also where matplotlib's inline backend has registered its own for every figure."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(matplotlib.figure.Figure, lambda figure: b"inline")
    assert formatter.format(EVERY["contact_sheet"]()) == ({}, {})
    ((data, raw),) = shown
    assert raw
    assert list(data) == ["image/jpeg", "text/plain"]


def test_photographs_are_jpeg_and_charts_are_png():
    assert "image/jpeg" in drawn("contact_sheet")[1]
    assert "image/png" in drawn("ablation_chart")[1]
    assert "image/png" in drawn("camera_pair_heatmap")[1]


# ---- colours and words ------------------------------------------------------------------------------------------


def test_a_camera_keeps_its_colour():
    assert plots.camera_colours([3, 3, 1]) == {1: to_rgb(COLOURS[1]), 3: to_rgb(COLOURS[3])}
    assert plots.camera_colours([3])[3] == plots.camera_colours(range(6))[3]


def test_cameras_beyond_eight_have_colours_of_their_own():
    assert len(set(plots.camera_colours(range(15)).values())) == 15  # MSMT17
    assert len(set(plots.camera_colours(range(24)).values())) == 24
    assert set(plots.camera_colours([7, 500])) == {7, 500}
    with pytest.raises(ValueError, match="25 cameras"):
        plots.camera_colours(range(25))


def test_text_on_a_colour_can_be_read():
    assert text_on("white") != "white"
    assert text_on("black") == "white"


def test_identities_have_markers_of_their_own_up_to_a_limit():
    markers = identity_markers([5, 5, 3, *range(100, 100 + MOST - 2)])
    assert list(markers)[:2] == [3, 5]
    assert len(set(markers.values())) == MOST
    with pytest.raises(ValueError, match=f"{MOST + 1} identities.*crops"):
        identity_markers(range(MOST + 1))


# ---- people -----------------------------------------------------------------------------------------------------


def test_contact_sheet_shows_each_person_under_each_camera():
    images = crops()
    picture = plots.contact_sheet(images, PIDS, CAMIDS, people=[7, 2], per_camera=1, title="Plaza")
    (axes,) = picture.axes
    expected = [images[np.flatnonzero((p == PIDS) & (c == CAMIDS))[0]] for p in (7, 2) for c in (0, 1, 3, 4)]
    np.testing.assert_array_equal(pixels_of(axes), expected)
    headers = [p for p in axes.patches if p.get_fill()]
    assert [to_rgb(h.get_facecolor()) for h in headers] == [to_rgb(COLOURS[c]) for c in (0, 1, 3, 4)]
    words = texts(picture)
    assert [w for w in words if w.startswith(("c1", "c2", "c4", "c5", "camera"))] == [
        f"camera {c}" for c in (1, 2, 4, 5)
    ]
    assert [w for w in words if w.startswith("person")] == ["person 7", "person 2"]
    assert "Plaza" in words


def test_contact_sheet_says_who_was_not_seen_and_leaves_junk_out():
    keep = np.flatnonzero((PIDS != 7) | (CAMIDS != 3))
    images, pids, camids = crops()[keep], PIDS[keep], CAMIDS[keep]
    pids = np.where(pids == 2, -1, pids)
    picture = plots.contact_sheet(images, pids, camids, people=2)
    words = texts(picture)
    assert words.count("not\nseen") == 1
    assert [w for w in words if w.startswith("person")] == ["person 7", "person 11"]
    assert len(picture.axes[0].images) == 2 * 4 * 2 - 2


def test_contact_sheet_prefers_people_whom_most_cameras_saw():
    pids, camids = np.array([1, 1, 2, 2, 3, 3, 4, 4, 4]), np.array([0, 0, 0, 1, 1, 1, 0, 1, 2])
    words = texts(plots.contact_sheet(crops(9), pids, camids, people=2))
    assert [w for w in words if w.startswith("person")] == ["person 2", "person 4"]


def test_columns_of_a_filtered_frame_are_read_by_position():
    frame = pd.DataFrame({"pid": PIDS, "camid": CAMIDS}, index=np.arange(N) + 1000)
    plots.contact_sheet(crops(), frame["pid"], frame["camid"])
    plots.embedding_map(cloud(), frame["pid"], frame["camid"], crops=crops())
    plots.identities_per_camera(frame["pid"], frame["camid"])
    two = frame["camid"].iloc[[0, 6]]
    picture = plots.ranked_lists(
        crops(2), crops(), [[0], [1]], [[True], [True]], query_camids=two, gallery_camids=frame["camid"]
    )
    assert [w for w in texts(picture) if w[0] == "c"] == ["c1", "c1", "c5", "c1"]
    protocol = plots.protocol_picture(crops(1)[0], crops(2), ["right", "wrong"], camids=two)
    assert [w for w in texts(protocol) if w[0] == "c"] == ["c1", "c5"]


def test_contact_sheet_takes_floats_and_crops_of_other_proportions():
    mixed = [np.full((20, 5, 3), 0.5), np.full((8, 12, 3), 0.2)]
    picture = plots.contact_sheet(mixed, [1, 1], [0, 1])
    for image, extent in zip(mixed, (i.get_extent() for i in picture.axes[0].images), strict=True):
        drawn = (extent[2] - extent[3]) / (extent[1] - extent[0])  # y runs downwards
        assert drawn == pytest.approx(image.shape[0] / image.shape[1])


def test_dial_puts_the_settings_of_one_person_under_each_other():
    images = {0: crops(), 0.5: 255 - crops(), 1: crops() // 2}
    picture = plots.dial(images, PIDS, CAMIDS, people=[11], per_camera=1)
    first = np.flatnonzero((PIDS == 11) & (CAMIDS == 0))[0]
    np.testing.assert_array_equal(pixels_of(picture.axes[0])[::4], [im[first] for im in images.values()])
    assert [w for w in texts(picture) if "gap" in w] == ["person 11\ngap 0", "gap 0.5", "gap 1"]


def test_ranked_lists_marks_right_and_wrong_twice_over():
    queries, gallery = crops(2), 255 - crops()
    ranking, relevant = np.array([[4, 9, 1], [0, 23, -1]]), np.array([[True, False, True], [False, True, False]])
    picture = plots.ranked_lists(
        queries, gallery, ranking, relevant, query_camids=[0, 3], gallery_camids=CAMIDS, labels=["AP 83 %", "AP 50 %"]
    )
    (axes,) = picture.axes
    expected = [queries[0], *gallery[[4, 9, 1]], queries[1], *gallery[[0, 23]]]  # -1 leaves its place empty
    np.testing.assert_array_equal(pixels_of(axes), expected)
    want = [BLUE, GREEN, VERMILLION, GREEN, BLUE, VERMILLION, GREEN]
    assert borders(axes) == [to_rgb(c) for c in want]
    words = texts(picture)
    assert [w for w in words if w in "✓✗"] == ["✓", "✗", "✓", "✗", "✓"]
    cams = ["c1", *(f"c{c + 1}" for c in CAMIDS[[4, 9, 1]]), "c4", *(f"c{c + 1}" for c in CAMIDS[[0, 23]])]
    assert [w for w in words if w[0] == "c"] == cams
    assert {"query", "rank 1", "rank 3", "AP 83 %"} <= set(words)


@pytest.mark.parametrize("label", ["AP 8 %", "observatory\n2\nAP 3 %", "WWWWWWWW"])
def test_ranked_lists_makes_room_for_its_labels(label):
    picture = plots.ranked_lists(crops(1), crops(), [[0, 1]], [[False, True]], labels=[label])
    (text,) = (text for text in picture.axes[0].texts if text.get_text() == label)
    picture.draw_without_rendering()
    extent = text.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= picture.axes[0].images[0].get_window_extent().x0


def test_ranked_lists_sets_models_side_by_side():
    ranks = {"baseline": [[0, 1]], "CCSC": [[2, 3]]}
    picture = plots.ranked_lists(crops(1), crops(), ranks, {"baseline": [[False, False]], "CCSC": [[True, True]]})
    assert borders(picture.axes[0]) == [to_rgb(c) for c in (BLUE, VERMILLION, VERMILLION, GREEN, GREEN)]
    lefts = [image.get_extent()[0] for image in picture.axes[0].images]
    assert lefts == sorted(lefts)
    assert {"baseline", "CCSC"} <= set(texts(picture))


def test_protocol_gives_junk_no_rank_and_counts_precision():
    statuses = ["junk", "right", "wrong", "right", "junk", "right"]
    picture = plots.protocol_picture(crops(1)[0], crops(6), statuses, query_camid=0, camids=[0, 1, 3, 4, 0, 1])
    (axes,) = picture.axes
    colours = [BLUE, GREY, GREEN, VERMILLION, GREEN, GREY, GREEN]
    assert borders(axes) == [to_rgb(c) for c in colours]
    captions = [w for w in texts(picture) if "rank" in w]
    assert captions == [
        "junk\nno rank",
        "rank 1\nprecision 1/1",
        "rank 2",
        "rank 3\nprecision 2/3",
        "junk\nno rank",
        "rank 4\nprecision 3/4",
    ]
    grey = pixels_of(axes)[1]
    np.testing.assert_allclose(grey[..., 0], grey[..., 2])  # no colour left
    assert grey.min() >= 0.6


def test_activation_overlay_has_one_scale_a_row():
    maps = {"V": np.arange(16.0).reshape(2, 4, 2), "I": 10 * np.arange(16.0).reshape(2, 4, 2) - 5}
    picture = plots.activation_overlay(crops(2), maps, labels=["a", "b"], quantity="mean response")
    board, *bars = picture.axes
    assert len(bars) == 2
    overlays = [i for i in board.images if i.get_array().ndim == 2]
    assert [i.norm.vmax for i in overlays] == [15, 15, 145, 145]
    assert [i.norm.vmin for i in overlays] == [0, 0, -5, -5]
    np.testing.assert_array_equal(overlays[3].get_array(), maps["I"][1])
    crops_under = [i for i in board.images if i.get_array().ndim == 3][2:]
    assert [i.get_extent() for i in overlays] == [i.get_extent() for i in crops_under]
    assert [bar.get_ylabel() for bar in bars] == ["mean response"] * 2


def test_activation_overlay_keeps_the_numbers_of_its_rows_apart():
    maps = dict.fromkeys("VI", np.linspace(0, 0.6, 16).reshape(2, 4, 2))  # a number at either end of the scale
    picture = plots.activation_overlay(crops(2), maps)
    picture.draw_without_rendering()
    _, upper, lower = picture.axes
    assert upper.get_ylim() == lower.get_ylim() == (0, 0.6)
    ends = [[bar.get_yticklabels()[i].get_window_extent() for i in (0, -1)] for bar in (upper, lower)]
    assert [bar.get_yticks()[[0, -1]].tolist() for bar in (upper, lower)] == [[0, pytest.approx(0.6)]] * 2
    assert ends[0][0].y0 > ends[1][1].y1


def test_activation_overlay_of_a_dead_map_still_draws():
    plots.activation_overlay(crops(1), np.zeros((1, 4, 2))).stored()


# ---- embeddings -------------------------------------------------------------------------------------------------


def test_embedding_map_colour_is_camera_and_marker_is_identity():
    points = cloud()
    picture = plots.embedding_map(points, PIDS, CAMIDS, title="baseline")
    (axes,) = picture.axes
    assert [c.get_label() for c in axes.collections] == ["2", "7", "11"]
    for pid, collection in zip((2, 7, 11), axes.collections, strict=True):
        np.testing.assert_array_equal(collection.get_offsets(), points[pid == PIDS])
        expected = [to_rgb(COLOURS[c]) for c in CAMIDS[pid == PIDS]]
        assert [to_rgb(c) for c in collection.get_facecolors()] == expected
    shapes = [c.get_paths()[0].vertices.tobytes() for c in axes.collections]
    assert len(set(shapes)) == 3
    cameras, people = picture.legends
    assert [t.get_text() for t in cameras.get_texts()] == ["c1", "c2", "c4", "c5"]
    handles = [to_rgb(h.get_markerfacecolor()) for h in cameras.legend_handles]
    assert handles == [to_rgb(COLOURS[c]) for c in (0, 1, 3, 4)]
    assert [t.get_text() for t in people.get_texts()] == ["2", "7", "11"]


def test_embedding_maps_share_limits_and_print_their_numbers():
    stats = {
        "ID": {"mAP": 0.59, "camera_bias": 2.04, "silhouettes": (0.38, -0.004)},
        "CCSC": {"mAP": 0.62},
    }
    picture = plots.embedding_maps({"ID": cloud(), "CCSC": cloud(9)}, PIDS, CAMIDS, stats=stats)
    first, second = picture.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    low, high = first.get_xlim()
    assert low < min(cloud()[:, 0].min(), cloud(9)[:, 0].min())
    assert high > cloud(9)[:, 0].max()
    words = texts(picture)
    assert "mAP 59 %, camera bias 2.0" in words
    assert "silhouette by identity +0.38" in words
    assert "by camera within identity +0.00" in words
    assert "mAP 62 %" in words


def test_embedding_map_past_twelve_identities_uses_hollow_markers():
    pids = np.arange(N) // 1
    picture = plots.embedding_map(cloud(), pids, CAMIDS)
    filled, hollow = picture.axes[0].collections[0], picture.axes[0].collections[12]
    assert to_rgb(filled.get_facecolors()[0]) == to_rgb(COLOURS[CAMIDS[0]])
    assert to_rgb(hollow.get_facecolors()[0]) == (1, 1, 1)
    assert to_rgb(hollow.get_edgecolors()[0]) == to_rgb(COLOURS[CAMIDS[12]])


def test_embedding_map_draws_prototypes_as_stars_and_keeps_them_in_view():
    stars = np.array([[40.0, 0.0], [0.0, 1.0]])
    picture = plots.embedding_map(cloud(), PIDS, CAMIDS, prototypes=stars)
    (axes,) = picture.axes
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), stars)
    assert axes.get_xlim()[1] > 40
    assert picture.legends[1].get_texts()[-1].get_text() == "prototype"


def test_embedding_map_tells_whose_prototypes_they_are():
    centres, looks = [[50.0, 50.0], [0.0, 1.0]], identity_markers(PIDS)
    for pictures in (None, crops()):
        picture = plots.embedding_map(cloud(), PIDS, CAMIDS, prototypes=centres, prototype_pids=[11, 2], crops=pictures)
        drawn = [c for c in picture.axes[0].collections if c.get_zorder() == 4]
        assert [c.get_offsets().tolist()[0] for c in drawn] == centres
        for collection, pid in zip(drawn, (11, 2), strict=True):
            shape = matplotlib.markers.MarkerStyle(looks[pid][0])
            expected = shape.get_path().transformed(shape.get_transform())
            assert np.allclose(collection.get_paths()[0].vertices, expected.vertices)
        assert {"2", "7", "11", "large: centre"} <= set(texts(picture))
    with pytest.raises(ValueError, match=r"prototype_pids \[5\] are not among"):
        plots.embedding_map(cloud(), PIDS, CAMIDS, prototypes=centres, prototype_pids=[5, 2])
    with pytest.raises(ValueError, match="lengths differ"):
        plots.embedding_map(cloud(), PIDS, CAMIDS, prototypes=centres, prototype_pids=[2])


def test_embedding_map_pins_crops_at_their_points():
    images, points = crops(), cloud()
    picture = plots.embedding_map(points, np.arange(N) + 100, CAMIDS, crops=images)
    (axes,) = picture.axes
    np.testing.assert_array_equal(pixels_of(axes), images)
    centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, x1, y0, y1 in (i.get_extent() for i in axes.images)]
    np.testing.assert_allclose(centres, points)
    assert borders(axes) == [to_rgb(COLOURS[c]) for c in CAMIDS]
    assert len(picture.legends) == 1


def test_embedding_map_of_one_point_has_limits():
    low, high = plots.embedding_map([[3.0, 3.0]], [1], [0]).axes[0].get_xlim()
    assert low < 3 < high


# ---- charts -----------------------------------------------------------------------------------------------------


def lines_of(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def test_loss_curves_of_one_run_show_what_was_logged_and_its_mean():
    frame = history()
    picture = plots.loss_curves(frame, smooth=3)
    assert [a.get_title() for a in picture.axes] == ["loss", "id", "ccsc"]
    raw, smooth = picture.axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), frame["loss"])
    loss = frame["loss"].to_numpy()
    assert smooth.get_ydata()[10] == pytest.approx(loss[9:12].mean())
    assert smooth.get_ydata()[0] == pytest.approx(loss[:2].mean())
    assert "mean over 3 neighbouring points" in picture.get_supxlabel()
    assert not picture.legends


@pytest.mark.parametrize(("steps", "window"), [(6, 1), (70, 7), (500, 20)])
def test_loss_curves_smooth_a_tenth_of_the_run_at_most_20_rows(steps, window):
    picture = plots.loss_curves(pd.DataFrame({"step": range(steps), "loss": np.linspace(2.0, 1.0, steps)}))
    said = picture.get_supxlabel()
    assert (f"mean over {window} neighbouring" if window > 1 else "as logged") in said


def test_loss_curves_of_seeds_are_a_mean_with_a_band():
    seeds = [history().assign(loss=lambda f, k=k: f["loss"] + k) for k in (-1.0, 0.0, 1.0)]
    picture = plots.loss_curves({"ID": seeds, "ID + CCSC": history()}, ["loss"], smooth=1)
    (axes,) = picture.axes
    (mean,) = lines_of(axes, "ID")
    np.testing.assert_allclose(mean.get_ydata(), history()["loss"])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(history()["loss"].max() + 1)  # std of -1, 0, 1 is 1
    assert [t.get_text() for t in picture.legends[0].get_texts()] == ["ID", "ID + CCSC"]
    assert "bands" in picture.get_supxlabel()


def test_loss_curves_take_a_term_that_only_one_run_has_and_a_late_one():
    late = history()
    late.loc[:19, "ccsc"] = np.nan
    picture = plots.loss_curves({"ID": history(terms=("id",)), "ID + CCSC": late}, ["ccsc"], smooth=5)
    assert not lines_of(picture.axes[0], "ID")
    (line,) = lines_of(picture.axes[0], "ID + CCSC")
    assert np.isnan(line.get_ydata()[:20]).all()
    assert np.isfinite(line.get_ydata()[20:]).all()


def test_loss_curves_by_epoch_average_the_epoch():
    picture = plots.loss_curves(history(), ["loss"], smooth=1, x="epoch")
    (line,) = picture.axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), history()["loss"].to_numpy().reshape(4, 10).mean(axis=1))


def test_ablation_chart_shows_seeds_mean_spread_and_the_reported_number():
    picture = plots.ablation_chart(results(), "mAP", reported={"ID + CCSC": 0.812})
    ours, reported = picture.axes
    dots = lines_of(ours, "one seed")
    np.testing.assert_allclose(dots[1].get_xdata(), [60, 61, 62])
    np.testing.assert_allclose(dots[1].get_ydata(), 1)
    assert lines_of(ours, "mean")[1].get_xdata() == pytest.approx([61, 61])
    assert lines_of(ours, "± 1 standard deviation")[1].get_xdata() == pytest.approx([60, 62])
    assert [t.get_text() for t in ours.get_yticklabels()] == ["ID", "ID + CCSC", "triplet"]
    low, high = ours.get_ylim()
    assert low > high  # the first row of the table stands on top
    (diamond,) = lines_of(reported, "reported in the paper")
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == pytest.approx((81.2, 1))
    assert diamond.get_marker() != dots[0].get_marker()
    assert {"61.0 ± 1.0", "81.2"} <= set(texts(picture))


def test_ablation_chart_names_failures():
    frame = results()
    frame.loc[frame["variant"] == "triplet", ["mAP", "error"]] = [np.nan, "NaN loss"]
    frame.loc[0, "mAP"] = np.nan
    picture = plots.ablation_chart(frame)
    words = texts(picture)
    assert "failed" in words
    assert "51.5 ± 0.7 (1 failed)" in words
    assert len(lines_of(picture.axes[0], "one seed")) == 2


def test_ablation_chart_of_a_first_row_that_failed_and_of_single_seeds():
    frame = results(seeds=1)
    frame.loc[0, "mAP"] = np.nan
    assert {"failed", "60.0"} <= set(texts(plots.ablation_chart(frame)))


def test_ablation_chart_has_no_negative_zero():
    frame = pd.DataFrame({"variant": ["ID"] * 2, "seed": [0, 1], "silhouette": [-0.001, -0.003]})
    assert "0.00 ± 0.00" in texts(plots.ablation_chart(frame, "silhouette"))


def test_ablation_chart_of_several_metrics():
    picture = plots.ablation_chart(results(), ["rank1", "camera_bias"], reported={"rank1": {"ID": 0.9}})
    assert [a.get_xlabel() for a in picture.axes] == ["rank-1 (%)", "rank-1 (%)", "camera bias (1 = none)"]
    assert "1.50 ± 0.00" in texts(picture)  # not a fraction: not in percent


def test_charts_say_points_for_differences_of_fractions_and_percent_for_shares():
    points = ["mAP gain", "rank1 change", "mAP below M8", "train_test_gap"]
    shares = ["mAP", "mAP gain / (1 − mAP)", "mAP_any_camera"]
    numbers = ["bias change", "silhouette_camera gap"]
    expected = [f"{name} (points)" for name in points] + [f"{name} (%)" for name in shares]
    expected += ["bias change", "silhouette camera gap"]
    frame = over_the_dial().assign(**{name: lambda f: f.mAP for name in (*points, *shares, *numbers)})
    picture = plots.dial_chart(frame, [*points, *shares, *numbers])
    assert [axes.get_ylabel() for axes in picture.axes] == expected
    heights = [lines_of(axes, "ID")[0].get_ydata()[0] for axes in picture.axes]
    np.testing.assert_allclose(heights, [51] * 7 + [0.51] * 2)


def test_dial_chart_is_a_mean_with_a_band_over_seeds():
    picture = plots.dial_chart(over_the_dial(), ["mAP", "camera_bias"])
    (line,) = lines_of(picture.axes[0], "ID")
    np.testing.assert_allclose(line.get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(line.get_ydata(), [51, 46, 41])
    top = picture.axes[0].collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(52)  # 51 + the standard deviation of 50, 51, 52
    assert [t.get_text() for t in picture.legends[0].get_texts()] == ["ID", "ID + CCSC", "triplet"]
    assert [a.get_ylabel() for a in picture.axes] == ["mAP (%)", "camera bias (1 = none)"]
    looks = {(line.get_color(), line.get_linestyle()) for line in picture.axes[0].lines if line.get_linewidth()}
    assert len(looks) == 3


def test_dial_chart_breaks_where_every_seed_failed():
    frame = over_the_dial().reset_index(drop=True)
    frame.loc[(frame["variant"] == "ID") & (frame["gap"] == 0.5), "mAP"] = np.nan
    frame.loc[frame["variant"] == "triplet", "mAP"] = np.nan
    picture = plots.dial_chart(frame)
    (line,) = lines_of(picture.axes[0], "ID (3 of 9 failed)")
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False])
    assert lines_of(picture.axes[0], "triplet (9 of 9 failed)")


def test_cmc_curve_prints_percent_and_rank_one():
    seeds = np.array([[0.5, 0.7, 0.9], [0.7, 0.9, 1.0]])
    picture = plots.cmc_curve({"ID": seeds, "CCSC": np.array([0.8, 0.9, 1.0])}, max_rank=2)
    (line,) = lines_of(picture.axes[0], "ID: rank-1 60.0 %")
    np.testing.assert_allclose(line.get_xdata(), [1, 2])
    np.testing.assert_allclose(line.get_ydata(), [60, 80])
    assert lines_of(picture.axes[0], "CCSC: rank-1 80.0 %")


# ---- counts -----------------------------------------------------------------------------------------------------


def test_heatmap_titles_what_is_off_the_diagonal():
    matrix = np.array([[1.0, 0.2, 0.4], [0.6, 1.0, np.nan], [0.4, 0.4, 1.0]])
    picture = plots.camera_pair_heatmap(matrix, "mAP", cameras=[0, 2, 5])
    axes = picture.axes[0]
    cells = np.array([20, 40, 60, 40, 40])
    assert f"mean {cells.mean():.1f}, std {cells.std():.1f}" in axes.get_title()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["c1", "c3", "c6"]
    assert axes.get_xlabel().startswith("gallery")
    assert axes.get_ylabel().startswith("query")
    values = axes.collections[0].get_array().reshape(3, 3)
    assert values[0, 2] == pytest.approx(40)  # row = query camera
    assert np.ma.getmaskarray(values)[1, 2]
    assert "–" in texts(picture)


def test_heatmaps_side_by_side_and_of_an_empty_off_diagonal():
    one = np.full((2, 2), 0.5)
    picture = plots.camera_pair_heatmap({"mAP": one, "rank1": one})
    assert [a.get_title().split("\n")[0] for a in picture.axes[:2]] == ["mAP (%)", "rank-1 (%)"]
    assert "none" in plots.camera_pair_heatmap([[0.9]]).axes[0].get_title()


def test_identities_per_camera_counts_people_not_images():
    pids = np.array([1, 1, 1, 2, 2, 3, -1])
    camids = np.array([0, 0, 1, 0, 1, 1, 4])
    left, right = plots.identities_per_camera(pids, camids).axes
    assert [bar.get_height() for bar in left.patches] == [2, 3]
    assert [to_rgb(bar.get_facecolor()) for bar in left.patches] == [to_rgb(c) for c in COLOURS[:2]]
    assert [bar.get_height() for bar in right.patches] == [1, 2]  # one person seen by one camera, two by both
    assert "1.7 on average" in right.get_title()


@pytest.mark.parametrize("most", [1, 5, 59, 60, 2800])
def test_images_per_identity_loses_nobody(most):
    pids = np.repeat([1, 2, 3], [1, most, max(most // 2, 1)])
    picture = plots.images_per_identity(pids, np.arange(len(pids)) % 2)
    people, ics = (p.get_data() for p in picture.axes[0].patches[::2])
    assert people.values.sum() == 3
    assert ics.values.sum() == len(set(zip(pids, np.arange(len(pids)) % 2, strict=True)))


def test_similarity_histogram_sorts_pairs_by_kind():
    pids, camids = np.array([1, 1, 1, 2, -1]), np.array([0, 0, 1, 0, 0])
    values = np.full((5, 5), np.nan)  # only the pairs that count need a value: each once, no junk
    values[0, 1], values[0, 2], values[1, 2] = 0.9, 0.5, 0.7
    values[0, 3], values[1, 3], values[2, 3] = 0.1, 0.2, 0.3
    words = texts(plots.similarity_histogram(values, pids, camids))
    assert "same person, same camera: 1 pairs, mean 0.90" in words
    assert "same person, other camera: 2 pairs, mean 0.60" in words
    assert "different people: 3 pairs, mean 0.20" in words


def test_similarity_histogram_has_no_negative_zero():
    words = texts(plots.similarity_histogram([[0.5, -0.001]], [1], [0], [1, 2], [1, 0]))
    assert "different people: 1 pairs, mean 0.00" in words


def test_similarity_histogram_between_query_and_gallery():
    picture = plots.similarity_histogram([[1.0, 2.0]], [1], [0], [1, 2], [1, 0], quantity="Euclidean distance")
    words = texts(picture)
    assert "same person, other camera: 1 pairs, mean 1.00" in words
    assert "different people: 1 pairs, mean 2.00" in words
    assert picture.axes[0].get_xlabel() == "Euclidean distance"


# ---- errors -----------------------------------------------------------------------------------------------------

BAD = {
    "images 24, pids 23": lambda: plots.contact_sheet(crops(), PIDS[1:], CAMIDS),
    r"no image of \[99\]": lambda: plots.contact_sheet(crops(), PIDS, CAMIDS, people=[2, 99]),
    r"\(H, W, 3\).*\(16, 8\)": lambda: plots.contact_sheet(crops()[..., 0], PIDS, CAMIDS),
    "images_by_gap is empty": lambda: plots.dial({}, PIDS, CAMIDS),
    "images at gap 1 23": lambda: plots.dial({0: crops(), 1: crops()[1:]}, PIDS, CAMIDS),
    "query_images 2, ranking 1": lambda: plots.ranked_lists(crops(2), crops(), [[0]], [[True]]),
    r"\(1, 2\) and relevant \(1, 1\)": lambda: plots.ranked_lists(crops(1), crops(), [[0, 1]], [[True]]),
    "row 24 of a gallery of 24": lambda: plots.ranked_lists(crops(1), crops(), [[24]], [[True]]),
    "one of each per model": lambda: plots.ranked_lists(crops(1), crops(), {"a": [[0]]}, {"b": [[True]]}),
    "unknown status 'good'": lambda: plots.protocol_picture(crops(1)[0], crops(1), ["good"]),
    "gallery 2, statuses 1": lambda: plots.protocol_picture(crops(1)[0], crops(2), ["right"]),
    r"must be \(N, h, w\)": lambda: plots.activation_overlay(crops(2), np.zeros((2, 4))),
    "maps V hold NaN": lambda: plots.activation_overlay(crops(1), {"V": np.full((1, 2, 2), np.nan)}),
    r"points must be \(N, 2\)": lambda: plots.embedding_map(np.zeros((N, 3)), PIDS, CAMIDS),
    "points hold NaN": lambda: plots.embedding_map(np.full((N, 2), np.inf), PIDS, CAMIDS),
    "points 24, pids 23": lambda: plots.embedding_map(cloud(), PIDS[1:], CAMIDS),
    "unknown statistic 'map'": lambda: plots.embedding_map(cloud(), PIDS, CAMIDS, stats={"map": 0.5}),
    "no panel called 'B'": lambda: plots.embedding_maps({"A": cloud()}, PIDS, CAMIDS, stats={"B": {}}),
    "panels is empty": lambda: plots.embedding_maps({}, PIDS, CAMIDS),
    "no history has a term 'ccc'": lambda: plots.loss_curves(history(), ["ccc"]),
    "no column 'time'": lambda: plots.loss_curves(history(), x="time"),
    "smooth is 0": lambda: plots.loss_curves(history(), smooth=0),
    "holds no frame": lambda: plots.loss_curves({"ID": []}),
    "9 curves": lambda: plots.loss_curves({str(i): history() for i in range(9)}),
    "no column 'map'": lambda: plots.ablation_chart(results(), "map"),
    "has no rows": lambda: plots.ablation_chart(results().iloc[:0]),
    "'IDD', which the frame lacks": lambda: plots.ablation_chart(results(), reported={"IDD": 0.5}),
    "81.2: give a fraction": lambda: plots.ablation_chart(results(), reported={"ID": 81.2}),
    "metric 'mAP', which the chart lacks": lambda: plots.ablation_chart(results(), ["rank1"], reported={"mAP": {}}),
    "no column 'gap'": lambda: plots.dial_chart(results()),
    "frame has no rows": lambda: plots.dial_chart(over_the_dial().iloc[:0]),
    "the CMC ID must be": lambda: plots.cmc_curve({"ID": [55.0, 60.0]}),
    "there is no matrix": lambda: plots.camera_pair_heatmap({}),
    r"\(2, 3\) for 2 cameras": lambda: plots.camera_pair_heatmap(np.zeros((2, 3))),
    "camids 23": lambda: plots.identities_per_camera(PIDS, CAMIDS[1:]),
    "every pid is negative": lambda: plots.images_per_identity([-1, -1]),
    "pids, camids are empty": lambda: plots.images_per_identity([]),
    "come together": lambda: plots.similarity_histogram(np.zeros((N, 2)), PIDS, CAMIDS, [1, 2]),
    r"\(2, 2\), and the labels name 24 rows": lambda: plots.similarity_histogram(np.zeros((2, 2)), PIDS, CAMIDS),
    "values hold NaN": lambda: plots.similarity_histogram(np.full((N, N), np.nan), PIDS, CAMIDS),
    "leave no pair": lambda: plots.similarity_histogram([[1.0]], [1], [0]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()

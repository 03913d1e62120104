"""What the README says came out is what the stored long runs hold."""

from pathlib import Path

import pytest

from reidkit import ledger

README = (Path(__file__).parents[1] / "README.md").read_text()
HALF = ", gap 0.5"
INSIDE = ["M1", "M5", "M7", "PIRID"]  # labels inside cameras, beside M3
LONGER = "M5, trained as much longer"
FINDINGS = [
    ("01_identification_verification", "ResNet-50 (I+V)", "ResNet-50 (I)"),
    ("01_identification_verification", "ResNet-50 (I+contrastive)", "ResNet-50 (I+V)"),
    ("02_ccsc", "baseline+CCSC", "baseline"),
    ("02_ccsc", "baseline+CCSC, gap 0, stand-in", "baseline, gap 0, stand-in"),
    ("03_dcaml", "ResNet50+ID+CA", "ResNet50+ID"),
    ("03_dcaml", "ResNet50+ID+CA, summed", "ResNet50+ID"),
    ("03_dcaml", "ID + cross-camera pull", "ResNet50+ID"),
    ("04_precise_ics", "M7", LONGER),
    ("04_precise_ics", "M7, singles dropped", LONGER),
    ("05_pirid", "PIRID", "PIRID-1"),
    ("05_pirid", "PIRID" + HALF, "PIRID-1" + HALF),
    ("05_pirid", "true labels", "PIRID-1"),
    ("06_one_bench", "ID + CCSC + triplet", "ID"),
    ("06_one_bench", "ID", "M5"),
]


@pytest.mark.parametrize(("run", "better", "worse"), FINDINGS)
def test_a_finding_of_the_readme_is_that_of_the_long_run(run, better, worse):
    pair = ledger.paired(ledger.stored(run), better, worse, "mAP")
    mean, low, high = (f"{100 * value:+.1f}" for value in (pair.mean, pair.low, pair.high))
    texts = [f"{mean} [{low.lstrip('+')}, {high.lstrip('+')}]", f"{mean[1:]} [{low.lstrip('+')}, {high.lstrip('+')}]"]
    assert any(text.replace("-", "−") in README for text in texts), texts


def test_the_bench_s_best_rows_are_those_that_the_readme_names():
    table = ledger.stored("06_one_bench").query("gap == 1 and start == 'stand-in'").groupby("method").mAP.mean()
    assert table.idxmax() == "ID + CCSC + triplet"
    assert table[["M1", "M3", "M5", "M7", "PIRID"]].idxmax() == "M5"


def test_what_another_processor_moves_is_what_the_readme_says():
    keys = ["method", "gap", "start", "seed"]
    cells = ledger.stored("06_one_bench").merge(ledger.stored("06_one_bench_elsewhere"), on=keys)
    moved = 100 * (cells.mAP_y - cells.mAP_x)
    worlds = 100 * cells.groupby(keys[:3]).mAP_x.var().mean() ** 0.5
    main, shifts = cells[(cells.gap == 1) & (cells.start == "stand-in")], []
    for name in [name for name in main.method.unique() if name.startswith("ID + ") or name in INSIDE]:
        here, there = (
            mean[name] - mean["M3" if name in INSIDE else "ID"]
            for mean in (main.groupby("method")[column].mean() for column in ("mAP_x", "mAP_y"))
        )
        assert here * there > 0, name
        shifts.append(100 * abs(there - here))
    said = " ".join(README.split())
    mean, spread, most = (f"{x:.1f}".replace("-", "−") for x in (moved.mean(), moved.std(), moved.abs().max()))
    assert f"over {len(moved)} cells of the bench, mAP moved by {mean} points on average" in said
    assert f"standard deviation of {spread} (from world to world it is {worlds:.1f}), and at most by {most}" in said
    assert f"moved by at most {max(shifts):.1f}, and all {len(shifts)} kept their sign" in said

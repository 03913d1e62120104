"""The ledger's tables for a notebook."""

import numpy as np
import pandas as pd
import pytest

from reidkit.ledger import LedgerError, beside, claims, show, spread, verdicts
from reidkit.ledger.tables import Table


@pytest.fixture
def results():
    rows = []
    for seed, level in enumerate((0.40, 0.50, 0.60)):
        for variant, gain in (("baseline", 0.0), ("baseline+CCSC", 0.04 + seed / 1000), ("ours alone", 0.01)):
            row = {"variant": variant, "seed": seed, "mAP": level + gain, "rank1": 0.8, "bias": 2.0 - 10 * gain}
            rows.append(row | {"error": None})
    frame = pd.DataFrame(rows)
    frame.loc[8, ["mAP", "rank1", "bias", "error"]] = [np.nan, np.nan, np.nan, "RuntimeError: boom"]
    return frame


def test_beside(results):
    table = beside(results, "ccsc", "market1501", ["mAP", "bias"])
    assert list(table.index) == ["baseline", "baseline+CCSC", "ours alone"]
    assert table["mAP", "ours"].tolist() == ["50.0 ± 10.0", "54.1 ± 10.1", "46.0 ± 7.1"]
    assert table["mAP", "market1501"].tolist() == ["77.9", "81.8", "–"]
    assert table["bias", "ours"].tolist()[0] == "2.000 ± 0.000"
    assert set(table["bias", "market1501"]) == {"–"}
    assert table["seeds", ""].tolist() == [3, 3, 2]


def test_a_number_and_its_spread_or_interval_stay_on_one_line():
    html = Table({"a": ["17.1 ± 3.4"], "b": ["+3.0 [-2.1, 4.0], 1 seed"], "c": ["x [y, z] 3, 4"]})._repr_html_()
    for text in ("17.1&nbsp;±&nbsp;3.4", "+3.0&nbsp;[-2.1,&nbsp;4.0], 1 seed", "x [y, z] 3, 4"):
        assert f"<td>{text}</td>" in html


def test_beside_finds_rows_under_another_name_and_another_setting(results):
    names = {"baseline": "ResNet Basel.", "baseline+CCSC": "Ours (ResNet)"}
    table = beside(
        results, "discriminative-embedding", "market1501+500k", "mAP", setting="gallery 519732", printed_as=names
    )
    assert table["mAP", "market1501+500k"].tolist() == ["46.05", "45.24", "–"]


def test_beside_a_row_without_a_result(results):
    one = results[results["seed"] == 2]
    table = beside(one, "ccsc", "market1501")
    assert table["mAP", "ours"].tolist() == ["60.0", "64.2", "failed"]
    gone = beside(results.assign(rank1=np.nan), "ccsc", "market1501")
    assert gone["rank1", "ours"].tolist() == ["–"] * 3


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("ccsc", "market1501", "mINP"), "no metric 'mINP'"),
        (("ccsc", "plaza"), "no dataset 'plaza'"),
        (("cssc", "market1501"), "no paper 'cssc'"),
    ],
)
def test_beside_names_what_is_not_there(results, ask, words):
    with pytest.raises(LedgerError, match=words):
        beside(results, *ask)


def test_beside_needs_rows_of_variant_and_seed(results):
    with pytest.raises(LedgerError, match="need a column 'variant'"):
        beside(results.rename(columns={"variant": "row"}), "ccsc", "market1501")


def test_show(results):
    said = show(verdicts(results, claims("ccsc")))
    assert said.loc["ccsc-1", "difference, for the claim"] == "+4.1 [+3.9, +4.3]"
    assert said.loc["ccsc-1", ["verdict", "seeds"]].tolist() == ["reproduced", 3]
    assert said.loc["ccsc-1", "rows"] == "baseline+CCSC against baseline, mAP"
    assert said.loc["ccsc-14", "difference, for the claim"].startswith(
        "+0.410 ["
    )  # a bias: no percent, and less is claimed
    assert said.loc["ccsc-2", "verdict"] == "not testable here (the results have no row 'Without constraint')"
    assert said.loc["ccsc-2", "difference, for the claim"] == ""


def test_one_seed_is_said(results):
    said = show(verdicts(results[results["seed"] == 0], claims("ccsc")))
    assert said.loc["ccsc-1", ["difference, for the claim", "verdict"]].tolist() == ["+4.0, one seed", "undecided"]


def test_long_statements_are_shown_whole(results):
    every = claims()
    table = show(verdicts(results, every))
    page, text = table._repr_html_(), repr(table.drop(columns="seeds"))
    longest = max(every["statement"], key=len)
    assert len(longest) > 80
    assert longest in text
    assert longest.split("'")[0] in page
    assert page.count("<tr") == len(every) + 2


def test_spread_is_mean_and_deviation_as_text():
    frame = pd.DataFrame(
        {
            "variant": ["a", "a", "b", "b"],
            "seed": [0, 1, 0, 1],
            "mAP": [0.5, 0.52, 0.25, np.nan],
            "bias": [2.0, 3.0, 1.5, 9.0],
            "error": [None, None, None, "ValueError: lost"],
        }
    )
    table = spread(frame, ["mAP", "bias"])
    assert table.loc["a"].tolist() == ["51.0 ± 1.4", "2.500 ± 0.707", 2]
    assert table.loc["b"].tolist() == ["25.0", "1.500", 1]
    assert spread(frame, "mAP").columns.tolist() == ["mAP", "seeds"]
    frame.loc[2, "error"] = "ValueError: lost too"
    assert spread(frame, ["mAP", "bias"]).loc["b"].tolist() == ["–", "–", 0]
    frame = pd.DataFrame({"variant": "a", "seed": [0, 1], "train_mAP": [0.5, 0.7], "bias": [np.nan, np.nan]})
    assert spread(frame.assign(bias=[1.0, np.nan]), "bias").loc["a"].tolist() == ["1.000", 1]
    assert spread(frame, ["train_mAP", "bias"]).loc["a"].tolist() == ["60.0 ± 14.1", "–", 2]
    with pytest.raises(LedgerError, match="mINP"):
        spread(frame, "mINP")


def test_no_claim_is_an_empty_table(results):
    said = show(verdicts(results, claims("ccsc").iloc[:0]))
    assert len(said) == 0
    assert list(said) == list(show(verdicts(results, claims("ccsc"))))


def test_words_among_the_values_are_no_values(results):
    results["note"] = ["0.5", "lost"] + ["0.7"] * 7
    ours = beside(results, "ccsc", "market1501", "note")["note", "ours"]
    assert ours.tolist() == ["0.633 ± 0.115", "0.700 ± 0.000", "0.700 ± 0.000"]

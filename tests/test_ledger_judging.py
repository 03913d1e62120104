"""Verdicts on made-up results whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nct, ttest_1samp
from scipy.stats import t as student

from reidkit import ledger
from reidkit.ledger import LedgerError, judge, operating_characteristics, paired, verdicts


def results(**rows):
    """A table as `ablate` returns it: one keyword a variant, its mAP by seed."""
    table = [
        {"variant": variant, "seed": seed, "mAP": value, "error": None}
        for variant, values in rows.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(table)


def claim(better="new", worse="old", metric="mAP", **more):
    row = {"id": "x-1", "paper": "ccsc", "where": "table 1", "statement": "New beats old.", "dataset": "market1501"}
    return pd.DataFrame([row | {"better": better, "worse": worse, "metric": metric} | more])


# Pairing


def test_the_interval_by_hand():
    pair = paired(results(new=[0.51, 0.42, 0.66], old=[0.50, 0.40, 0.60]), "new", "old", "mAP")
    assert pair.differences.to_dict() == pytest.approx({0: 0.01, 1: 0.02, 2: 0.06})
    assert pair.mean == pytest.approx(0.03)
    # s² = (0.02² + 0.01² + 0.03²) / 2 = 0.0007; t(0.975, 2) = 4.30265
    half = 4.30265 * math.sqrt(0.0007) / math.sqrt(3)
    assert (pair.low, pair.high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-6)
    assert pair.left_out == ""
    assert (pair.text(), pair.text(scale=1, digits=2)) == ("+3.0 [-3.6, +9.6]", "+0.03 [-0.04, +0.10]")
    alone = paired(results(new=[0.51], old=[0.5]), "new", "old", "mAP")
    assert (alone.interval(), alone.text()) == ("one seed", "+1.0 (one seed)")
    two = paired(results(new=[0.51, 0.52], old=[0.5, 0.5]), "new", "old", "mAP")
    assert (two.interval(), two.text()) == ("two seeds", "+1.5 (two seeds)")


def test_the_interval_is_the_t_tests():
    random = np.random.default_rng(0)
    new, old = random.normal(0.6, 0.1, 5), random.normal(0.5, 0.1, 5)
    pair = paired(results(new=new, old=old), "new", "old", "mAP", level=0.9)
    expected = ttest_1samp(new - old, 0).confidence_interval(0.9)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high))


def test_any_two_rows_the_other_way_round_and_names_as_one_likes():
    frame = results(**{"ID+CA": [0.5, 0.6], "ID": [0.4, 0.3], "ID+CA+DW": [0.7, 0.9]})
    forth = paired(frame, "id + ca + dw", "ID+CA", "map")
    back = paired(frame, "ID+CA", "ID+CA+DW", "mAP")
    lower = paired(frame, "ID+CA", "ID+CA+DW", "mAP", higher_is_better=False)
    assert (forth.better, forth.worse, forth.metric) == ("ID+CA+DW", "ID+CA", "mAP")
    assert forth.mean == pytest.approx(0.25)
    assert back.mean == pytest.approx(-0.25)
    assert (lower.low, lower.mean, lower.high) == pytest.approx((forth.low, forth.mean, forth.high))


def test_seeds_are_matched_by_name_not_by_place():
    frame = results(new=[0.5, 0.6, 0.7], old=[0.4, 0.4, 0.4]).sample(frac=1, random_state=3)
    assert paired(frame, "new", "old", "mAP").differences.to_dict() == pytest.approx({0: 0.1, 1: 0.2, 2: 0.3})


def test_seeds_without_a_partner_are_left_out_and_named():
    frame = results(new=[0.5, 0.6, np.nan, 0.8, 0.9], old=[0.4, 0.4, 0.4, 0.4])
    frame.loc[(frame["variant"] == "old") & (frame["seed"] == 1), "error"] = "RuntimeError: boom"
    pair = paired(frame, "new", "old", "mAP")
    assert list(pair.differences.index) == [0, 3]
    assert pair.left_out.startswith("without seed 1, 2, 4")


def test_one_seed_has_no_interval():
    pair = paired(results(new=[0.9], old=[0.1]), "new", "old", "mAP")
    assert (pair.low, pair.mean, pair.high) == pytest.approx((-np.inf, 0.8, np.inf))
    assert judge(pair.differences) == "undecided"


@pytest.mark.parametrize(
    ("frame", "ask", "words"),
    [
        (results(new=[0.5], old=[0.4]), ("knew", "old", "mAP"), "no row 'knew'; near it: new"),
        (results(new=[0.5], old=[0.4]), ("new", "old", "mINP"), "no metric 'mINP'"),
        (results(new=[0.5], old=[0.4]), ("new", "old", "seed"), "no metric 'seed'"),
        (results(new=[0.5], old=[0.4]), ("new", "New", "mAP"), "compared with itself"),
        (results(new=[0.5, np.nan], old=[np.nan, 0.4]), ("new", "old", "mAP"), "no seed in common"),
        (results(new=[0.5], old=[0.4]).drop(columns="seed"), ("new", "old", "mAP"), "need a column 'seed'"),
        (pd.concat([results(new=[0.5], old=[0.4])] * 2), ("new", "old", "mAP"), "'new' stands there twice for seed 0"),
        (results(**{"M 5": [0.5], "m5": [0.4], "old": [0.3]}), ("M5", "old", "mAP"), "may be 'M 5' or 'm5'"),
    ],
)
def test_what_cannot_be_paired_is_named(frame, ask, words):
    with pytest.raises(LedgerError, match=words):
        paired(frame, *ask)


# The rule


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.050, 0.052, 0.048], "reproduced"),
        ([0.0010, 0.0011, 0.0009], "reproduced"),  # small, but there
        ([0.01, 0.02, 0.06], "direction only"),
        ([0.01, 0.06], "undecided"),  # two seeds agree one time in two without any truth
        ([0.05, -0.01, 0.06], "undecided"),
        ([-0.01, -0.02, -0.06], "undecided"),  # the interval is too wide to say that it fails
        ([-0.050, -0.052, -0.048], "not reproduced"),
        ([0.0005, -0.0004, 0.0001], "not reproduced"),  # no difference to speak of
        ([0.0, 0.0, 0.0], "not reproduced"),
    ],
)
def test_every_verdict(differences, verdict):
    assert judge(differences) == verdict


def test_the_rules_two_dials():
    assert judge([0.01, 0.02, 0.06], level=0.5) == "reproduced"
    assert judge([0.0005, -0.0004, 0.0001], negligible=0.0) == "undecided"


@pytest.mark.parametrize("differences", [[], [0.1, np.nan], [[0.1, 0.2]]])
def test_no_verdict_on_nothing(differences):
    with pytest.raises(LedgerError, match="finite differences"):
        judge(differences)


def test_a_verdict_does_not_depend_on_the_order_of_seeds_or_the_unit():
    random = np.random.default_rng(1)
    for _ in range(200):
        differences = random.normal(0.01, 0.01, random.integers(2, 6))
        verdict = judge(differences, negligible=0.0)
        assert judge(differences[::-1], negligible=0.0) == verdict
        assert judge(100 * differences, negligible=0.0) == verdict


# Claims


def test_verdicts_on_known_truth():
    random = np.random.default_rng(2)
    world = random.normal(0.5, 0.1, 5)  # what a seed does to every row: ten times the effects
    noise = {name: random.normal(0, 0.002, 5) for name in ("old", "new", "same", "bad")}
    shift = {"old": 0.0, "new": 0.03, "same": 0.0, "bad": -0.03}
    frame = results(**{name: world + shift[name] + noise[name] for name in shift})
    asked = pd.concat(
        [claim(id="a"), claim("bad", id="b"), claim("old", "absent", id="c"), claim(metric="mINP", id="d")],
        ignore_index=True,
    )
    said = verdicts(frame, asked).set_index("id")
    assert said["verdict"].to_dict() == {
        "a": "reproduced",
        "b": "not reproduced",
        "c": "not testable here",
        "d": "not testable here",
    }
    assert said["n"].tolist() == [5, 5, 0, 0]
    assert said.loc["a", "difference"] == pytest.approx(0.03, abs=0.004)
    assert said.loc["a", "low"] < said.loc["a", "difference"] < said.loc["a", "high"]
    assert said.loc["c", "why"] == "the results have no row 'absent'"
    assert "mINP" in said.loc["d", "why"]
    assert said.loc[["c", "d"], ["difference", "low", "high"]].isna().all(axis=None)


def test_a_claim_of_less():
    frame = results(new=[0.50, 0.51, 0.52], old=[0.60, 0.61, 0.62])
    assert verdicts(frame, claim(higher_is_better=False))["verdict"].item() == "reproduced"
    assert verdicts(frame, claim(higher_is_better=True))["verdict"].item() == "not reproduced"
    with pytest.raises(LedgerError, match="x-1: higher_is_better is 'false'"):
        verdicts(frame, claim(higher_is_better="false"))


def test_a_row_that_failed_everywhere_cannot_be_tested():
    frame = results(new=[np.nan, np.nan], old=[0.6, 0.6]).assign(error=["OSError: x", "OSError: x", None, None])
    assert verdicts(frame, claim())["verdict"].item() == "not testable here"


def test_results_that_are_wrong_are_no_verdict():
    with pytest.raises(LedgerError, match="twice"):
        verdicts(pd.concat([results(new=[0.5], old=[0.4])] * 2), claim())
    with pytest.raises(LedgerError, match="claims need a column 'worse'"):
        verdicts(results(new=[0.5], old=[0.4]), claim().drop(columns="worse"))


def test_all_claims_of_all_papers_go_through():
    every = ledger.claims()
    names = sorted(set(every["better"]) | set(every["worse"]))
    frame = results(**{name: [0.5 + 0.001 * k, 0.5 - 0.002 * k, 0.5 + 0.003 * k] for k, name in enumerate(names)})
    said = verdicts(frame, every)
    assert len(said) == len(every)
    assert set(said["verdict"]) <= set(ledger.VERDICTS)
    assert (said.loc[every["metric"] == "mAP", "n"] == 3).all()
    assert (verdicts(frame, every.iloc[:0]).columns == said.columns).all()


def test_a_false_claim_is_seldom_reproduced():
    """The whole way, from a table of results: 400 claims without any truth, over three seeds."""
    random = np.random.default_rng(4)
    said = []
    for _ in range(400):
        new, old = random.normal(0.5, 0.05, (2, 3))
        said += verdicts(results(new=new, old=old), claim(), negligible=0.0)["verdict"].tolist()
    assert 0.002 < said.count("reproduced") / 400 < 0.056  # 0.025 + 4 standard errors
    assert 0.04 < said.count("direction only") / 400 < 0.16  # 0.1 ± 4 standard errors


# How often the verdicts err


def test_operating_characteristics_against_theory():
    trials = 20_000
    table = operating_characteristics(trials=trials)
    assert table.loc[:, list(ledger.VERDICTS[:4])].sum(axis=1).to_numpy() == pytest.approx(1)
    for row in table.to_dict("records"):
        n, effect = row["seeds"], row["effect"]
        quantile = student.ppf(0.975, n - 1)
        expected = nct.sf(quantile, n - 1, effect * math.sqrt(n)) if effect else 0.025
        error = 5 * math.sqrt(expected * (1 - expected) / trials) + 1e-4
        assert abs(row["reproduced"] - expected) < error, row
        if effect == 0:
            assert abs(row["not reproduced"] - 0.025) < 0.01
            assert row["reproduced"] + row["direction only"] < 0.5**n + 0.025


def test_what_three_and_five_seeds_can_see():
    table = operating_characteristics(effects=(0, 2, 3)).set_index(["seeds", "effect"])
    assert (table.xs(0, level="effect")["reproduced"] < 0.03).all()
    assert 0.42 < table.loc[(3, 2), "reproduced"] < 0.52  # a gain of twice the scatter: one time in two
    assert table.loc[(5, 2), "reproduced"] > 0.88  # with five seeds: nine times in ten
    assert table.loc[(3, 3), "reproduced"] > 0.7
    assert operating_characteristics(trials=100).equals(operating_characteristics(trials=100))


@pytest.mark.parametrize("level", [0, 1, 95, float("nan")])
def test_a_level_is_a_share(level):
    with pytest.raises(LedgerError, match=r"level is .*: expected the share"):
        judge([0.1, 0.11, 0.12], level=level)


def test_an_interval_is_in_points_of_percent_unless_asked():
    pair = paired(results(new=[0.51, 0.42, 0.66], old=[0.50, 0.40, 0.60]), "new", "old", "mAP")
    assert pair.interval() == "[-3.6, +9.6]"


def test_the_level_of_verdicts_is_that_of_their_intervals():
    frame = results(new=[0.51, 0.42, 0.66], old=[0.50, 0.40, 0.60])
    said = verdicts(frame, claim(), level=0.5).iloc[0]
    pair = paired(frame, "new", "old", "mAP", level=0.5)
    assert (said["low"], said["high"]) == (pair.low, pair.high)
    assert said["verdict"] == "reproduced"
    assert said["low"] > verdicts(frame, claim()).iloc[0]["low"]

"""Stored results: what is written comes back, with where it came from."""

import re

import numpy as np
import pandas as pd
import pytest

from reidkit.ledger import LedgerError, committed, is_committed, is_stored, stamp, store, stored, verdicts
from reidkit.results import save_results


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "variant": ["None", "I+V, 1:1", "NA", "# 4"],
            "seed": [0, 1, 0, 1],
            "mAP": [0.123456789, 0.5, np.nan, 1.0],
            "error": [None, None, "RuntimeError: a, b", None],
        }
    )


def test_there_and_back(tmp_path, frame):
    path = store(
        frame, tmp_path / "long" / "02_ccsc.csv", profile="long", seeds=range(2), settings={"steps": 300, "lr": 3.5e-4}
    )
    assert path == tmp_path / "long" / "02_ccsc.csv"
    assert [entry.name for entry in path.parent.iterdir()] == ["02_ccsc.csv"]
    back = stored("02_ccsc", data=tmp_path)
    assert back["variant"].tolist() == frame["variant"].tolist()
    assert back["seed"].tolist() == [0, 1, 0, 1]
    assert back["seed"].dtype == np.int64
    np.testing.assert_allclose(back["mAP"], frame["mAP"], rtol=1e-5)
    assert back["error"].isna().tolist() == [True, True, False, True]
    assert back.attrs["provenance"]["settings"] == "steps 300, lr 0.00035"
    assert back.attrs["provenance"]["seeds"] == "0, 1"
    assert "torch" in back.attrs["provenance"]["versions"]
    assert re.fullmatch(r"[0-9a-f]{16}", back.attrs["provenance"]["code"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", back.attrs["date"])
    assert back.equals(stored("02_ccsc", data=path))


def test_a_reader_that_knows_comments_opens_it(tmp_path, frame):
    path = store(frame.iloc[:3], tmp_path / "a.csv", note="two\nlines: one")
    assert len(pd.read_csv(path, comment="#")) == 3
    assert "# note: two lines: one\n" in path.read_text()


def test_stored_rows_are_results(tmp_path):
    rows = [
        {"variant": v, "seed": s, "mAP": m + s / 100, "error": None}
        for v, m in (("a", 0.5), ("b", 0.4))
        for s in (0, 1)
    ]
    store(pd.DataFrame(rows), tmp_path / "a.csv")
    claim = {"id": "1", "paper": "ccsc", "where": "-", "statement": "-", "dataset": "-", "better": "a", "worse": "b"}
    said = verdicts(stored("a", data=tmp_path / "a.csv"), pd.DataFrame([claim | {"metric": "mAP"}]))
    assert said["verdict"].item() == "reproduced"


def test_a_notebooks_saved_rows_can_be_stored(tmp_path, frame):
    rows = save_results("", frame)["rows"]
    back = stored("a", data=store(pd.DataFrame(rows), tmp_path / "a.csv"))
    assert back["variant"].tolist() == frame["variant"].tolist()
    assert back["mAP"].isna().sum() == 1


def test_what_is_given_stands_above_what_is_known(tmp_path, frame):
    path = store(frame, tmp_path / "a.csv", date="2026-01-02", machine="one H100", path="main", hours=None)
    head = stored("a", data=path).attrs["provenance"]
    assert (head["date"], head["machine"], head["path"]) == ("2026-01-02", "one H100", "main")
    assert "hours" not in head


def test_the_sentence(tmp_path, frame):
    back = stored("a", data=store(frame, tmp_path / "a.csv", date="2026-01-02", profile="long", seeds=[0, 1]))
    assert stamp(back) == "stored, 2026-01-02: profile long; seeds 0, 1."
    assert stamp(back, "profile") == "stored, 2026-01-02: profile long."
    assert stamp(stored("b", data=store(frame, tmp_path / "b.csv", date="2026-01-02"))) == "stored, 2026-01-02."
    with pytest.raises(LedgerError, match="says nothing of 'profil'; near it: profile"):
        stamp(back, "profil")
    with pytest.raises(LedgerError, match="no provenance"):
        stamp(frame)


def test_nothing_stored(tmp_path, frame):
    assert not is_stored("02_ccsc", data=tmp_path)
    with pytest.raises(LedgerError, match="no long results are stored as '02_ccsc'; there: none"):
        stored("02_ccsc", data=tmp_path)
    store(frame, tmp_path / "long" / "03_dcaml.csv")
    assert is_stored("03_dcaml", data=tmp_path)
    assert not is_stored("02_ccsc", data=tmp_path)
    with pytest.raises(LedgerError, match="there: 03_dcaml"):
        stored("02_ccsc", data=tmp_path)


def test_the_working_directorys_data(tmp_path, frame, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_stored("99_mine")
    store(frame, "data/long/99_mine.csv")
    assert is_stored("99_mine")
    assert len(stored("99_mine")) == 4


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (pd.DataFrame({"variant": []}), "no results"),
        (pd.DataFrame({"variant": ["a"], "cmc": [np.ones(3)]}), "'cmc' holds arrays"),
        (pd.DataFrame({"variant": ["a"], "more": [{"x": 1}]}), "'more' holds arrays"),
        (pd.DataFrame({"#": ["a"]}), "first column is '#'"),
    ],
)
def test_what_cannot_be_stored_leaves_what_was_there(tmp_path, frame, bad, words):
    path = store(frame, tmp_path / "a.csv")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=words):
        store(bad, path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variant,seed\na,0\n", "does not begin with its provenance"),
        ("", "does not begin with its provenance"),
        ("# profile: long\nvariant,seed\na,0\n", "does not begin with its provenance"),
        ("# date: 2026-01-02\n", "cannot be read as CSV"),
        ("# date: 2026-01-02\nvariant,seed\na,0\nb,1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_a_file_that_store_did_not_write(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(LedgerError, match=words):
        stored("a", data=tmp_path / "a.csv")


def test_a_demo_run_that_make_notebooks_kept(tmp_path, frame):
    assert not is_committed("02_ccsc", data=tmp_path)
    with pytest.raises(LedgerError, match="no demo run is kept as '02_ccsc'"):
        committed("02_ccsc", data=tmp_path)
    (tmp_path / "demo").mkdir()
    judged = pd.DataFrame({"id": ["a-1"], "verdict": ["undecided"]})
    kept = save_results(tmp_path / "demo" / "02_ccsc.json", frame, verdicts=judged)
    assert is_committed("02_ccsc", data=tmp_path)
    back = committed("02_ccsc", data=tmp_path)
    assert back["variant"].tolist() == frame["variant"].tolist()
    assert back.attrs["date"] == kept["environment"]["date"][:10]
    assert back.attrs["verdicts"] == judged.to_dict("records")
    assert len(pd.concat([back, back.assign(variant="again")])) == 2 * len(back)
    save_results(tmp_path / "demo" / "03_dcaml.json", frame)
    assert committed("03_dcaml", data=tmp_path).attrs["verdicts"] is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"rows": [], "environment": {"date": "2026"}, "run": null}'])
def test_a_kept_run_that_is_damaged_is_named(tmp_path, text):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "02_ccsc.json").write_text(text)
    with pytest.raises(LedgerError, match=r"02_ccsc.json is no kept run"):
        committed("02_ccsc", data=tmp_path)

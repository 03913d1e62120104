"""Two rows of a table compared seed by seed, and the verdict on a claim that this licenses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from .names import LedgerError, nearby, same
from .papers import CLAIMS

VERDICTS = ("reproduced", "direction only", "not reproduced", "undecided", "not testable here")
NEGLIGIBLE = 0.002  # about half of the smallest difference in mAP (0.39 points) that a claim's printed rows show
NO_METRICS = ("variant", "seed", "error")


class _Missing(LedgerError):
    """The rows or the metric that a claim needs are not among the results."""


@dataclass(frozen=True)
class Paired:
    """Row `better` against row `worse`: what `paired` returns."""

    better: str
    worse: str
    metric: str
    differences: pd.Series  # one a seed (its index), positive where the seed favours `better`
    mean: float
    low: float  # the interval of the mean
    high: float
    left_out: str = ""  # seeds that one of the two rows lacks

    def interval(self, scale: float = 100, digits: int = 1) -> str:
        """ "[+2.1, +4.0]" in points of percent; "one seed" has none, and that of "two seeds" would say nothing."""
        if len(self.differences) < 3:
            return ("one seed", "two seeds")[len(self.differences) - 1]
        return f"[{scale * self.low:+.{digits}f}, {scale * self.high:+.{digits}f}]"

    def text(self, scale: float = 100, digits: int = 1) -> str:
        """ "+3.0 [+2.1, +4.0]" in points of percent: the mean and its interval, for a sentence."""
        interval = self.interval(scale, digits)
        return f"{scale * self.mean:+.{digits}f} {interval if interval.startswith('[') else f'({interval})'}"


def paired(
    results: pd.DataFrame,
    better: str,
    worse: str,
    metric: str,
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> Paired:
    """The difference of two rows in one metric, seed by seed, with its mean and the mean's t interval.

    results
        One row a variant and seed, as `ablate` returns them: variant, seed, the metrics, error where a row failed.
    better, worse, metric
        Any two rows, neither needs to be the baseline; case, spaces and punctuation do not count.
    higher_is_better
        False: the differences are taken the other way round, worse - better, so that positive is for `better` always.
    level
        Of the interval, mean ± t_((1 + level) / 2, n - 1) · s / √n over n seeds; ±inf from one seed.

    Both rows of a seed share their world, initial weights and batches, so that pairing takes out what a seed does to
    both. Rows that failed and metrics that are not finite are left out, with the seed's other row. Raises LedgerError
    that names a missing row or metric, two rows for one seed, or seeds with nothing in common.
    """
    _check_level(level)
    column = the_metric(results, metric)
    better, worse = (_the_one(results["variant"].unique(), name, "row") for name in (better, worse))
    if better == worse:
        raise LedgerError(f"{better!r} is compared with itself")
    first, second = (_by_seed(results, name, column) for name in (better, worse))
    seeds = first.index.intersection(second.index).sort_values()
    if seeds.empty:
        raise _Missing(f"{better!r} and {worse!r} have no seed in common with a finite {column}")
    differences = (first - second)[seeds].rename(column)
    if not higher_is_better:
        differences = -differences
    mean, low, high = _interval(differences.to_numpy(), level)
    lost = sorted(set(results.loc[results["variant"].isin([better, worse]), "seed"]) - set(seeds))
    left_out = f"without seed {', '.join(map(str, lost))}, which one of the rows lacks" if lost else ""
    return Paired(better, worse, column, differences, float(mean), float(low), float(high), left_out)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise LedgerError(f"level is {level}: expected the share of intervals that hold the truth, such as 0.95")


def judge(differences: Sequence[float], *, level: float = 0.95, negligible: float = NEGLIGIBLE) -> str:
    """The verdict on a claim from its paired differences, one a seed, positive where the seed favours the claim.

    reproduced      the t interval of the mean lies above 0
    not reproduced  it ends at or below `negligible`: the effect is absent, or goes the other way
    direction only  neither, yet every seed, of three or more, favours the claim
    undecided       none of these: the interval is too wide for a verdict

    "reproduced" is said first where two would do. If there is no effect, "reproduced" is said at most (1 - level) / 2
    of the time (2.5 %) whatever the number of seeds, "direction only" up to 1/2^n of the time with n seeds: it is a
    hint, not a finding. Of forty claims without any truth, one would still be "reproduced". How often a true effect is
    seen: `operating_characteristics`. The interval takes the differences as normal. LedgerError where one is not
    finite, or there is none.

    `negligible` is in the metric's own unit, whatever the metric: 0.002 is 0.2 points of mAP or rank-1, which are
    fractions of 1; of a bias, a silhouette or a distance it is 0.002 of theirs.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 1 or not differences.size or not np.isfinite(differences).all():
        raise LedgerError(f"a verdict needs finite differences, one a seed; got {differences.tolist()}")
    _check_level(level)
    return str(_verdict(differences, level, negligible))


def verdicts(
    results: pd.DataFrame,
    claims: pd.DataFrame,
    *,
    level: float = 0.95,
    negligible: float = NEGLIGIBLE,
) -> pd.DataFrame:
    """One verdict a claim, by the rule of `judge`, over seeds paired by `paired`.

    results, claims
        As in `paired`, and what `claims` returns (higher_is_better may be left out: true).

    Returns the claims' columns with n (seeds), difference, low, high (in the metric's own unit, positive for the
    claim), verdict and why: the seeds that were left out, or what is missing where the verdict is "not testable
    here", NaN elsewhere then. Raises LedgerError where results cannot be paired at all: no column, a seed twice.
    """
    if missing := [column for column in CLAIMS if column not in claims]:
        raise LedgerError(f"claims need a column {missing[0]!r}; there: {', '.join(map(str, claims.columns))}")
    rows = []
    for claim in claims.to_dict("records"):
        way = claim.get("higher_is_better", True)
        if not isinstance(way, bool | np.bool_):
            raise LedgerError(f"claim {claim['id']}: higher_is_better is {way!r}, not True or False")
        try:
            pair = paired(
                results, claim["better"], claim["worse"], claim["metric"], higher_is_better=bool(way), level=level
            )
        except _Missing as error:
            outcome = {"n": 0, "difference": np.nan, "low": np.nan, "high": np.nan}
            outcome |= {"verdict": "not testable here", "why": str(error).partition(";")[0]}
        else:
            outcome = {"n": len(pair.differences), "difference": pair.mean, "low": pair.low, "high": pair.high}
            outcome["verdict"] = judge(pair.differences, level=level, negligible=negligible)
            outcome["why"] = pair.left_out
        rows.append(claim | outcome)
    columns = [*claims.columns, "n", "difference", "low", "high", "verdict", "why"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def operating_characteristics(
    effects: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 3.0),
    seeds: Sequence[int] = (3, 5),
    *,
    trials: int = 20_000,
    level: float = 0.95,
    negligible: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """How often `judge` says what, by simulation: a row for each number of seeds and true effect, the share of each
    verdict over `trials` made-up experiments.

    An effect is the true mean difference in units of the spread (standard deviation) of the paired differences over
    seeds: 2.0 is a gain of two points of mAP where seeds scatter by one. `negligible` is in the same units. At effect
    0 the share of "reproduced" is the false-positive rate; elsewhere it is the power.
    """
    random = np.random.default_rng(seed)
    rows = []
    for n in seeds:
        noise = random.standard_normal((trials, n))
        for effect in effects:
            said = _verdict(effect + noise, level, negligible)
            rows.append(
                {"seeds": n, "effect": effect} | {verdict: (said == verdict).mean() for verdict in VERDICTS[:4]}
            )
    return pd.DataFrame(rows)


def _interval(differences: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and t interval over the last axis, (…, n) -> three times (…)."""
    n = differences.shape[-1]
    mean = differences.mean(-1)
    if n < 2:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    half = stdtrit(n - 1, (1 + level) / 2) * differences.std(-1, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def _verdict(differences: np.ndarray, level: float, negligible: float) -> np.ndarray:
    """The rule of `judge` over the last axis, (…, n) -> (…) of names."""
    _, low, high = _interval(differences, level)
    every = (differences > 0).all(-1) & (differences.shape[-1] >= 3)
    return np.select(
        [low > 0, high <= negligible, every], ["reproduced", "not reproduced", "direction only"], "undecided"
    )


def the_metric(results: pd.DataFrame, metric: str) -> str:
    """What the results call a metric; LedgerError where they have none such, or are not rows of variant and seed."""
    if missing := [column for column in ("variant", "seed") if column not in results]:
        raise LedgerError(f"results need a column {missing[0]!r}; there: {', '.join(map(str, results.columns))}")
    return _the_one([name for name in results.columns if name not in NO_METRICS], metric, "metric")


def _the_one(names: Sequence, wanted: str, what: str) -> str:
    """Which of the results' names is meant."""
    names = pd.Series(list(names), dtype=object)
    found = names[same(names, wanted)]
    if found.empty:
        raise _Missing(f"the results have no {what} {wanted!r}; {nearby(names, wanted)}")
    if len(found) > 1:
        raise LedgerError(f"{what} {wanted!r} may be {' or '.join(map(repr, found))}: write it exactly")
    return found.iloc[0]


def _by_seed(results: pd.DataFrame, variant: str, metric: str) -> pd.Series:
    """The finite values of one row, by seed."""
    rows = results[results["variant"] == variant]
    if rows["seed"].duplicated().any():
        seed = rows["seed"][rows["seed"].duplicated()].iloc[0]
        raise LedgerError(f"row {variant!r} stands there twice for seed {seed}: narrow the results to one run first")
    if "error" in rows:
        rows = rows[rows["error"].isna()]
    values = pd.to_numeric(rows.set_index("seed")[metric], errors="coerce").astype(np.float64)
    return values[np.isfinite(values)]

"""The ledger: what the papers printed and claimed beside what was measured here, and what that licenses one to say.

    reported, look_up          every number of the papers' tables (data/reported.csv), in percent as printed
    claims                     every comparison they draw (data/claims.csv)
    paired, judge, verdicts    two rows of a table compared seed by seed; one verdict a claim
    operating_characteristics  how often those verdicts err, and how often they see an effect
    store, stored, is_stored   long results kept as a small CSV that says where it comes from (machine: in which words)
    committed, is_committed    the demo runs that `make notebooks` keeps
    beside, show               tables for a notebook

Rows, methods and metrics are named as one likes: case, spaces and punctuation do not count, unless two names then fall
together. Results are what `ablate` returns, one row a variant and seed, metrics as fractions in [0, 1].
"""

from .judging import VERDICTS, Paired, judge, operating_characteristics, paired, verdicts
from .keeping import committed, is_committed, is_stored, machine, stamp, store, stored
from .names import LedgerError, fold
from .papers import claims, look_up, reported
from .tables import beside, show, spread

__all__ = [
    "VERDICTS",
    "LedgerError",
    "Paired",
    "beside",
    "claims",
    "committed",
    "fold",
    "is_committed",
    "is_stored",
    "judge",
    "look_up",
    "machine",
    "operating_characteristics",
    "paired",
    "reported",
    "show",
    "spread",
    "stamp",
    "store",
    "stored",
    "verdicts",
]

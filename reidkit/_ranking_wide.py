"""Counting over a wide gallery, tile by tile, where :mod:`reidkit._ranking` would hold few whole rows of distances.

A matrix product of few rows wastes a processor. Here a thousand queries meet a tile of the gallery at a time, and
what comes before a match is counted tile by tile. That needs the distances of the matches beforehand: they come from
products of their own, one a person, so that a match and a wrong image within one rounding of it may swap. Columns with
equal features share one product, as everywhere: they tie.
"""

from __future__ import annotations

import numpy as np

from reidkit._ranking import TILE_BYTES, VIEW_BYTES, Labels, Plan, ahead, take_out, tiles

WIDE = 1 << 15  # columns from which this way is the faster one
ROWS, COLUMNS = 1024, 8192  # distances at a time, 32 MiB
TWINS = 1024  # different features that repeat; more of them are left to whole rows


def count(query: np.ndarray, gallery: np.ndarray, labels: Labels, metric: str, ties: str):
    """``(query, column, wrong images before it)`` of every match, sorted by query, from near to far; None if the
    gallery repeats too many features."""
    plan = Plan.of(query, gallery, labels.keep, metric)
    groups, twin_of = np.unique(plan.originals, return_inverse=True)
    if len(groups) > TWINS:
        return None
    twins = np.concatenate([groups, plan.copies])
    twin_of = np.concatenate([np.arange(len(groups)), twin_of])
    order = np.argsort(twins)
    twins, twin_of = twins[order], twin_of[order]  # ascending columns, and which of `groups` each repeats

    def features(columns):
        return np.asarray(gallery[labels.keep[columns]], plan.dtype)

    rows, columns, junk = labels.own(0, len(query))
    begin = np.searchsorted(rows, np.arange(len(query) + 1))
    values = np.empty(len(rows), plan.dtype)
    people, of = np.unique(labels.query_pids, return_inverse=True)
    by_person = np.argsort(of, kind="stable")
    ends = np.searchsorted(of[by_person], np.arange(len(people) + 1))
    for person in range(len(people)):
        who = by_person[ends[person] : ends[person + 1]]
        own = columns[begin[who[0]] : begin[who[0] + 1]]
        for i in range(0, len(own), COLUMNS):
            at = own[i : i + COLUMNS]
            part = plan.between(np.asarray(query[who], plan.dtype), features(at), at)
            for one, row in zip(who, part, strict=True):
                values[begin[one] + i : begin[one] + i + len(at)] = row

    found = []
    buffer = np.empty((min(ROWS, len(query)), min(COLUMNS, len(labels.keep))), plan.dtype)
    for start in range(0, len(query), ROWS):
        stop = min(start + ROWS, len(query))
        q = np.asarray(query[start:stop], plan.dtype)  # (b, d)
        repeated = plan.between(q, features(groups), groups)  # (b, number of groups)
        mine = slice(begin[start], begin[stop])
        r, c, v, j = rows[mine] - start, columns[mine], values[mine], junk[mine]
        place = np.searchsorted(twins, c)
        repeats = np.flatnonzero(np.append(twins, -1)[place] == c)
        v[repeats] = repeated[r[repeats], twin_of[place[repeats]]]
        by_column = np.argsort(c, kind="stable")
        own_rows, own_columns = r[by_column], c[by_column]

        r, c, v = r[~j], c[~j], v[~j]
        order = np.lexsort((v, r))
        r, c, v = r[order], c[order], v[order]
        counts = np.zeros(len(r), np.int64)
        for first in range(0, len(labels.keep), COLUMNS):
            last = min(first + COLUMNS, len(labels.keep))
            block = buffer[: len(q), : last - first]
            for a, b, tile in tiles(gallery, labels.keep[first:last], plan.dtype, TILE_BYTES, VIEW_BYTES):
                plan.between(q, tile, slice(first + a, first + b), out=block[:, a:b])
                del tile  # before the next is read
            some = slice(*np.searchsorted(twins, (first, last)))
            block[:, twins[some] - first] = repeated[:, twin_of[some]]
            some = slice(*np.searchsorted(own_columns, (first, last)))
            take_out(block, own_rows[some], own_columns[some] - first)
            counts += ahead(block, r, v, ties)
        found.append((start + r, c, counts))
    return tuple(map(np.concatenate, zip(*found, strict=True)))

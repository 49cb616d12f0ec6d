"""De-duplication: who keeps a unit, over pieces and partitions, and what is cut."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from data.prepare import duplicates
from data.prepare.duplicates import LOSER, ROW, Rows, by_partition, cut_units, losers, unit_keys, window_spans
from data.prepare.urls import url_digest


def groups(data: bytes, count: int, dtype: np.dtype) -> list[np.ndarray]:
    bounds = np.frombuffer(data[: 8 * (count + 1)], "<u8").tolist()
    rows = np.frombuffer(data[8 * (count + 1) :], dtype)
    assert bounds[0] == 0
    assert bounds[-1] == len(rows)
    return [rows[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_losers_equal_a_dictionary(partitions: int) -> None:
    rng = random.Random(partitions)
    pieces = []
    holders: dict[bytes, list[tuple[bytes, int, int, int]]] = {}
    for piece in range(4):
        rows = Rows()
        for document in range(30):
            owner = url_digest(f"{rng.randrange(10)}.org")
            for unit in range(rng.randrange(5)):
                key = duplicates.unit_key(f"text {rng.randrange(60)}")
                rows.add(key, owner, document, unit)
                holders.setdefault(key, []).append((owner, piece, document, unit))
        pieces.append(groups(by_partition(rows.table(), partitions), partitions, ROW))
    found = set()
    for partition in range(partitions):
        tables = [piece[partition] for piece in pieces]
        for piece, lost in enumerate(groups(losers(tables), 4, LOSER)):
            found |= {(piece, document, unit) for document, unit in lost.tolist()}
    assert found == {place[1:] for places in holders.values() for place in sorted(places)[1:]}


def test_partitions_cut_the_range_of_keys() -> None:
    rows = Rows()
    for value in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        rows.add(value.to_bytes(4, "big") + bytes(12), bytes(16), value & 1)
    assert [len(part) for part in groups(by_partition(rows.table(), 2), 2, ROW)] == [2, 2]
    empty = Rows().table()
    assert [len(part) for part in groups(by_partition(empty, 3), 3, ROW)] == [0, 0, 0]
    assert [len(part) for part in groups(losers([empty, empty]), 2, LOSER)] == [0, 0]
    assert len(losers([])) == 8


@pytest.mark.parametrize(
    ("sentences", "spans"),
    [
        ([], []),
        (["A."], [(0, 1)]),
        (["A.", "B."], [(0, 2)]),
        (["A.", "B.", "C."], [(0, 3)]),
        (["A.", "B.", "C.", "D."], [(0, 3), (1, 4)]),
        (["!", "?", "."], []),
        (["!", "?", ".", "A."], [(1, 4)]),
    ],
)
def test_windows_of_a_line(sentences: list[str], spans: list[tuple[int, int]]) -> None:
    assert list(window_spans(sentences)) == spans


def test_units_are_compared_without_case_and_outer_white_space() -> None:
    assert list(unit_keys("A b. ", "lines")) == list(unit_keys("\ta B.", "lines"))
    assert list(unit_keys("It is.  So was.", "windows")) == list(unit_keys("IT IS. SO WAS.", "windows"))
    assert list(unit_keys("A b.", "lines")) != list(unit_keys("A  b.", "lines"))


def test_windows_stay_inside_their_line() -> None:
    together = set(unit_keys("A is. B is. C is.", "windows"))
    assert not together & set(unit_keys("A is. B is.\nC is.", "windows"))


def test_cutting_windows_takes_their_sentences_alone() -> None:
    text = "A is. B is. C is. D is. E is.\nF is.\nG is. H is."
    assert cut_units(text, "windows", frozenset()) == (text, [])
    # Units: ABC, BCD, CDE, F, GH.
    assert cut_units(text, "windows", frozenset({1})) == ("A is. E is.\nF is.\nG is. H is.", ["B is. C is. D is."])
    assert cut_units(text, "windows", frozenset({0, 2})) == (
        "F is.\nG is. H is.",
        ["A is. B is. C is. D is. E is."],
    )
    assert cut_units(text, "windows", frozenset({3, 4}))[0] == "A is. B is. C is. D is. E is."


def test_cutting_lines_passes_over_blank_ones() -> None:
    text = "one\n\ntwo\n \nthree"
    assert len(list(unit_keys(text, "lines"))) == 3
    assert cut_units(text, "lines", frozenset({1})) == ("one\n\n \nthree", ["two"])
    assert cut_units(text, "lines", frozenset({0, 2})) == ("\ntwo\n ", ["one", "three"])

"""How ops that make wide results some rows at a time cut rows."""

import pytest

import ownt
from ag import pieces


@pytest.mark.parametrize("most", [1, 5, 16, 64, 100, 256, 341, 1024])
def test_pieces_are_alike_and_no_larger_than_they_may_be(most, monkeypatch):
    monkeypatch.setitem(pieces.HIDDEN, "cpu", pieces.Size(0, most))
    for rows in (*range(300), 1023, 2048, 3841, 4097, 4354, 5121):
        cut = list(pieces.hidden_pieces(ownt.empty(rows, 0)))
        assert [part.start for part in cut] == [0, *(part.stop for part in cut[:-1])]
        assert cut[-1].stop == rows
        sizes = [part.stop - part.start for part in cut]
        assert max(sizes) <= most
        assert len(sizes) == 1 or min(sizes) >= most / 4

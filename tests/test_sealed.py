"""JSON files of ours: no change of one goes unseen, none is a crash, and those without a digest are still read."""

import json
from pathlib import Path

import pytest

from stsb_batch.errors import ModelIntegrityError
from stsb_batch.sealed import check_shape, read_sealed, seal, unseal

VALUE = {"stack": ["a@1"], "log": [{"model": "a@1", "at": "\u00e9", "share": 0.1, "none": None}]}
SHAPE = {"stack": [str], "log": [{"model": str}]}


def test_what_is_sealed_comes_back():
    """Content returns as it was, with the word that it was checked; JSON of an earlier version without it."""
    assert unseal(seal(VALUE)) == (VALUE, True)
    assert unseal(json.dumps(VALUE).encode()) == (VALUE, False)


def test_every_flipped_bit_is_seen():
    """A flip anywhere, in a key, a value, the layout or the digest, neither passes nor looks like an earlier version."""
    content = seal(VALUE)
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"not JSON|does not match"):
            unseal(bytes(flipped))


STRANGE = [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b'{"stack": 1, "log": []}', b'{"stack": [1], "log": []}']
STRANGE += [b'{"stack": []}', b'{"stack": [], "log": [{}]}', b'{"stack": [], "log": [[]]}', seal({"stack": []})]
STRANGE += [seal(VALUE).replace(b"{", b'{"stack": [],', 1)]


@pytest.mark.parametrize("content", STRANGE)
def test_what_is_not_ours_is_one_clear_error(content: bytes, tmp_path: Path):
    """No JSON, wrong types, missing entries and doubled keys are named with the file, without digest or with one."""
    path = tmp_path / "champion.json"
    path.write_bytes(content)
    with pytest.raises(ModelIntegrityError, match=r"champion\.json: .*Restore it from a backup"):
        read_sealed(path, SHAPE)


def test_the_wrong_place_is_named():
    """The message leads to the entry."""
    with pytest.raises(ValueError, match=r"log\[1\]\.model is 3, which is not allowed there"):
        check_shape({"stack": [], "log": [{"model": "a"}, {"model": 3}]}, SHAPE)

"""A home is checked like an output: history, cards, files of versions, champion."""

from pathlib import Path

from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.verify_home import is_home, verify_home
from stsb_batch.settings import load_settings
from tests.builders import make_champion, score_request


def test_damage_is_named_by_its_path(bert: Path, pairs_file: Path):
    """A report, a card and a weights file that lost a byte are one line each; all else is well."""
    home = load_settings().home
    make_champion(home, bert)
    score_dataset(score_request(pairs_file, bert))
    assert is_home(home, load_settings())
    assert not is_home(pairs_file.parent, load_settings())
    assert verify_home(home).problems == []
    for path in (
        *home.glob("reports/*.parquet"),
        *home.glob("models/*/*/card.json"),
        *home.glob("models/*/*/*.safetensors"),
    ):
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        problems = verify_home(home).problems
        assert any(str(path) in problem or str(path.parent) in problem or path.name in problem for problem in problems)
        path.write_bytes(content)
    assert verify_home(home).problems == []

"""The registry: versions, champion, rollback."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stsb_batch.errors import GateRefused, ModelIntegrityError, NothingToReadError, UsageError
from stsb_batch.models import registry
from stsb_batch.models.checkpoint import open_checkpoint
from tests.builders import add_version

ROOT = Path(__file__).parents[2]


def test_versions_count_up_and_are_found(tmp_path: Path, bert: Path):
    """Each registration is the next number; a version is found by name@number and listed in order."""
    assert [add_version(tmp_path, bert).reference for _ in range(3)] == ["sts@1", "sts@2", "sts@3"]
    assert add_version(tmp_path, bert, name="other").reference == "other@1"
    assert [version.reference for version in registry.list_versions(tmp_path)] == ["other@1", "sts@1", "sts@2", "sts@3"]
    assert registry.find_version(tmp_path, "sts@2").card["version"] == 2


@pytest.mark.parametrize("content", ["[]", "{}", "{", "[1]"])
def test_damaged_cards_and_pointers_are_named(content: str, tmp_path: Path, bert: Path):
    """A card or pointer that is not what it should be is one clear error, not a crash."""
    (add_version(tmp_path, bert).path / "card.json").write_text(content)
    with pytest.raises(ModelIntegrityError, match=r"card\.json"):
        registry.list_versions(tmp_path)
    (tmp_path / "models/champion.json").write_text(content)
    with pytest.raises(ModelIntegrityError, match=r"champion\.json"):
        registry.champions(tmp_path)


def test_lost_metrics_are_named(tmp_path: Path, bert: Path):
    """A version whose report is cut short says so when it is asked for."""
    version = add_version(tmp_path, bert)
    (version.path / registry.METRICS).write_bytes(b"PAR1")
    with pytest.raises(ModelIntegrityError, match=r"metrics\.parquet"):
        version.metrics()


def test_champion_moves_and_rolls_back(tmp_path: Path, bert: Path):
    """Promotion moves the champion, rollback returns to the one before, and the log keeps every move."""
    for mark in ("", " ", "  "):
        registry.promote(tmp_path, add_version(tmp_path, bert, mark=mark), "test")
    assert registry.find_version(tmp_path, "champion").reference == "sts@3"
    assert registry.rollback(tmp_path).reference == "sts@2"
    assert registry.rollback(tmp_path).reference == "sts@1"
    with pytest.raises(NothingToReadError, match="no earlier champion"):
        registry.rollback(tmp_path)
    log = [(move["model"], move["reason"]) for move in registry.champions(tmp_path)["log"]]
    assert log == [
        ("sts@1", "promote: test"),
        ("sts@2", "promote: test"),
        ("sts@3", "promote: test"),
        ("sts@2", "rollback from sts@3"),
        ("sts@1", "rollback from sts@2"),
    ]


def test_promoting_the_champion_again_changes_nothing(tmp_path: Path, bert: Path):
    """A second promotion of the same version is no move."""
    version = add_version(tmp_path, bert)
    registry.promote(tmp_path, version, "a")
    registry.promote(tmp_path, version, "b")
    assert len(registry.champions(tmp_path)["log"]) == 1


def test_refused_version_cannot_become_champion(tmp_path: Path, bert: Path):
    """Only what passed the gate is promoted (law 7)."""
    with pytest.raises(GateRefused):
        registry.promote(tmp_path, add_version(tmp_path, bert, passed=False), "force")
    assert registry.champions(tmp_path)["stack"] == []


def test_changed_weights_cannot_become_champion(tmp_path: Path, bert: Path):
    """Only exactly the digest that passed is promoted, and a changed champion is refused when it is loaded."""
    version = add_version(tmp_path, bert)
    registry.promote(tmp_path, version, "test")
    weights = version.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelIntegrityError, match=r"model\.safetensors changed after registration"):
        registry.promote(tmp_path, version, "test")
    with pytest.raises(ModelIntegrityError):
        registry.resolve_model(tmp_path, "champion")


def test_no_champion_names_two_commands(tmp_path: Path):
    """Without a champion the message says what to do next."""
    with pytest.raises(NothingToReadError, match=r"`stsb-batch refresh .*`stsb-batch demo`"):
        registry.resolve_model(tmp_path, "champion")


@pytest.mark.parametrize(
    ("reference", "error"),
    [("sts@9", NothingToReadError), ("nothing", NothingToReadError), ("no/such/model", NothingToReadError)],
)
def test_unknown_models(tmp_path: Path, reference: str, error: type[Exception]):
    """Unknown references are told apart from broken ones."""
    with pytest.raises(error, match=reference):
        registry.resolve_model(tmp_path, reference)


def test_bad_name_is_refused(tmp_path: Path, bert: Path):
    """A name that would leave the registry folder is refused."""
    with pytest.raises(UsageError):
        add_version(tmp_path, bert, name="../evil")


def test_folder_is_a_model_reference(tmp_path: Path, bert: Path):
    """A folder needs no registry."""
    assert registry.resolve_model(tmp_path, str(bert)).path == bert


def test_champion_whose_card_changed_is_refused(tmp_path: Path, bert: Path):
    """Weights and card changed together are found: the log of promotions knows the digest that passed the gate."""
    version = add_version(tmp_path, bert)
    registry.promote(tmp_path, version, "test")
    config = version.path / "config.json"
    config.write_text(config.read_text() + " ")
    changed = version.card | {"digest": open_checkpoint(version.path).digest}
    (version.path / "card.json").write_text(json.dumps(changed))
    with pytest.raises(ModelIntegrityError, match="card changed after it became champion"):
        registry.resolve_model(tmp_path, "champion")


def test_promotion_waits_for_its_turn(tmp_path: Path, bert: Path):
    """While another process holds the champion pointer for a moment, a promotion waits instead of failing."""
    version, held = add_version(tmp_path, bert), threading.Event()

    def hold() -> None:
        with registry.champion_lock(tmp_path):
            held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    registry.promote(tmp_path, version, "test")
    holder.join()
    assert registry.champions(tmp_path)["stack"] == ["sts@1"]


RIVAL = """
import json, sys
from pathlib import Path
from stsb_batch.models import registry
import shutil
home, bert, mark = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
won = []
for turn in range(4):
    candidate = registry.staging_folder(home) / "candidate"
    shutil.copytree(bert, candidate)
    (candidate / "config.json").write_text((candidate / "config.json").read_text() + " " * (10 * int(mark) + turn + 1))
    stack = registry.champions(home)["stack"]
    parent = stack[-1] if stack else None
    card = {"recipe": "r", "base_model": "tiny", "parent": parent, "gate": {"passed": True}}
    version = registry.register(home, "sts", candidate, card)
    registry.discard(candidate.parent)
    won.append([version.reference, registry.promote_over_parent(home, version, "test")])
print(json.dumps(won))
"""


def test_concurrent_refreshes_lose_nothing(tmp_path: Path, bert: Path):
    """Four processes register and promote at once: no number is given twice, and each champion was held against the one
    before it."""
    command = [sys.executable, "-W", "ignore", "-c", RIVAL, str(tmp_path), str(bert)]
    rivals = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for number in range(4)
    ]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    won = [pair for rival in rivals for pair in json.loads(rival.communicate(timeout=120)[0])]
    assert sorted(reference for reference, _ in won) == sorted(f"sts@{number}" for number in range(1, 17))
    moves = registry.champions(tmp_path)
    assert sorted(reference for reference, champion in won if champion) == sorted(moves["stack"])
    for before, version in zip([None, *moves["stack"]], moves["stack"], strict=False):
        assert registry.find_version(tmp_path, version).card["parent"] == before
    assert not list((tmp_path / "models/.staging").iterdir())

"""Who may import whom, what never appears, how light the command line is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "stsb_batch").rglob("*.py")) + sorted((ROOT / "flows").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """All modules a file imports, also those imported inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_in(*rooms: str) -> list[Path]:
    return [path for path in SOURCES for room in rooms if path.is_relative_to(ROOT / room)]


def importers(package: str) -> set[str]:
    found = set()
    for path in SOURCES:
        if any(name == package or name.startswith(f"{package}.") for name in imports(path)):
            found.add(str(path.relative_to(ROOT)))
    return found


def test_the_package_never_imports_prefect():
    """Prefect is known to the flows only."""
    assert all(name.startswith("flows/") for name in importers("prefect"))


def test_only_verbs_import_the_flows():
    """The verbs about nights and this machine use the flows; nothing else of the package does."""
    assert {name for name in importers("flows") if not name.startswith("flows/")} == {
        "stsb_batch/cli/machine.py",
        "stsb_batch/cli/schedule.py",
    }


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_heavy_libraries_have_few_places(package: str):
    """torch and transformers are imported by engines, checkpoint and training only."""
    allowed = (
        "stsb_batch/inference/engines/",
        "stsb_batch/models/checkpoint.py",
        "stsb_batch/device.py",
        "stsb_batch/refresh/",
        "stsb_batch/bench.py",
        "stsb_batch/peers.py",
    )
    assert not {name for name in importers(package) if not name.startswith(allowed)}
    pure = {"stsb_batch/refresh/gate.py", "stsb_batch/refresh/labels.py", "stsb_batch/refresh/recipes.py"}
    assert not importers(package) & pure


FORBIDDEN = {
    "inference": ("refresh", "report", "scoring", "schedule", "cli", "pairs.listing", "pairs.source", "pairs.sink"),
    "report": ("inference", "refresh", "scoring", "schedule", "cli", "pairs.listing", "pairs.source", "pairs.sink"),
    "pairs": ("inference", "refresh", "report", "scoring", "schedule", "cli", "models"),
    "models": ("inference", "refresh", "report", "scoring", "schedule", "cli"),
    "refresh": ("scoring", "schedule", "cli"),
    "scoring": ("refresh", "schedule", "cli"),
    "schedule": ("inference", "refresh", "cli"),
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_what_lies_below_them(room: str):
    """inference and report know neither each other nor any job; scoring and refresh do not know each other."""
    forbidden = tuple(f"stsb_batch.{name}" for name in FORBIDDEN[room])
    found = {}
    for path in files_in(f"stsb_batch/{room}"):
        if names := [name for name in imports(path) if name.startswith(forbidden)]:
            found[path.name] = names
    assert not found


PURE = ["inference/batches.py", "report/metrics.py", "report/sketch.py", "report/calibration.py", "report/drift.py"]
PURE += ["refresh/gate.py", "refresh/churn.py"]


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_no_io(module: str):
    """Batches, metrics, sketches, drift, calibration, gate and churn import numbers only."""
    plain = ("collections.abc", "dataclasses", "itertools", "math", "numpy", "scipy", "typing")
    allowed = (
        *plain,
        "stsb_batch.inference.tokens",
        "stsb_batch.inference.ragged",
        "stsb_batch.pairs.schema",
        "stsb_batch.report.sketch",
        "stsb_batch.refresh.gate",
    )
    assert not [name for name in imports(ROOT / "stsb_batch" / module) if not name.startswith(allowed)]


def test_flows_compute_nothing():
    """The flows import neither torch nor numbers."""
    for path in files_in("flows"):
        assert not [
            name for name in imports(path) if name.split(".")[0] in {"torch", "numpy", "polars", "pyarrow", "scipy"}
        ], path


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy():
    """--help imports neither torch, transformers, prefect, polars nor pyarrow."""
    code = "from stsb_batch.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert not loaded_by(code) & {"torch", "transformers", "prefect", "polars", "pyarrow", "numpy", "datasets", "pydantic"}


def test_scoring_works_without_prefect_and_datasets():
    """The scoring job, with its engines, imports neither Prefect nor datasets."""
    code = "import stsb_batch.inference.pipeline, stsb_batch.inference.engines.torch_engine, stsb_batch.scoring.job"
    assert not loaded_by(code) & {"prefect", "datasets"}


def test_nothing_executes_what_it_reads():
    """No pickle, no trust_remote_code=True, no memory-mapped input anywhere in the sources."""
    for path in SOURCES:
        text = path.read_text()
        assert "import pickle" not in text
        assert "trust_remote_code=True" not in text
        assert "memory_map=True" not in text


def test_a_file_name_is_no_pattern():
    """polars takes `a[1].parquet` for a pattern unless told not to, and would read other files than it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pl.read_parquet", "pl.scan_parquet"):
                assert "glob=False" in ast.unparse(node), f"{path}:{node.lineno}"


def test_files_stay_small():
    """No source file is longer than 300 lines."""
    assert {str(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 300} == {}


TESTS = sorted((ROOT / "tests").rglob("*.py"))
MIRRORED = ("pairs", "models", "refresh", "report", "schedule")


@pytest.mark.parametrize("room", MIRRORED)
def test_each_module_has_its_own_test_file(room: str):
    """tests/ mirrors the package, so that a reader finds a module's tests by its name."""
    modules = [path.stem for path in files_in(f"stsb_batch/{room}") if path.name != "__init__.py"]
    assert [name for name in modules if not (ROOT / f"tests/{room}/test_{name}.py").is_file()] == []


def test_helpers_are_never_imported_from_a_test():
    """What tests share lies in fakes.py, builders.py and modules that are no tests; importing a test would run it twice."""
    for path in TESTS:
        found = [name for name in imports(path) if name.startswith("tests.")]
        assert not [name for name in found if name.split(".")[-1].startswith(("test_", "conftest"))], path

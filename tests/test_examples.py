"""What people copy: each example in deploy/examples and each code block of the Python page does what it says."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

import stsb_batch
from tests.builders import make_champion, make_pairs

DEPLOY = Path(__file__).parents[1] / "deploy"
EXAMPLES = DEPLOY / "examples"
CRON = EXAMPLES / "cron.sh"
SOURCES = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def work(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, a home whose champion is a tiny model, pairs and labels."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STSB_BATCH_ENGINE", "torch")
    make_champion(tmp_path / "home", bert)
    make_pairs(50).write_parquet(folder / "pairs.parquet")
    make_pairs(400, seed=3).write_parquet(folder / "labelled.parquet")
    (folder / "base").symlink_to(bert)
    return folder


def test_the_python_page_runs(work: Path):
    """The code blocks of python.md run one after the other."""
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DEPLOY / "docs" / "python.md").read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, "python.md", "exec"), namespace)  # noqa: S102 - our own page
    assert len(blocks) == 7 and (work / "scored.parquet").is_file()


def test_the_python_page_names_each_public_name():
    page = (DEPLOY / "docs" / "python.md").read_text()
    assert [name for name in stsb_batch.__all__ if f"`{name}" not in page and f"stsb_batch.{name}" not in page] == []


def test_the_notebook_runs_and_has_no_outputs(work: Path):
    """Each code cell runs, the file is scored, and what is committed holds no outputs."""
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, object] = {}
    for cell in cells:
        assert cell["outputs"] == [] and cell["execution_count"] is None
        exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)  # noqa: S102 - our own notebook
    assert set(pl.read_parquet(work / "pairs.scored.parquet")["score_status"]) == {"OK"}


def cron(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([CRON, *arguments], capture_output=True, text=True, env=os.environ | environment, check=False)


def test_the_cron_script_scores(work: Path):
    """With the real command the scores are there, and nothing is mailed but what the command says itself."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = cron(str(work / "pairs.parquet"), "-o", str(work / "scored.parquet"), PATH=path)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(work / "scored.parquet").height == 50


@pytest.mark.parametrize(
    ("codes", "ends_with", "message"),
    [
        ("0", 0, ""),
        ("10", 0, "many rows have no score"),
        ("11", 0, "files were left out"),
        ("75 75 0", 0, "Attempt 2 of 3: the output is in use"),
        ("75 75 75", 75, "Attempt 3 of 3"),
        ("75 65", 65, "Not scored (exit code 65)"),
        ("66", 66, "Not scored (exit code 66)"),
    ],
)
def test_the_cron_script_handles_each_exit_code(tmp_path: Path, codes: str, ends_with: int, message: str):
    """Warnings end with 0, output in use is tried three times, errors end at once; all of the codes are used up."""
    (tmp_path / "codes").write_text("\n".join(codes.split()) + "\n")
    command = tmp_path / "stsb-batch"
    command.write_text(
        f'#!/bin/sh\ncd {tmp_path}\ncode=$(head -n 1 codes)\nsed -i 1d codes\necho "$*" >>calls\nexit $code\n'
    )
    command.chmod(0o755)
    done = cron("in dir", "-o", "out", PATH=f"{tmp_path}:{os.environ['PATH']}", RETRY_SECONDS="0")
    assert done.returncode == ends_with and message in done.stderr
    assert (tmp_path / "codes").read_text() == ""
    assert set((tmp_path / "calls").read_text().splitlines()) == {"score in dir -o out"}


def test_the_dbt_model_scores_a_relation(work: Path):
    """The model takes a DuckDB relation, as dbt-duckdb gives it, and returns its rows with scores; null where none."""
    one_text = pl.DataFrame({"id": [50], "sentence1": ["a pump"]})
    pl.concat([make_pairs(50), one_text], how="diagonal").write_parquet(work / "pairs.parquet")

    class Dbt:
        @staticmethod
        def config(materialized: str) -> None:
            assert materialized == "table"

        @staticmethod
        def ref(name: str) -> duckdb.DuckDBPyRelation:
            assert name == "pairs"
            return duckdb.read_parquet(str(work / "pairs.parquet"))

    namespace: dict = {}
    exec(compile((EXAMPLES / "dbt_model.py").read_text(), "dbt_model.py", "exec"), namespace)  # noqa: S102 - our own example
    found = pl.DataFrame(namespace["model"](Dbt, None)).sort("id")
    assert found["score"].null_count() == 1 and found["score_status"].to_list() == ["OK"] * 50 + ["NULL_INPUT"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_python_examples_compile_and_take_names_that_exist(path: Path):
    """Each parses, has a docstring, and uses public names only."""
    tree = ast.parse(path.read_text(), path.name)
    assert ast.get_docstring(tree)
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("stsb_batch")]
    names = {alias.name for statement in imported for alias in statement.names}
    names |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "stsb_batch"
    }
    assert {statement.module for statement in imported} <= {"stsb_batch"} and names <= set(stsb_batch.__all__)


def test_the_airflow_dag_knows_the_exit_codes():
    """The exit codes that the DAG names are those of the command line."""
    assigned = {
        node.targets[0].id: node.value
        for node in ast.parse((EXAMPLES / "airflow_dag.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(assigned["TRY_LATER"]) == stsb_batch.BusyError.exit_code
    assert set(ast.literal_eval(assigned["WARNINGS"])) == {10, 11}


def test_each_example_is_in_the_readme():
    readme = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and f"`{path.name}`" not in readme] == ["README.md"]

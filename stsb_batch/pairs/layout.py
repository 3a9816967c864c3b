"""The paths of an output: its scores, its manifest, its report and its quarantined rows.

Files without scores have names that no reader takes for scores: they begin with `_`, which Spark, Hive and pyarrow ignore,
and do not end in `.parquet`, which the globs of DuckDB and Polars look for.
"""

from dataclasses import dataclass
from pathlib import Path

STAGING = "_stsb_staging"


@dataclass(frozen=True)
class Target:
    """Where a job writes: the folder `root`, or the single file `single` in it."""

    root: Path
    single: Path | None = None

    @property
    def staging(self) -> Path:
        return self.root / STAGING / self.single.name if self.single else self.root / STAGING

    @property
    def name(self) -> Path:
        return self.single or self.root

    def path(self, output: Path) -> Path:
        return self.single or self.root / output

    @property
    def manifest(self) -> Path:
        return self._companion("manifest.json")

    @property
    def report(self) -> Path:
        return self._companion("report.pq")

    @property
    def side(self) -> Path:
        """The path of the quarantined rows: a file, or a folder that mirrors the output."""
        return self._companion("quarantine.pq") if self.single else self.root / "_quarantine"

    def side_path(self, output: Path) -> Path:
        """Return the path of a shard's quarantined rows."""
        return self.side if self.single else self.side / f"{str(output).removesuffix('.parquet')}.pq"

    @property
    def side_files(self) -> list[Path]:
        """The existing files with quarantined rows, sorted."""
        return [self.side] if self.single else sorted(self.side.rglob("*.pq"))

    def _companion(self, name: str) -> Path:
        return self.root / (f"_{self.single.stem}.{name}" if self.single else f"_{name}")


class EarlierTarget(Target):
    """The paths that version 0.1.0 used. Its outputs are still read; a run that resumes one renames its files."""

    @property
    def report(self) -> Path:
        return self.single.with_suffix(".report.parquet") if self.single else self.root / "_report.parquet"

    @property
    def side(self) -> Path:
        if self.single:
            return self.single.with_suffix(".quarantine.parquet")
        return self.root.with_name(f"{self.root.name}.quarantine")

    def side_path(self, output: Path) -> Path:
        return self.side if self.single else self.side / output

    @property
    def side_files(self) -> list[Path]:
        return [self.side] if self.single else sorted(self.side.rglob("*.parquet"))


def earlier(target: Target) -> EarlierTarget:
    """Return the same target with the paths that version 0.1.0 used."""
    return EarlierTarget(target.root, target.single)


def report_of(target: Target) -> Path:
    """Return the path of a target's report, the one of version 0.1.0 where only that exists."""
    before = earlier(target).report
    return before if before.is_file() and not target.report.is_file() else target.report


def is_report(path: Path) -> bool:
    """Say whether a path is named like a report, of this version or of 0.1.0."""
    return path.name in ("_report.pq", "_report.parquet") or path.name.endswith((".report.pq", ".report.parquet"))

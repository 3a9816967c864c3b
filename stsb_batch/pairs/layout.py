"""Where the files of an output lie: its scores, and beside them manifest, report and quarantined rows.

What holds no scores has a name that no reader of the scores takes: it begins with `_`, which Spark, Hive and pyarrow pass
over, and does not end in `.parquet`, as the globs of DuckDB and Polars do.
"""

from dataclasses import dataclass
from pathlib import Path

STAGING = "_stsb_staging"


@dataclass(frozen=True)
class Target:
    """Where a job writes: a folder, or a single file (then `single` is its path)."""

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
        return self._beside("manifest.json")

    @property
    def report(self) -> Path:
        return self._beside("report.pq")

    @property
    def side(self) -> Path:
        """Where quarantined rows go: a file, or a folder that mirrors the output."""
        return self._beside("quarantine.pq") if self.single else self.root / "_quarantine"

    def side_path(self, output: Path) -> Path:
        """Return where a shard's quarantined rows go."""
        return self.side if self.single else self.side / f"{str(output).removesuffix('.parquet')}.pq"

    @property
    def side_files(self) -> list[Path]:
        """All files there are where quarantined rows go."""
        return [self.side] if self.single else sorted(self.side.rglob("*.pq"))

    def _beside(self, name: str) -> Path:
        return self.root / (f"_{self.single.stem}.{name}" if self.single else f"_{name}")


class EarlierTarget(Target):
    """The names that version 0.1.0 gave: outputs of it are still read, and a run that goes on with one renames them."""

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
    """Return the same target with the names of version 0.1.0."""
    return EarlierTarget(target.root, target.single)


def report_of(target: Target) -> Path:
    """Return where a target's report is, under its present name or the earlier one."""
    before = earlier(target).report
    return before if before.is_file() and not target.report.is_file() else target.report


def is_report(path: Path) -> bool:
    """Say whether a path has the name of a report."""
    return path.name in ("_report.pq", "_report.parquet") or path.name.endswith((".report.pq", ".report.parquet"))

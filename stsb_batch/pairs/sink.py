"""Commit output: stage, fsync, rename, manifest, `_SUCCESS`; and see what an earlier run has already committed.

A shard's file appears under its final name whole or not at all, and carries in its footer the fingerprint it was
planned with, so a rerun knows what is done without any record beside the data.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.durable import exclusive_lock, file_sha256, replace_durably
from stsb_batch.errors import CannotCreateError, PermissionDeniedError, UsageError, escape_control, storage_error
from stsb_batch.pairs.layout import STAGING, Target, earlier, report_of
from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.pairs.source import Shard, SourceFile
from stsb_batch.sealed import check_shape, seal, unseal

STAGED = re.compile("[0-9a-f]{32}")  # a folder of one staged file
ENDED = {"report_sha256": str, "bad_files": [{"path": str}]}  # what is asked of a manifest
MANIFEST = ENDED | {"files": [{"path": str, "rows": int, "quarantined": int, "sha256": str, "fingerprint": str}]}


def choose_target(location: str, output: str | None) -> Target:
    """Derive the target from input and `-o`: a file gives `<name>.scored.parquet`, a folder `<folder>.scored/`."""
    source = Path(location)
    if output is not None:
        path = Path(output).resolve()
        single = source.is_file() and path.suffix == ".parquet" and not path.is_dir()
        return Target(path.parent, path) if single else Target(path)
    source = source.resolve()
    if source.is_file():
        return Target(source.parent, source.with_name(f"{source.stem}.scored.parquet"))
    if not source.is_dir():
        raise UsageError(f"{location}: a pattern needs an output folder. Name it with -o.")
    return Target(source.with_name(f"{source.name}.scored"))


def check_target(target: Target, sources: list[SourceFile], root: Path | None = None) -> None:
    """Raise `UsageError` when output would lie on, inside or around the input, and say at once if nothing can be written.

    `root` is the folder that the input was looked for in, None where it is a single file.
    """
    if root and target.root.is_relative_to(os.path.realpath(root)):
        raise UsageError(f"{target.root}: the output lies inside the input folder. Choose another place with -o.")
    for source in sources:
        if target.single == source.path:
            raise UsageError(f"{source.path}: the output is the input. Choose another place with -o.")
        sides = (target.side, earlier(target).side)
        if source.path in (target.report, *sides) or any(source.path.is_relative_to(side) for side in sides):
            raise UsageError(f"{source.path}: the output's report or quarantine goes there. Choose another place with -o.")
        if target.single:
            continue
        if not Path(os.path.realpath(target.root / source.relative)).is_relative_to(os.path.realpath(target.root)):
            raise UsageError(
                f"{escape_control(source.relative)}: a link leads its output out of {target.root}. "
                "Choose another place with -o."
            )
        if source.path.is_relative_to(target.root):
            raise UsageError(f"{target.root}: the output folder holds the input {source.path.name}. Choose another with -o.")
    place = next(folder for folder in (target.root, *target.root.parents) if folder.exists())
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            raise CannotCreateError(f"{place}: the file system is read-only. Choose another place with -o.")
        raise PermissionDeniedError(f"{place}: no permission to write. Check its owner and mode, or choose another with -o.")


def output_name(source: SourceFile, index: int, count: int) -> Path:
    """Name a shard's file: the input's relative path, with `-00001-of-00003` where the file has several shards.

    Always with the ending `.parquet`, which readers look for.
    """
    name = source.relative.name if source.relative.suffix == ".parquet" else f"{source.relative.name}.parquet"
    if count > 1:
        name = f"{name.removesuffix('.parquet')}-{index + 1:05d}-of-{count:05d}.parquet"
    return source.relative.with_name(name)


def footer_entries(path: Path) -> dict[str, str]:
    """Read our entries of a Parquet footer, without the prefix; empty for a missing, foreign or broken file."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except PermissionError as error:  # nobody knows whose it is
        raise storage_error(error, "reading", path) from None
    except (OSError, ValueError, pa.ArrowException):
        return {}
    prefix = METADATA_PREFIX.encode()
    ours = ((key[len(prefix) :], value) for key, value in metadata.items() if key.startswith(prefix))
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in ours}


def recorded_input(path: Path) -> dict:
    """Return what an output file of ours says of the input it was made from; empty for any other file."""
    try:
        recorded = json.loads(footer_entries(path).get("input", "{}"))
        return recorded if isinstance(recorded, dict) else {}
    except ValueError:
        return {}


def is_committed(target: Target, shard: Shard) -> bool:
    """Say whether an earlier run has committed this very shard."""
    return footer_entries(target.path(shard.output)).get("fingerprint") == shard.fingerprint


def pending_shards(target: Target, shards: list[Shard], *, overwrite: bool) -> list[Shard]:
    """Return the shards that are not committed yet; raises `CannotCreateError` when other output is in the way.

    `overwrite` replaces what this plan writes and removes what earlier plans have written, and no other file.
    """
    if target.root.exists() and not target.root.is_dir():
        raise CannotCreateError(f"{target.root}: is a file where a folder is to be written. Choose another place with -o.")
    pending, foreign = [], stale_files(target, shards)
    if strangers := [path for path in foreign if "fingerprint" not in footer_entries(path)]:
        raise CannotCreateError(f"{strangers[0]}: is in the output folder and not our own. Choose another place with -o.")
    if target.single:
        beside = ((target.report, "sketch"), (target.side, "quarantine"))
        ours = target.manifest.is_file()  # then what cannot be read is ours and damaged
        foreign += [path for path, mark in beside if path.exists() and not ours and mark not in footer_entries(path)]
    for shard in shards:
        final = target.path(shard.output)
        if final.is_dir():
            raise CannotCreateError(f"{final}: is a folder where a file is to be written. Choose another place with -o.")
        if not final.exists():
            pending.append(shard)
        elif footer_entries(final).get("fingerprint") != shard.fingerprint:
            pending.append(shard)
            foreign.append(final)
    if foreign and not overwrite:
        raise CannotCreateError(
            f"{foreign[0]}: exists from another plan (other input, model or options; {len(foreign)} such). "
            "Choose another place with -o, or replace it with --overwrite."
        )
    return pending


def stale_files(target: Target, shards: list[Shard]) -> list[Path]:
    """List Parquet files in the output folder that no shard of this plan writes."""
    if target.single or not target.root.is_dir():
        return []
    planned = {target.path(shard.output) for shard in shards}
    found = (path for path in sorted(target.root.rglob("*.parquet")) if path not in planned)
    return [p for p in found if not any(part.startswith(("_", ".")) for part in p.relative_to(target.root).parts)]


@contextlib.contextmanager
def open_target(target: Target) -> Iterator[None]:
    """Hold a target for writing: take its lock, sweep the staging of dead runs, leave nothing of ours behind."""
    try:
        with exclusive_lock(target.staging / "lock", str(target.name)):
            for left_over in target.staging.iterdir():
                if STAGED.fullmatch(left_over.name):  # not the staging of a single file beside
                    shutil.rmtree(left_over, ignore_errors=True)
            yield
    finally:
        for folder in (target.staging, target.root / STAGING):
            with contextlib.suppress(OSError):  # not empty: another run has its staging there
                folder.rmdir()


@contextlib.contextmanager
def staged_file(target: Target, name: Path) -> Iterator[Path]:
    """Give a path to write to, outside every reader's sight; removed at the end unless it was moved away."""
    folder = target.staging / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True)
        yield folder / f"{name.name}.inprogress"
    except OSError as error:
        raise storage_error(error, "writing", target.path(name)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class CommittedFile:
    """What a manifest says of an output file: its size, its digest and our entries of its footer."""

    rows: int
    bytes: int
    sha256: str
    footer: dict[str, str]


def commit(staged: Path, final: Path) -> CommittedFile:
    """Move a finished file into place and return what the manifest says of it."""
    replace_durably(staged, final)
    return committed(final)


def committed(final: Path) -> CommittedFile:
    """Read what the manifest says of a committed file."""
    return CommittedFile(
        rows=pq.read_metadata(final).num_rows,
        bytes=final.stat().st_size,
        sha256=file_sha256(final),
        footer=footer_entries(final),
    )


def begin_commits(target: Target) -> None:
    """Withdraw `_SUCCESS` before the first shard of a run changes what a reader sees."""
    if target.single is None:
        (target.root / "_SUCCESS").unlink(missing_ok=True)


def finish_commits(target: Target, manifest: dict, stale: list[Path]) -> None:
    """Write the manifest, remove files of an overwritten plan, and put a folder's `_SUCCESS` last.

    It holds the manifest's SHA-256.
    """
    content = seal(manifest)
    write_staged(target, target.manifest, content)
    if target.single is None:
        for path in stale:
            path.unlink(missing_ok=True)
        write_staged(target, target.root / "_SUCCESS", hashlib.sha256(content).hexdigest().encode())


def finished_manifest(target: Target) -> dict | None:
    """Read the manifest of a finished output; None when it, the report or a folder's `_SUCCESS` is missing or damaged."""
    try:
        content = target.manifest.read_bytes()
        manifest = parse_manifest(content, ENDED)
        success = target.single or (target.root / "_SUCCESS").read_bytes() == hashlib.sha256(content).hexdigest().encode()
        return manifest if success and file_sha256(report_of(target)) == manifest["report_sha256"] else None
    except (OSError, ValueError):
        return None


def parse_manifest(content: bytes, shape: dict = MANIFEST) -> dict:
    """Return what a manifest says; raises `ValueError` when it is damaged or has not the shape."""
    manifest, _ = unseal(content)
    check_shape(manifest, shape)
    return manifest


def write_staged(target: Target, final: Path, content: bytes) -> None:
    """Write a small file of an output, which appears whole or not at all."""
    with staged_file(target, Path(final.name)) as staged:
        staged.write_bytes(content)
        replace_durably(staged, final)


def take_over(target: Target) -> None:
    """Give the quarantined rows that an earlier version put aside their present name, and remove its report."""
    before = earlier(target)
    for path in before.side_files:
        if "quarantine" in footer_entries(path):
            final = target.side if target.single else target.side_path(path.relative_to(before.side))
            if final.exists():
                path.unlink()
            else:
                replace_durably(path, final)
    if not target.single and before.side.is_dir():
        for folder in sorted((before.side, *before.side.rglob("*")), reverse=True):
            with contextlib.suppress(OSError):  # holds files of others
                folder.rmdir()
    if "sketch" in footer_entries(before.report):
        before.report.unlink()

"""Commit output: stage, fsync, rename, manifest, `_SUCCESS`; and find what an earlier run has already committed.

A shard's file appears under its final name complete or not at all. Its footer carries the fingerprint that it was planned
with, so that a rerun knows what is done from the files alone.
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
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.durable import exclusive_lock, file_sha256, replace_durably
from stsb_batch.errors import CannotCreateError, PermissionDeniedError, UsageError, escape_control, storage_error
from stsb_batch.pairs.layout import STAGING, Target, earlier, report_of
from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.pairs.source import Shard, SourceFile
from stsb_batch.sealed import check_shape, seal, unseal

STAGED = re.compile("[0-9a-f]{32}")  # name of the folder of one staged file
ENDED = {"report_sha256": str, "bad_files": [{"path": str}]}  # the shape that every manifest has
MANIFEST = ENDED | {"files": [{"path": str, "rows": int, "quarantined": int, "sha256": str, "fingerprint": str}]}


def choose_target(location: str, output: str | None) -> Target:
    """Derive the target from input and `-o`: by default `<name>.scored.parquet` for a file, `<folder>.scored/` for a folder.

    Raises `UsageError` for a glob without `-o`.
    """
    source = Path(location)
    if output is not None:
        path = Path(output).resolve()
        single = source.is_file() and path.suffix == ".parquet" and not path.is_dir()
        return Target(path.parent, path) if single else Target(path)
    source = source.resolve()
    if source.is_file():
        return Target(source.parent, source.with_name(f"{source.stem}.scored.parquet"))
    if not source.is_dir():
        raise UsageError(f"{location}: a glob needs an output folder. Name it with -o.")
    return Target(source.with_name(f"{source.name}.scored"))


def check_target(target: Target, sources: list[SourceFile], root: Path | None = None) -> None:
    """Raise `UsageError` when the output would overlap with the input.

    `root` is the folder that was searched for input, None for a single file. Raises `CannotCreateError` or
    `PermissionDeniedError` when the output cannot be written.
    """
    if root and target.root.is_relative_to(os.path.realpath(root)):
        raise UsageError(f"{target.root}: the output is inside the input folder. Choose another place with -o.")
    for source in sources:
        if target.single == source.path:
            raise UsageError(f"{source.path}: the output is the input. Choose another place with -o.")
        sides = (target.side, earlier(target).side)
        if source.path in (target.report, *sides) or any(source.path.is_relative_to(side) for side in sides):
            raise UsageError(
                f"{source.path}: the output's report or quarantine would be written there. Choose another place with -o."
            )
        if target.single:
            continue
        if not Path(os.path.realpath(target.root / source.relative)).is_relative_to(os.path.realpath(target.root)):
            raise UsageError(
                f"{escape_control(source.relative)}: through a link its output would be outside {target.root}. "
                "Choose another place with -o."
            )
        if source.path.is_relative_to(target.root):
            raise UsageError(
                f"{target.root}: the output folder contains the input {source.path.name}. Choose another with -o."
            )
    place = next(folder for folder in (target.root, *target.root.parents) if folder.exists())
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            raise CannotCreateError(f"{place}: the file system is read-only. Choose another place with -o.")
        raise PermissionDeniedError(f"{place}: no permission to write. Check its owner and mode, or choose another with -o.")


def output_name(source: SourceFile, index: int, count: int) -> Path:
    """Return the name of a shard's file: the input's relative path, with `-00001-of-00003` where it has several shards.

    The suffix is always `.parquet`, which readers look for.
    """
    name = source.relative.name if source.relative.suffix == ".parquet" else f"{source.relative.name}.parquet"
    if count > 1:
        name = f"{name.removesuffix('.parquet')}-{index + 1:05d}-of-{count:05d}.parquet"
    return source.relative.with_name(name)


def footer_entries(path: Path) -> dict[str, str]:
    """Return our own entries of a Parquet footer, without the prefix; empty for a missing, foreign or damaged file.

    Raises `PermissionDeniedError` for a file that may not be read: whose it is cannot be known.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except PermissionError as error:
        raise storage_error(error, "reading", path) from None
    except (OSError, ValueError, pa.ArrowException):
        return {}
    prefix = METADATA_PREFIX.encode()
    ours = ((key[len(prefix) :], value) for key, value in metadata.items() if key.startswith(prefix))
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in ours}


def recorded_input(path: Path) -> dict[str, Any]:
    """Return what one of our own output files records of its input; empty for any other file."""
    try:
        recorded = json.loads(footer_entries(path).get("input", "{}"))
        return recorded if isinstance(recorded, dict) else {}
    except ValueError:
        return {}


def is_committed(target: Target, shard: Shard) -> bool:
    """Say whether an earlier run has committed this shard, with the same fingerprint."""
    return footer_entries(target.path(shard.output)).get("fingerprint") == shard.fingerprint


def pending_shards(target: Target, shards: list[Shard], *, overwrite: bool) -> list[Shard]:
    """Return the shards that are not committed yet; raises `CannotCreateError` when other output exists.

    With `overwrite`, output of other plans may be replaced or removed; files that are not our own never are.
    """
    if target.root.exists() and not target.root.is_dir():
        raise CannotCreateError(f"{target.root}: is a file, but the output is a folder. Choose another place with -o.")
    pending, foreign = [], stale_files(target, shards)
    if strangers := [path for path in foreign if "fingerprint" not in footer_entries(path)]:
        raise CannotCreateError(
            f"{strangers[0]}: is in the output folder and was not written by stsb-batch. Choose another place with -o."
        )
    if target.single:
        companions = ((target.report, "sketch"), (target.side, "quarantine"))
        ours = target.manifest.is_file()  # then a file that cannot be read is our own and damaged
        foreign += [path for path, mark in companions if path.exists() and not ours and mark not in footer_entries(path)]
    for shard in shards:
        final = target.path(shard.output)
        if final.is_dir():
            raise CannotCreateError(
                f"{final}: is a folder, but a file has to be written there. Choose another place with -o."
            )
        if not final.exists():
            pending.append(shard)
        elif footer_entries(final).get("fingerprint") != shard.fingerprint:
            pending.append(shard)
            foreign.append(final)
    if foreign and not overwrite:
        raise CannotCreateError(
            f"{foreign[0]}: was written for another input, model or options ({len(foreign)} such files). "
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
    """Lock a target for writing; removes the staging folders of dead runs first, and its own at the end.

    Raises `BusyError` when another process writes to the target.
    """
    try:
        with exclusive_lock(target.staging / "lock", str(target.name)):
            for left_over in target.staging.iterdir():
                if STAGED.fullmatch(left_over.name):  # any other entry is another run's, for a single file
                    shutil.rmtree(left_over, ignore_errors=True)
            yield
    finally:
        for folder in (target.staging, target.root / STAGING):
            with contextlib.suppress(OSError):  # not empty: another run is staging there
                folder.rmdir()


@contextlib.contextmanager
def staged_file(target: Target, name: Path) -> Iterator[Path]:
    """Yield a path to write to that no reader looks at; the file is removed at the end unless it was moved."""
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
    """Remove `_SUCCESS` before the first shard of a run changes what readers see."""
    if target.single is None:
        (target.root / "_SUCCESS").unlink(missing_ok=True)


def finish_commits(target: Target, manifest: dict[str, Any], stale: list[Path]) -> None:
    """Write the manifest, remove the `stale` files of an overwritten plan, and write a folder's `_SUCCESS` last.

    `_SUCCESS` contains the manifest's SHA-256.
    """
    content = seal(manifest)
    write_staged(target, target.manifest, content)
    if target.single is None:
        for path in stale:
            path.unlink(missing_ok=True)
        write_staged(target, target.root / "_SUCCESS", hashlib.sha256(content).hexdigest().encode())


def finished_manifest(target: Target) -> dict[str, Any] | None:
    """Return the manifest of a finished output; None when it, the report or a folder's `_SUCCESS` is missing or damaged."""
    try:
        content = target.manifest.read_bytes()
        manifest = parse_manifest(content, ENDED)
        success = target.single or (target.root / "_SUCCESS").read_bytes() == hashlib.sha256(content).hexdigest().encode()
        return manifest if success and file_sha256(report_of(target)) == manifest["report_sha256"] else None
    except (OSError, ValueError):
        return None


def parse_manifest(content: bytes, shape: dict[str, Any] = MANIFEST) -> dict[str, Any]:
    """Return a manifest's entries; raises `ValueError` when it is damaged or does not have the shape."""
    manifest, _ = unseal(content)
    check_shape(manifest, shape)
    assert isinstance(manifest, dict), "bug: the shape is an object"
    return manifest


def write_staged(target: Target, final: Path, content: bytes) -> None:
    """Write a small file of an output, which appears complete or not at all."""
    with staged_file(target, Path(final.name)) as staged:
        staged.write_bytes(content)
        replace_durably(staged, final)


def take_over(target: Target) -> None:
    """Rename the quarantine files of version 0.1.0 to their present names, and remove its report."""
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
            with contextlib.suppress(OSError):  # contains files that are not our own
                folder.rmdir()
    if "sketch" in footer_entries(before.report):
        before.report.unlink()

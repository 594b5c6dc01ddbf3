"""Commands for published data sets and their versions."""

import json
import sys
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.commands import completion
from flows.commands.exit_codes import FAILED
from flows.commands.options import (
    DatasetName,
    DatasetPath,
    Json,
    Mask,
    Model,
    OutUrl,
    Version,
    given_model,
    local,
    print_json,
)

app = typer.Typer()


@app.command(name="list")
def list_datasets(
    out: OutUrl = "datasets",
    as_json: Json = False,
) -> None:
    """List data sets and their versions. * marks the latest; pins are named.

    \b
    facefoundry list
    facefoundry list --out s3://faces/datasets
    """
    from storage.stores import store_at
    from storage.versions import published_versions

    store = store_at(out)
    if isinstance(store.place, Path) and store.place.is_file():
        raise ValueError(f"{out} is a file; data sets lie in a folder")
    rows: list[dict[str, Any]] = [
        {
            "dataset": name,
            "version": state.version,
            "latest": state.is_latest,
            "published": _utc(state.published_s),
            "pins": list(state.pins),
        }
        for name in store.folders()
        for state in sorted(published_versions(store.folder(name)), key=lambda state: state.version)
    ]
    if as_json:
        print_json(datasets=rows)
        return
    if not rows:
        print(f"no data sets in {out}", file=sys.stderr)
    for row in rows:
        pins = f"  pinned by {', '.join(row['pins'])}" if row["pins"] else ""
        print(f"{'*' if row['latest'] else ' '} {row['dataset']}  {row['version']}  {row['published']}{pins}")


@app.command()
def info(dataset: DatasetPath, version: Version = None, as_json: Json = False) -> None:
    """Tell what a version holds, from what, and by which config.

    \b
    facefoundry info datasets/300wlp-posmaps
    facefoundry info datasets/300wlp-posmaps --version 864864a7acfc07c1 --json
    """
    from flows.dataset_page import page_lines
    from storage.dataset import open_dataset

    opened = open_dataset(dataset, version)
    if not as_json:
        for line in page_lines(opened):
            print(line)
        return
    manifest = opened.manifest
    about = {
        "dataset": manifest.name,
        "version": manifest.version,
        "samples": manifest.n_samples,
        "rejected": len(manifest.rejected),
        "bytes": sum(thing.bytes for thing in manifest.objects),
        "model": manifest.model.model_dump(),
        "sources": [source.model_dump(exclude={"details"}) for source in manifest.plan.sources],
        "config": manifest.config,
        "statistics": manifest.statistics,
        "targets": {t.name: f"{t.dtype} {list(t.sample_shape)} {t.unit}".strip() for t in opened.schema.everything},
        "rejected_samples": [hole.model_dump() for hole in manifest.rejected],
    }
    print_json(**about)


@app.command()
def diff(
    dataset: DatasetName,
    version_a: Annotated[str, typer.Argument(autocompletion=completion.versions, help="A version.")],
    version_b: Annotated[str, typer.Argument(autocompletion=completion.versions, help="Another version.")],
    samples: Annotated[int, typer.Option(min=0, help="Samples named of each kind; all are counted.")] = 5,
    as_json: Json = False,
) -> None:
    """Tell what changes from one version to another. Config, model, sources, counts, statistics, targets, samples.

    \b
    facefoundry diff datasets/300wlp-posmaps 234b4dee8013a663 864864a7acfc07c1 --samples 20
    """
    from dataclasses import asdict

    from storage.dataset import open_dataset
    from storage.version_diff import diff_versions

    found = diff_versions(open_dataset(dataset, version_a), open_dataset(dataset, version_b))
    if as_json:
        print_json(equal=found.is_empty, **asdict(found))
        return
    for part in ("config", "model", "sources", "counts", "statistics", "targets"):
        for name, (before, after) in getattr(found, part).items():
            print(f"{part}.{name}: {json.dumps(before)} -> {json.dumps(after)}")
    named = {"added": found.added, "removed": found.removed}
    named |= {f"changed in {target}": names for target, names in found.changed.items()}
    for what, names in named.items():
        if names:
            shown = ", ".join(f"{source_id} ({nth})" for source_id, nth in names[:samples])
            print(f"samples {what}: {len(names)}" + (f": {shown}" if shown else ""))
    print(f"samples the same: {found.n_same}")


@app.command()
def verify(
    dataset: DatasetPath,
    version: Version = None,
    fast: Annotated[bool, typer.Option("--fast", help="Names and sizes alone; default: every byte.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make what is damaged again, from the sources, byte for byte.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option(help="Of --repair: where the pictures lie. Default: the sample drawn here.")
    ] = None,
    model: Model = None,
    mask: Mask = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of --repair; 0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Hold every object of a version against its manifest. Exit code 1 when something is wrong and stays so.

    \b
    facefoundry verify datasets/300wlp-posmaps
    facefoundry verify datasets/300wlp-posmaps --repair --source 300W_LP --model BFM.mat
    """
    from flows.progress import counted, progress_of
    from storage import verify as verification
    from storage.dataset import version_store

    store = version_store(dataset, version)

    def look() -> list[verification.Finding]:
        with counted(progress_of("verify", unit="objects", silent=as_json)) as progress:
            return verification.verify(store, full=not fast, progress=progress)

    findings = look()
    mended: Collection[str] = ()
    if repair and findings:
        from flows.repair import repair_here

        files = {} if mask is None else {"mask": mask}
        mended = repair_here(store, findings, source=source, model=given_model(model), files=files, workers=workers)
        findings = look()
    if as_json:
        print_json(
            path=str(store), whole=not findings, mended=sorted(mended), findings=[str(finding) for finding in findings]
        )
    else:
        for key in sorted(mended):
            print(f"{key}: made again")
        for finding in findings:
            print(finding)
        print(f"{store}: {'whole' if not findings else f'{len(findings)} objects are not as published'}")
    if findings:
        raise typer.Exit(FAILED)


@app.command()
def prune(
    dataset: DatasetName,
    keep: Annotated[int, typer.Option(min=1, help="So many versions stay, the latest and then the youngest.")],
    keep_days: Annotated[float, typer.Option(min=0, help="So do those published within so many days.")] = 0,
    as_json: Json = False,
) -> None:
    """Remove old versions. Never the latest, a pinned one, one that is open somewhere, or an unfinished build.

    \b
    facefoundry prune datasets/300wlp-posmaps --keep 3
    facefoundry prune datasets/300wlp-posmaps --keep 1 --keep-days 30
    """
    from storage.stores import store_at
    from storage.versions import prune as prune_versions

    done = prune_versions(store_at(dataset), keep=keep, keep_days=keep_days, now_s=time.time())
    if as_json:
        print_json(removed=list(done.removed), kept=done.kept)
        return
    for version in done.removed:
        print(f"removed  {version}")
    for version, reason in done.kept.items():
        print(f"kept     {version}  {reason}")


@app.command()
def pin(
    dataset: DatasetName,
    version: Annotated[str, typer.Argument(autocompletion=completion.versions, help="The version to keep.")],
    holder: Annotated[str, typer.Argument(help="Who wants it, such as prnet-run-7.")],
    release: Annotated[bool, typer.Option("--release", help="Take the pin away again.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a version from being pruned. It stays until the pin is released, however many processes come and go.

    \b
    facefoundry pin datasets/300wlp-posmaps 864864a7acfc07c1 prnet-run-7
    facefoundry pin datasets/300wlp-posmaps 864864a7acfc07c1 prnet-run-7 --release
    """
    from storage import pins
    from storage.stores import store_at

    (pins.unpin if release else pins.pin)(store_at(dataset), version, holder)
    if as_json:
        print_json(dataset=dataset, version=version, holder=holder, pinned=not release)


@app.command()
def export(
    dataset: DatasetPath,
    to: Annotated[
        Literal["webdataset", "prnet", "huggingface", "parquet", "meshes"],
        typer.Option(help="Tars, PRNet's loose files, a folder for `datasets`, an index to filter by, or meshes."),
    ],
    out: Annotated[Path, typer.Option(callback=local, help="Folder to write; it must be new or empty.")],
    version: Version = None,
    format: Annotated[Literal["obj", "ply", "glb"] | None, typer.Option(help="Of meshes. Default: ply.")] = None,
    as_json: Json = False,
) -> None:
    """Write a version in another program's format. The folder appears when it is whole.

    \b
    facefoundry export datasets/300wlp-posmaps --to webdataset --out tars
    facefoundry export datasets/300wlp-posmaps --to meshes --format glb --out meshes
    """
    from functools import partial

    from flows.progress import progress_of
    from storage.dataset import open_dataset
    from storage.exports import meshes, parquet, prnet, webdataset

    if format and to != "meshes":
        raise typer.BadParameter(f"--format belongs to --to meshes, not to {to}")
    exports: dict[str, Callable[..., Any]] = {
        "webdataset": webdataset.export,
        "prnet": prnet.export,
        "huggingface": parquet.export_huggingface,
        "parquet": parquet.export_index,
        "meshes": partial(meshes.export, format=format or "ply"),
    }
    opened = open_dataset(dataset, version)
    with progress_of(f"export to {to}", silent=as_json)(len(opened)) as report:
        files = exports[to](opened, out, progress=report)
    if as_json:
        manifest = opened.manifest
        print_json(
            path=str(out.absolute()), dataset=manifest.name, version=manifest.version, samples=len(opened), files=files
        )
    else:
        print(f"{len(opened)} samples in {out}")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")

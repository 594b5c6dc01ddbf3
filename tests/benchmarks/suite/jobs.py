"""Rows of whole jobs: processes from start to end, and commands that must start at once."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from flows import build, presets
from tests.benchmarks import main_job, many_targets, usual_recipe
from tests.benchmarks.suite import storing
from tests.benchmarks.suite.material import Material
from tests.benchmarks.suite.rows import Contender, Goal, Row

BARE = "bare JPEG decoding and warp"
USUAL = "usual recipe"
FEW = "build, few samples"
LARGE = "build, parametric"


def rows(material: Material) -> Iterator[Row]:
    """From the largest job to the shortest command."""
    yield build_row(material, "parametric")
    yield few_samples(material)
    yield build_row(material, "materialized")
    yield shards_alone(material)
    yield two_workers(material)
    yield many_target_build(material)
    yield rebuild(material)
    yield storing.read(material, "shuffled")
    yield help_of_the_command_line()
    yield import_geometry()


def command(material: Material, maps: str, *options: str, source: Path | None = None) -> list[str]:
    """The main job as a user starts it."""
    size = ("--size", str(material.sizes.size_px))
    return main_job.ours(material.folder, source or material.source, maps, *size, *options)


def usual_job(material: Material) -> Contender:
    """The usual recipe of fewer pictures, in this process: its start, which they would have to share, is left out."""
    pictures, out, recipe = sorted(material.for_usual.glob("*/*.jpg")), material.folder / "usual", material.usual
    usual_recipe.run(pictures[:1], out, recipe)
    return Contender(USUAL, lambda: usual_recipe.run(pictures, out, recipe), material.sizes.usual)


def fresh(line: list[str], out: Path) -> Callable[[], None]:
    """Runs a command whose output folder is not there."""

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        main_job.run(line)

    return run


def bare(material: Material) -> Contender:
    """What nobody can do without: each file read, decoded and warped, in this process, nothing kept."""
    matrix = np.array([[1.05, 0, -100], [0, 1.05, -100.0]])
    paths = sorted(material.source.glob("*/*.jpg"))

    def run() -> None:
        for path in paths:
            picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
            cv2.warpAffine(picture, matrix, (256, 256), flags=cv2.INTER_LINEAR)

    return Contender(BARE, run, len(paths))


def build_row(material: Material, maps: str) -> Row:
    n = material.sizes.pictures
    parametric = maps == "parametric"
    return Row(
        f"build, {maps}", f"a sample, {n} from files to a published data set",
        Contender(f"build 300wlp-posmaps --maps {maps}", fresh(command(material, maps), material.folder / maps), n),
        (usual_job(material), *((bare(material),) if parametric else ())),
        why="Start-up, plan, data card and contact sheet cost the same for any number of samples; what grows with it is "
        "in the row of the shards. The usual recipe keeps no checksums, writes without waiting for the disk and verifies "
        "nothing.",
        goals=(
            Goal(USUAL, 10.0, limit="decoding, which both must do, the durable, checked write, and a run's fixed cost"),
            *((Goal(BARE, 1 / 2.5, limit="a run's fixed cost over this many samples"),) if parametric else ()),
        ),
        is_long=True,
    )  # fmt: skip


def few_samples(material: Material) -> Row:
    n, source = material.sizes.usual, material.for_usual
    line = command(material, "parametric", source=source)
    return Row(
        FEW, f"a sample, {n} from files to a published data set",
        Contender("build 300wlp-posmaps --maps parametric", fresh(line, material.folder / "parametric"), n),
        (usual_job(material),),
        why="Most of it is a run's fixed cost; with the row before it gives that cost and the rate (below).",
        is_long=True,
    )  # fmt: skip


def shards_alone(material: Material) -> Row:
    n, out = material.sizes.pictures, material.folder / "alone"
    config = presets.posmaps_300wlp(maps="parametric", size_px=material.sizes.size_px)
    with build.opened_build(config, source=material.source, model="built-in", out=out) as opened:
        job = opened.job

    def run() -> None:
        for shard in range(job.plan.n_shards):
            build.build_shard(job, shard)

    return Row(
        "build, shards alone", f"a sample, {n} planned already",
        Contender("parametric shards", run, n),
        (bare(material),),
        why="What a large data set costs a sample. Beside decoding and warping: "
        "SHA-256 of the sources and of the shards, the annotation's child process, vertices for the landmarks' read-back "
        "and depth, lossless compression, and waiting for the disk. docs/speed.md has the profile. The child's processor "
        "time, a tenth of a millisecond, is not in the row: it has not ended.",
        goals=(Goal(BARE, 1 / 2.5, limit="compression, checksums and NumPy's small calls"),),
    )  # fmt: skip


def two_workers(material: Material) -> Row:
    n, out = material.sizes.pictures, material.folder / "materialized"

    def with_workers(workers: int) -> Contender:
        line = command(material, "materialized", "--workers", str(workers))
        return Contender(f"{'two workers' if workers == 2 else 'one worker'}", fresh(line, out), n)

    return Row(
        "build, two workers", f"a sample, {n} from files to a published data set",
        with_workers(2),
        (with_workers(1),),
        why="By the clock, and only on a machine with two idle cores. Start-up, plan, verification and data card stay with "
        "one process, so small data sets gain little.",
        goals=(Goal("one worker", 1.8, clock="wall", limit="start-up, plan, verification and card are one process's"),),
        is_long=True,
        clock="wall",
    )  # fmt: skip


def many_target_build(material: Material) -> Row:
    source, n = material.few, material.sizes.many

    def built(targets: tuple[str, ...], source: Path = source) -> None:
        out = material.folder / "targets"
        shutil.rmtree(out, ignore_errors=True)
        many_targets.shards_of(source, out, targets)

    built(many_targets.EVERYTHING, material.two)  # in this process: what is compiled or loaded once counts for neither
    return Row(
        "build of many targets", f"a sample, {n} with map, field, parts and heatmaps",
        Contender("one build", lambda: built(many_targets.EVERYTHING), n),
        (Contender("a build a target", lambda: [built((name,)) for name in many_targets.EVERYTHING][:0], n),),
        why="One decoding, one crop and one evaluation of each mesh serve all targets; what remains is each target's own. "
        "Each build's plan and data card are in it, and outweigh a small number of samples.",
        is_long=True,
    )  # fmt: skip


def rebuild(material: Material) -> Row:
    n = material.sizes.pictures
    line = command(material, "parametric")
    main_job.run(line)  # published, whatever the rows before it left there
    files = [path for path in material.source.rglob("*") if path.is_file()]

    def hashed() -> None:
        for path in files:
            hashlib.sha256(path.read_bytes()).hexdigest()

    return Row(
        "rebuild, nothing to do", f"a sample, {n} that are published already",
        Contender("the same command again", lambda: main_job.run(line), n),
        (usual_job(material), Contender("SHA-256 of the source", hashed, n)),
        why="The usual recipe does all of it again. Ours lists and hashes the source, finds the version published and says "
        "so; most of that is start-up.",
        is_long=True,
    )  # fmt: skip


def help_of_the_command_line() -> Row:
    return _start(
        "facefoundry --help",
        ["-c", "from flows.command_line import main; main()", "--help"],
        "python -c pass",
        ["-c", "pass"],
        Goal("python -c pass", 0.0, seconds=0.3, clock="wall", limit="other work on the machine, or a cold disk"),
        "What is imported to print it: typer and the commands' signatures; nothing that computes.",
    )


def import_geometry() -> Row:
    return _start(
        "import geometry",
        ["-c", "import geometry"],
        "import numpy",
        ["-c", "import numpy"],
        Goal("import numpy", 0.0, seconds=0.5, clock="wall", limit="other work on the machine, or a cold disk"),
        "Packages give their names out when they are asked for; importing one loads nothing.",
    )


def _start(name: str, ours: list[str], baseline: str, theirs: list[str], goal: Goal, why: str) -> Row:
    def process(arguments: list[str]) -> Callable[[], None]:
        def run() -> None:
            subprocess.run([sys.executable, *arguments], check=True, cwd=main_job.ROOT, stdout=subprocess.DEVNULL)

        return run

    contender = Contender(name, process(ours))
    return Row(name, "a process", contender, (Contender(baseline, process(theirs)),), why=why, goals=(goal,))

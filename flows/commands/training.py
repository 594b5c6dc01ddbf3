"""Commands that train systems, measure them and use them."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands import completion
from flows.commands.checkpoints import Checkpoint, OneCheckpoint, given_checkpoint
from flows.commands.configured import Config, with_config
from flows.commands.exit_codes import FAILED
from flows.commands.options import Folder, Json, Model, Version, given_model, local, print_json
from flows.errors import WrongConfig
from train.systems import SYSTEMS, UnknownSystem, system_names

app = typer.Typer()


PROTOCOL_NAMES = (
    "dataset", "aflw2000", "300w-common", "300w-challenging", "300w-full", "300w-private", "menpo", "pts", "3dfaw", "aflw",
    "aflw-lfpa", "300vw", "ears", "florence",
)  # fmt: skip
"""Those of :mod:`flows.evaluations`, known before it is loaded."""


def _known_system(name: str | None) -> str | None:
    if name is not None and name not in SYSTEMS and name not in system_names():  # None: while a line is completed
        raise typer.BadParameter(str(UnknownSystem(name)))
    return name


@app.command(
    cls=with_config(
        {system: f"train-{system.replace('_', '-')}" for system in SYSTEMS},
        chosen_by="system",
        here_alone=lambda system: ("fresh",),
    )
)
def train(
    system: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM",
            callback=_known_system,
            autocompletion=completion.systems,
            help=f"What to train: {', '.join(SYSTEMS)}, or a system that an installed package adds.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            autocompletion=completion.data_sets,
            help="A data set: <out>/<name>, a version's own folder, or a name in --out.",
        ),
    ],
    version: Version = None,
    preset: Annotated[
        Literal["tiny", "paper"], typer.Option(help="tiny learns on a CPU in minutes; paper is the paper's.")
    ] = "tiny",
    out: Annotated[Path, typer.Option(callback=local, help="Runs lie in runs/<system>/ below it.")] = Path("datasets"),
    validation: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.data_sets,
            help="Another data set to validate on. Default: people of --data that are held out.",
        ),
    ] = None,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the people that is not learnt from; 0: no validation.")
    ] = 0.1,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field of the system's or the run's config; again for more: --set batch_size=8 "
            "--set phases.stage-1.optimiser.learning_rate=1e-4.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of every phase. Default: the preset's.")] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.augmentations,
            help="none, a preset or a mixture (prnet:2+dan). Default: what the system's paper trained with.",
        ),
    ] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="A ResNet's state dict for the backbone; nothing is ever downloaded.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read ahead; 0 (default): the training reads itself.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; default: go on where the run stopped.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a system on a published data set. The same command goes on with a run that was stopped.

    \b
    facefoundry train prnet --data datasets/300wlp-posmaps
    facefoundry train dan --data 300wlp-posmaps --preset paper --set workers=8 --set 'precision="bf16"'
    accelerate launch --num_processes 4 --no_python facefoundry train prnet --data 300wlp-posmaps --preset paper
    """
    from flows.progress import told_once
    from flows.training import train_here
    from flows.training_progress import counting, training_shown

    if config is not None and system not in SYSTEMS:
        raise WrongConfig(f"{config}: tables are of deployed flows, and none trains {system}: give its options here")
    read_ahead = [] if workers is None else [f"workers={workers}"]
    with told_once() as stop, training_shown(system, silent=as_json) as shown:
        done = train_here(
            system, data, version=version, preset=preset, out=out, validation=validation, hold_out=hold_out,
            settings=[*(settings or ()), *read_ahead], steps=steps, augment=augment, pretrained=pretrained,
            resume=not fresh, tell=shown.tell, report=shown.report, stop=counting(stop, shown.step),
        )  # fmt: skip
    if not done.finished:
        raise KeyboardInterrupt
    if not done.is_main:
        return
    if as_json:
        print_json(
            system=system,
            folder=str(done.folder.absolute()),
            checkpoint=str(done.checkpoint.absolute()),
            measure=done.measure,
            validation=done.validation,
            steps=done.steps,
            seconds=round(done.seconds, 3),
        )
        return
    print(f"checkpoint  {done.checkpoint}")
    print(f"card        {done.folder / 'card.md'}")
    if done.validation is not None:
        print(f"validation  {done.measure} {100 * done.validation:.2f} %")
    print(f"steps       {done.steps}, {done.seconds:.1f} s")


class _Evaluate(OneCheckpoint, with_config({"": "evaluate"})):  # type: ignore[misc]
    """One checkpoint, and a config file."""


@app.command(cls=_Evaluate)
def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.data_sets,
            help="A data set (folder, or name in datasets/), photographs, a table, or a folder of renders.",
        ),
    ],
    version: Version = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=lambda: list(PROTOCOL_NAMES),
            help=f"{', '.join(PROTOCOL_NAMES)}. Default: what the data are.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Of a table: the folder that its paths count from. Default: the table's own.")
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|truth|table|centre-46|whole|detector",
            help="Boxes from a table (path, left, top, right, bottom), or by a rule. Default: the protocol's.",
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.landmark_schemes,
            help="Which points the set has: a scheme's name, or a .json with each point's places.",
        ),
    ] = None,
    label_yaw: Annotated[
        Path | None, typer.Option(help="Of aflw2000: a table (path, yaw) of AFLW's labels, for the second yaw bins.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.models,
            help="Of aflw2000: the morphable model of its coefficients, to measure every vertex.",
        ),
    ] = None,
    passes: Annotated[
        int | None, typer.Option(min=1, max=5, help="Cut the crop again about what was found, so often.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=local, help="Folder to write. Default: evaluations/<system>-<…>.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure a trained system as its paper does. Metrics, error curves, a page of predictions.

    \b
    facefoundry evaluate runs/prnet/best.pt datasets/heldout
    facefoundry evaluate runs/prnet/best.pt AFLW2000
    facefoundry evaluate runs/dan/best.pt 300W --protocol 300w-full --boxes boxes.csv
    """
    from flows.evaluations import evaluate_here
    from flows.progress import progress_of
    from train.evaluation_report import table_lines

    done = evaluate_here(
        given_checkpoint(checkpoint),
        data,
        version=version,
        protocol=protocol,
        pictures=pictures,
        boxes=boxes,
        scheme=scheme,
        label_yaw=label_yaw,
        model=None if model is None else given_model(model),
        passes=passes,
        out=out,
        progress=progress_of("evaluate", unit="images", silent=as_json),
    )
    if as_json:
        print_json(folder=str(done.folder.absolute()), **done.document)
        return
    for line in table_lines(done.document):
        print(line)
    print(done.folder)


@app.command(cls=OneCheckpoint)
def predict(
    checkpoint: Checkpoint,
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE|FOLDER|VIDEO...", help="Pictures, folders, videos.")
    ] = None,
    out: Folder = Path("predictions"),
    boxes: Annotated[
        str,
        typer.Option(
            metavar="FILE|auto|landmarks|detector|whole",
            help="A table of boxes, landmarks beside the pictures, dlib's detector, the whole picture, or what there is.",
        ),
    ] = "auto",
    passes: Annotated[int, typer.Option(min=1, max=5, help="Cut the crop again about what was found, so often.")] = 1,
    export: Annotated[
        Literal["obj", "ply", "glb"] | None, typer.Option(help="Write the reconstruction with the picture's colours.")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Of densereg: fit the morphable model to the predicted field.")
    ] = False,
    dan: Annotated[
        Path | None,
        typer.Option(
            autocompletion=completion.checkpoints,
            help="Of densereg: a checkpoint of dan that starts from its landmarks.",
        ),
    ] = None,
    model: Model = None,
    transfer: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A B", help="Put the face of B onto the one of A, through UV.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict on pictures and videos. Landmarks, pose, meshes, fields and overlays.

    \b
    facefoundry predict runs/prnet/best.pt portrait.jpg --export glb
    facefoundry predict runs/densereg/best.pt photographs --fit --dan runs/dan/best.pt
    facefoundry predict runs/densereg/best.pt --transfer a.jpg b.jpg
    """
    from flows.predict import PredictOptions, listed, predict_here, transfer_here
    from flows.progress import progress_of

    if transfer is None and not inputs:
        raise typer.BadParameter("give pictures, folders or videos, or --transfer A B")
    checkpoint = given_checkpoint(checkpoint)
    options = PredictOptions(out, boxes, passes, export, fit, dan, given_model(model))
    moved = {}
    if transfer is not None:
        written = transfer_here(checkpoint, *transfer, options)
        moved = {"path": str(written.absolute())}
        if not as_json:
            print(written)
        elif not inputs:
            print_json(**moved)
    if not inputs:
        return
    with progress_of("predict", unit="files", silent=as_json)(len(listed(inputs))) as report:
        outcome = predict_here(checkpoint, inputs, options, progress=report)
    refused = [{"path": r.source_id, "code": r.code, "reason": r.reason} for r in outcome.rejected]
    if as_json:
        print_json(**moved, about=outcome.about, predictions=outcome.documents, rejected=refused)
    else:
        about = outcome.about
        print(
            f"{about['system']}, {about['size_mb']} MB: {about['latency_ms']} ms from crop to geometry ({about['processor']})"
        )
        if about["in_the_paper"]:  # a system of another package may have no paper
            print(f"in the paper: {about['in_the_paper']}")
        for document in outcome.documents:
            print(document["file"])
        for refusal in outcome.rejected:
            print(f"facefoundry: {refusal.source_id}: {refusal.reason} [{refusal.code}]", file=sys.stderr)
    if refused:
        raise typer.Exit(FAILED)


@app.command(name="export-onnx", cls=OneCheckpoint)
def export_onnx(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    as_json: Json = False,
) -> None:
    """Write a trained system as ONNX. It is run beside torch, and kept only when both agree.

    \b
    facefoundry export-onnx runs/prnet/best.pt prnet.onnx
    """
    from train.onnx_export import export_onnx as export_checked
    from train.restore import restore

    done = export_checked(restore(given_checkpoint(checkpoint)), out)
    if as_json:
        print_json(path=str(done.path.absolute()), size_mb=done.size_mb, differences=dict(done.differences))
        return
    print(f"{done.path}: {done.size_mb:.1f} MB")
    for name, difference in done.differences.items():
        print(f"  {name}: at most {difference:.2g} from torch")

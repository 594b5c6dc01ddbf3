"""Commands that fit a morphable model to landmarks."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands import completion
from flows.commands.configured import Config, with_config
from flows.commands.exit_codes import FAILED
from flows.commands.options import Folder, Json, Model, Out, Scheduler, Workers, given_model, print_json

app = typer.Typer()

Scheme = Annotated[
    str,
    typer.Option(
        autocompletion=completion.landmark_schemes,
        help="Which landmarks the files hold: ibug-68, 3dfaw-66, inner-51, inner-49, aflw-21, aflw-19.",
    ),
]
LandmarksFrame = Annotated[
    Literal["stored", "upright"],
    typer.Option(help="Landmarks count pixels as the file stores them, or of the picture turned as EXIF says."),
]
Contour = Annotated[
    Literal["march", "fixed"] | None,
    typer.Option(help="Jaw points slide along the visible contour, or are fixed vertices. Default: by the scheme."),
]
Loss = Annotated[
    Literal["squares", "huber", "geman_mcclure"] | None,
    typer.Option(
        help="For wrong points among the landmarks: bound the pull of each (huber) or let it go (geman_mcclure). "
        "Default: squares, none are wrong."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="The detector's 68-point model, shape_predictor_68_face_landmarks.dat (non-commercial use only). Default: "
        "where Debian's libdlib-data puts it. Never downloaded."
    ),
]


@app.command()
def fit(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs, JPEG or PNG.")],
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="One image's .pts, .json or .mat, or a table (.csv, .parquet, .json). Default: a file beside each "
            "image, else the detector."
        ),
    ] = None,
    model: Model = None,
    out: Folder = Path("fits"),
    scheme: Scheme = "ibug-68",
    landmarks_frame: LandmarksFrame = "stored",
    contour: Contour = None,
    loss: Loss = None,
    weights: Weights = None,
    same_person: Annotated[
        bool, typer.Option("--same-person", help="All faces are one person's: they share one identity.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit the morphable model to faces. Writes a .fit.json, the picture, and 300W-LP's .mat of each.

    \b
    facefoundry fit portrait.jpg --landmarks portrait.pts
    facefoundry show fits/portrait_0.fit.json --export glb
    """
    import math

    from flows import presets
    from flows.fit_images import ImageFit, fit_images
    from flows.progress import progress_of

    chosen = {name: value for name, value in (("contour", contour), ("loss", loss)) if value}
    outcomes = fit_images(
        images,
        config=presets.landmark_fits(scheme=scheme, landmarks_frame=landmarks_frame, **chosen),
        landmarks=landmarks,
        weights=weights,
        model=given_model(model),
        out=out,
        same_person=same_person,
        progress=progress_of("fit", unit="faces", silent=as_json),
    )
    good = [outcome for outcome in outcomes if isinstance(outcome, ImageFit)]
    bad = [outcome for outcome in outcomes if not isinstance(outcome, ImageFit)]
    for terms in sorted({o.fit.licence for o in good if o.fit.licence}):
        print(f"facefoundry: {terms}", file=sys.stderr)
    if as_json:
        fits = [
            {
                "image": str(o.image),
                "path": str(o.path.absolute()),
                "result": o.fit.result,
                "residual_px": o.fit.mean_residual_px,
                "landmark_origin": o.fit.landmark_origin,
            }
            for o in good
        ]
        refused = [{"image": o.source_id, "code": o.code, "reason": o.reason} for o in bad]
        print_json(fits=fits, rejected=refused)
    else:
        for o in good:
            sure = math.degrees(max(o.fit.pose_stddev_rad))
            print(
                f"{o.path}: {o.fit.result}, landmarks {o.fit.mean_residual_px:.2f} px of {o.fit.picture} from the model on "
                "average, "
                f"pose sure to {sure:.1f}°, shape to {o.fit.surface_stddev_mm:.1f} mm"
            )
        for refusal in bad:
            print(f"facefoundry: {refusal.source_id}: {refusal.reason} [{refusal.code}]", file=sys.stderr)
    if bad:
        raise typer.Exit(FAILED)


@app.command(name="fit-landmarks", cls=with_config({"": "fit-landmarks"}))
def fit_landmarks(
    source: Annotated[
        Path | None, typer.Argument(help="Folder of photographs. Default: those of a sample drawn here.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Landmarks of all of them: .csv, .parquet or .json. Default: files beside them.")
    ] = None,
    model: Model = None,
    out: Out = Path("datasets"),
    scheme: Scheme = "ibug-68",
    landmarks_frame: LandmarksFrame = "stored",
    contour: Contour = None,
    loss: Loss = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Let the detector look at photographs without landmarks.")
    ] = False,
    weights: Weights = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    on_bad: Annotated[
        Literal["quarantine", "fail"], typer.Option(help="List bad faces and go on, or stop at the first.")
    ] = "quarantine",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="A larger share of bad faces stops the build.")] = 0.01,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fit a whole folder of photographs. Makes a data set of fits, and a folder that is read as 300W-LP is.

    \b
    facefoundry fit-landmarks 300W/01_Indoor
    facefoundry build 300wlp-posmaps --source datasets/sources/fits/VERSION
    """
    from flows import presets
    from flows.fits import fit_here
    from flows.progress import progress_of

    start = time.monotonic()
    chosen = {name: value for name, value in (("contour", contour), ("loss", loss)) if value}
    published = fit_here(
        presets.landmark_fits(scheme=scheme, landmarks_frame=landmarks_frame, **chosen),
        source=source,
        table=table,
        detect=detect,
        weights=weights,
        model=given_model(model),
        out=out,
        workers=workers,
        max_bad=max_bad,
        fail_on_first=on_bad == "fail",
        progress=progress_of("fit-landmarks", unit="faces", silent=as_json),
        scheduler=scheduler,
    )
    seconds = time.monotonic() - start
    if as_json:
        print_json(
            dataset=published.dataset,
            version=published.version,
            path=str(published.path),
            folder=str(published.folder),
            samples=published.samples,
            rejected=published.rejected,
            licence=published.licence,
            seconds=round(seconds, 3),
        )
        return
    print(f"data set       {published.path}")
    print(f"contact sheet  {published.contact_sheet}")
    print(f"as 300W-LP     {published.folder}")
    print(f"faces          {published.samples}, {published.rejected} rejected, {seconds:.1f} s")
    print(f"terms          {published.licence}")

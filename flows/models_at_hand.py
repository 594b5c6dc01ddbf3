"""The morphable model of a job where its workers find it: converted once into ``<out>/models``, whose pages they share."""

from collections.abc import Sequence
from pathlib import Path

from geometry import load_model
from geometry.model_archive import SUFFIX, open_model, save_model
from geometry.models import BUILT_IN
from geometry.morphable_model import DenseModel, MorphableModel
from storage.store import Place
from storage.stores import store_at

MODELS_FOLDER = "models"


def local_folder(out: Place) -> Path:
    """Where what must be local lies, the sample and the converted model: `out`, or ``datasets`` for an object store."""
    return out if isinstance(out, Path) else Path("datasets").absolute()


def model_at_hand(model: str | Sequence[str], out: Place) -> tuple[MorphableModel, str]:
    """The model, and where workers find it again: the name of the built-in one, or the path of the converted file.

    Every byte of the converted file is looked at once, here: all workers will believe it. Raises as
    :func:`geometry.models.load_model`.
    """
    loaded = load_model(model)
    if not isinstance(loaded, DenseModel):
        return loaded, BUILT_IN
    archive = model_archive_path(loaded, local_folder(out))
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        save_model(loaded, archive)
    if not isinstance(out, Path):  # readers of parametric data sets look for it there
        store_at(out / MODELS_FOLDER).put_if_absent(archive.name, archive.read_bytes())
    return open_model(archive, verify=True), str(archive)


def model_archive_path(model: DenseModel, out: Path) -> Path:
    """Where the converted model lies, for builders and for readers of parametric data sets."""
    return out / MODELS_FOLDER / f"{model.fingerprint}{SUFFIX}"

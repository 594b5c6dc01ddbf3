"""Whether an annotation can belong to a picture and a model at all, before anything is made of it."""

import numpy as np
from jaxtyping import Float

from geometry.landmarks import INNER
from geometry.morphable_model import Coefficients, MorphableModel
from storage.annotations import Annotation
from storage.bad_sample import BadSample

COEFFICIENT_LIMIT = 15.0
"""In standard deviations; the largest in AFLW2000-3D are below 10, a file in other units has thousands."""


def check_coefficients(model: MorphableModel, coefficients: Coefficients) -> None:
    """Raise BadSample for coefficients that are not the model's: another number, or sizes that no face has."""
    try:
        model.check(coefficients)
    except ValueError as error:
        raise BadSample("param.count", str(error)) from None
    in_stddevs = coefficients.in_stddevs(model)
    largest = max(np.abs(in_stddevs.identity).max(initial=0), np.abs(in_stddevs.expression).max(initial=0))
    if not largest <= COEFFICIENT_LIMIT:
        raise BadSample(
            "param.range",
            f"a coefficient lies {largest:.3g} standard deviations from the mean, more than {COEFFICIENT_LIMIT:g}: "
            f"the file is damaged or was made for another model than {model.name}",
        )


def check_landmarks(annotation: Annotation, projected: Float[np.ndarray, "68 3"], *, tolerance: float) -> None:
    """Raise BadSample when the file's inner landmarks lie off the projected model's.

    By more than `tolerance` on average, over √(w·h) of the projected points' box. The jaw is left out: an annotator's
    contour slides with pose, the model's vertices do not. A file without landmarks of its own passes.
    """
    stored = annotation.landmarks_px[INNER, :2]
    known = np.isfinite(stored).all(axis=1)
    if not known.any():
        return
    low, high = projected[:, :2].min(axis=0), projected[:, :2].max(axis=0)
    residual = float(np.linalg.norm(projected[INNER, :2] - stored, axis=1)[known].mean())
    limit = tolerance * float(np.sqrt(np.prod(high - low)))
    if residual > limit:
        raise BadSample(
            "landmarks.disagree",
            f"the file's inner landmarks lie {residual:.1f} px from the projected model on average, more than "
            f"{limit:.1f} px: parameters of another model, or of another picture",
        )

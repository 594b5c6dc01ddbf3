"""Whether an annotation can belong to a picture and a model at all, before anything is made of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from geometry.landmarks import INNER
from geometry.morphable_model import Coefficients, MorphableModel
from storage.bad_sample import BadSample

COEFFICIENT_LIMIT = 15.0
"""In standard deviations; the largest in AFLW2000-3D are below 10, a file in other units has thousands."""


def check_coefficients(coefficients: Coefficients, model: MorphableModel) -> None:
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


def check_inside(projected: Float[np.ndarray, "68 3"], size_hw: Sequence[int]) -> None:
    """Raise BadSample for a projected face that lies outside the picture."""
    low, high = projected[:, :2].min(axis=0).tolist(), projected[:, :2].max(axis=0).tolist()
    is_inside = low[0] < size_hw[1] and low[1] < size_hw[0] and min(high) > 0
    if not (is_inside and np.isfinite(projected).all()):
        raise BadSample(
            "landmarks.outside",
            f"the projected face spans x {low[0]:.0f}…{high[0]:.0f}, y {low[1]:.0f}…{high[1]:.0f} px, "
            f"outside the {size_hw[1]} × {size_hw[0]} picture: pose and picture do not belong together",
        )


def landmark_residual(
    stored_px: Float[np.ndarray, "68 3"], projected: Float[np.ndarray, "68 3"], *, tolerance: float
) -> float:
    """Mean distance of the file's inner landmarks from the projected model; NaN where the file has none of its own.

    The jaw is left out: the annotators' contour slides with pose, the model's vertices do not. Raises BadSample for
    landmarks more than `tolerance` of the projected face's box away.
    """
    stored = stored_px[INNER, :2]
    known = np.isfinite(stored).all(axis=1)
    if not known.any():
        return float("nan")
    low, high = projected[:, :2].min(axis=0), projected[:, :2].max(axis=0)
    residual = float(np.linalg.norm(projected[INNER, :2] - stored, axis=1)[known].mean())
    limit = tolerance * float(np.sqrt(np.prod(high - low)))
    if residual > limit:
        raise BadSample(
            "landmarks.disagree",
            f"the file's inner landmarks lie {residual:.1f} px from the projected model on average, more than the "
            f"{limit:.1f} px that landmark_tolerance allows: parameters of another model (--model names theirs), or of "
            "another picture",
        )
    return residual

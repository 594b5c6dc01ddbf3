"""Vertices of the faces of a shard: each face once, several in one matrix product."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from geometry.morphable_model import Coefficients, MorphableModel

FACES_PER_PRODUCT = 32
"""Faces in one matrix product. Cut by the plan alone, so that bytes do not depend on the number of workers."""


class FaceProducts:
    """Vertices of distinct faces, in products of :data:`FACES_PER_PRODUCT`; the last two products are kept."""

    def __init__(self, model: MorphableModel, coefficients: Sequence[Coefficients]) -> None:
        self._model = model
        self._place: dict[bytes, int] = {}
        self._distinct: list[Coefficients] = []
        for one in coefficients:
            if _key(one) not in self._place:
                self._place[_key(one)] = len(self._distinct)
                self._distinct.append(one)
        self._products: dict[int, Float32[np.ndarray, "n v 3"]] = {}

    def vertices(self, coefficients: Coefficients) -> Float32[np.ndarray, "v 3"]:
        """Of one of the faces that it was made for."""
        product, row = divmod(self._place[_key(coefficients)], FACES_PER_PRODUCT)
        if product not in self._products:
            if len(self._products) > 1:
                del self._products[min(self._products)]
            faces = self._distinct[product * FACES_PER_PRODUCT : (product + 1) * FACES_PER_PRODUCT]
            faces = faces * 2 if len(faces) == 1 else faces  # BLAS rounds a single row otherwise than one of several
            batch = Coefficients(np.stack([f.identity for f in faces]), np.stack([f.expression for f in faces]))
            self._products[product] = self._model.vertices(batch)
        vertices: Float32[np.ndarray, "v 3"] = self._products[product][row]
        return vertices


def _key(coefficients: Coefficients) -> bytes:
    return coefficients.identity.tobytes() + coefficients.expression.tobytes()

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
        places: dict[bytes, int] = {}
        self.distinct: list[Coefficients] = []
        """Every face once."""
        self.numbers: list[int] = []
        """For each of `coefficients`: which of the distinct faces it is."""
        for one in coefficients:
            number = places.setdefault(one.identity.tobytes() + one.expression.tobytes(), len(self.distinct))
            if number == len(self.distinct):
                self.distinct.append(one)
            self.numbers.append(number)
        self._products: dict[int, Float32[np.ndarray, "n v 3"]] = {}

    def vertices(self, number: int) -> Float32[np.ndarray, "v 3"]:
        """Of one of the distinct faces."""
        product, row = divmod(number, FACES_PER_PRODUCT)
        if product not in self._products:
            if len(self._products) > 1:
                del self._products[min(self._products)]
            faces = self.distinct[product * FACES_PER_PRODUCT : (product + 1) * FACES_PER_PRODUCT]
            faces = faces * 2 if len(faces) == 1 else faces  # BLAS rounds a single row otherwise than one of several
            batch = Coefficients(np.stack([f.identity for f in faces]), np.stack([f.expression for f in faces]))
            self._products[product] = self._model.vertices(batch)
        vertices: Float32[np.ndarray, "v 3"] = self._products[product][row]
        return vertices

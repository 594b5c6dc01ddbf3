"""What the rows work on: made once, when the first row asks for it, and alike for all contenders."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from geometry.built_in import BuiltInModel, load_built_in
from geometry.morphable_model import Coefficients
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from storage.dataset import ShardedDataset, open_dataset
from tests.benchmarks import augmentation_speed, main_job, usual_recipe, zbuffer_speed


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    faces: int = 16
    """In one product or z-buffer; one for each lane."""
    photographs: int = 32
    fitted: int = 128
    samples: int = 256
    """Of the data set that is read, written and verified."""
    pictures: int = 2048
    """That a whole job turns into samples."""
    usual: int = 256
    """That the usual recipe does, and a job beside the large one, so that the fixed cost shows."""
    many: int = 384
    """That a multi-target build turns into samples."""
    drawn: tuple[str, ...] = ()
    """Options of `facefoundry sample`."""
    size_px: int = 256


FULL = Sizes()
FEW = ("--identities", "2", "--expressions", "1", "--views", "8")
QUICK = Sizes(photographs=16, fitted=32, samples=64, pictures=128, usual=32, many=32, drawn=FEW)
TINY = Sizes(faces=2, photographs=2, fitted=2, samples=4, pictures=2, usual=1, many=2, size_px=128,
             drawn=("--identities", "1", "--expressions", "1", "--views", "2", "--workers", "1"))  # fmt: skip


@dataclass
class Material:
    """Inputs of all rows; files lie in `folder`."""

    folder: Path
    sizes: Sizes = field(default_factory=Sizes)

    @cached_property
    def model(self) -> BuiltInModel:
        """53,099 vertices, 199 + 29 modes."""
        return load_built_in()

    @cached_property
    def coefficients(self) -> Coefficients:
        """Of `faces` people, batched."""
        rng = np.random.default_rng(1)
        people = range(self.sizes.faces)
        identity = np.stack([self.model.draw_identity(rng) for _ in people])
        return Coefficients(identity, np.stack([self.model.draw_expression(rng) for _ in people]))

    @cached_property
    def shapes(self) -> np.ndarray:
        """(faces V 3) float32, millimetres."""
        return self.model.vertices(self.coefficients).astype(np.float32)

    @cached_property
    def in_crops(self) -> np.ndarray:
        """(faces V 3) float32: faces in crops of 256², yaw between −80° and 80°, pixels."""
        return zbuffer_speed.faces(self.model, self.sizes.faces)[0]

    @cached_property
    def raster(self) -> AtlasRaster:
        """The model's own atlas, 256²."""
        closed = np.concatenate([self.model.triangles, self.model.closing_triangles])
        return AtlasRaster(UVAtlas(self.model.uv.astype(np.float64), closed), 256)

    @cached_property
    def usual(self) -> usual_recipe.UsualRecipe:
        """The tables of the usual recipe."""
        return usual_recipe.UsualRecipe.of(self.model.dense())

    @cached_property
    def augmented(self) -> tuple:
        """A drawn person's sample, the mirrored atlas and the landmarks' texels."""
        return augmentation_speed.example()

    @cached_property
    def source(self) -> Path:
        """`pictures` files in 300W-LP's layout, 450²; a seed's families under many names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return main_job.many_pictures(self.folder, self.sizes.pictures, *self.sizes.drawn)

    @cached_property
    def few(self) -> Path:
        """`many` of the same pictures."""
        return self._part("few", self.sizes.many)

    @cached_property
    def two(self) -> Path:
        """Two of them."""
        return self._part("two", 2)

    @cached_property
    def for_usual(self) -> Path:
        """`usual` of the same pictures."""
        return self._part("for-usual", self.sizes.usual)

    @cached_property
    def jpegs(self) -> list[bytes]:
        """`photographs` of them as bytes."""
        return [path.read_bytes() for path in sorted(self.source.glob("*/*.jpg"))[: self.sizes.photographs]]

    @cached_property
    def photographs(self) -> list[np.ndarray]:
        """The same, decoded: RGB."""
        return [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB) for jpeg in self.jpegs]

    @cached_property
    def dataset(self) -> ShardedDataset:
        """`samples` samples as published by default (lossless pictures, fixed-point maps) of 256², 32 a shard."""
        return self.built("default")

    def built(self, name: str, **changes: object) -> ShardedDataset:
        """A data set of the first pictures."""
        from flows.local import build_here
        from flows.presets import posmaps_300wlp

        n_samples = self.sizes.samples
        n_pictures = min(n_samples, self.sizes.pictures)
        config = posmaps_300wlp(name=name, shard_size=32, copies=-(-n_samples // n_pictures), **changes)
        source = self._part("read", n_pictures)
        return open_dataset(str(build_here(config, source=source, out=self.folder / "built", workers=1).path))

    def _part(self, name: str, n_pictures: int) -> Path:
        """The first pictures of the source."""
        return main_job.first_pictures(self.source, self.folder / name, n_pictures)

"""The packed file of the built-in model: how its entries are coded, and nothing about faces.

A zip of `.npy` entries compressed with LZMA, no pickles, written by `infra/built_in_model`. Modes are stored times
their standard deviation as integers with one step, then differenced along the vertices or the channels; a cumulative
sum **in the stored integer type** undoes that (some entries wrap around on purpose). Every entry is decoded when first
asked for, so that a program that only needs shapes never reads the colours.
"""

import io
import json
import zipfile
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int8, Int16, Int32, UInt8, UInt16

try:
    import lzma
except ImportError as error:
    raise ImportError(
        "this Python was built without lzma, which the built-in model's file is compressed with: "
        "install liblzma's headers (Debian: liblzma-dev) and rebuild, or use another Python"
    ) from error

BUILT_IN_PATH = Path(__file__).with_name("data") / "built_in_head.npz"
BUILT_IN_SHA256 = "1904f4952d79386377e01485147856da4a4792b8921309c2d11a772960520079"
FORMAT = 1

PARTS = ("skin", "eye_cavity", "mouth_cavity", "eyeball_l", "eyeball_r", "teeth_u", "teeth_l", "tongue")
"""The template's parts, what ``part[v]`` counts in; eyeballs: the subject's left and right; teeth: upper and lower."""


class BuiltInFile:
    """The entries of one packed file, decoded when first asked for (v template vertices, n cage vertices, k modes)."""

    def __init__(self, path: Path = BUILT_IN_PATH):
        """Open the file and read its description; raises FileNotFoundError, or ValueError for another kind of file."""
        if not path.is_file():
            raise FileNotFoundError(
                f"the built-in model's data file {path} is missing: restore it from the repository, "
                "or make it again with `python -m infra.built_in_model`"
            )
        self.path = path
        try:
            self.meta: dict[str, Any] = json.loads(self._read("meta").tobytes())
        except ValueError as error:
            raise ValueError(f"{path} is not the built-in model's data file: {error}") from error
        if self.meta.get("format") != FORMAT or tuple(self.meta.get("parts", ())) != PARTS:
            raise ValueError(
                f"{path} has format {self.meta.get('format')} and parts {self.meta.get('parts')}; this version reads "
                f"format {FORMAT} with parts {list(PARTS)}: take the file that came with it"
            )

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """A worker process opens the file itself: nothing decoded is sent to it."""
        return BuiltInFile, (self.path,)

    def _read(self, name: str) -> np.ndarray:
        try:
            with zipfile.ZipFile(self.path) as archive:
                stored = archive.read(name + ".npy")  # whole, so that the entry's checksum is compared
            return np.lib.format.read_array(io.BytesIO(stored), allow_pickle=False)
        except (zipfile.BadZipFile, lzma.LZMAError, KeyError, ValueError, EOFError, NotImplementedError) as error:
            raise ValueError(
                f"entry {name!r} of {self.path} cannot be read ({error}): the file is damaged or another one; "
                f"restore it from the repository (sha256 {BUILT_IN_SHA256})"
            ) from error

    # ------------------------------------------------------------------------------------------ topology and tables

    @cached_property
    def part(self) -> UInt8[np.ndarray, "v"]:
        """The index in :data:`PARTS` of every vertex of the template."""
        return self._read("part")

    @cached_property
    def region(self) -> UInt8[np.ndarray, "v"]:
        """The index in `geometry.morphable_model.REGION_NAMES` of every vertex."""
        return self._read("region")

    @cached_property
    def triangles(self) -> Int32[np.ndarray, "t 3"]:
        """All parts' triangles, counter-clockwise from outside."""
        return np.ascontiguousarray(np.cumsum(self._read("triangles"), axis=1, dtype=np.int32).T)

    @cached_property
    def mirror(self) -> Int32[np.ndarray, "v"]:
        """The vertex on the other side of the face: an exact involution, though positions are off by up to 0.17 mm."""
        return np.cumsum(self._read("mirror"), dtype=np.int32)

    @cached_property
    def landmarks(self) -> Int32[np.ndarray, "68"]:
        """The frozen vertices of the 68 iBUG points, all on the skin."""
        return self._read("landmarks")

    @cached_property
    def uv(self) -> Float[np.ndarray, "a 2"]:
        """UV coordinates (v up) of the template's first vertices: skin, rims of the eye sockets, bag of the mouth."""
        return np.cumsum(self._read("uv"), axis=1, dtype=np.uint16).T / 65535.0

    @cached_property
    def subdivision(self) -> sp.csr_matrix:
        """(v n) float32: every template vertex as a combination of cage vertices (two Catmull–Clark levels)."""
        counts, indices = self._read("subdivision_counts"), self._read("subdivision_indices").astype(np.int32)
        row_starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int32)])
        shape = (len(counts), len(self.cage_mean))
        return sp.csr_matrix((self._read("subdivision_weights"), indices, row_starts), shape)

    # ------------------------------------------------------------------------------------------ shape

    @cached_property
    def cage_mean(self) -> Float32[np.ndarray, "n 3"]:
        """The mean face on the cage (mm)."""
        return self._read("cage_mean")

    @cached_property
    def identity_modes(self) -> Int16[np.ndarray, "k 3 n"]:
        """Identity modes on the cage at one standard deviation, in steps of ``meta["identity_step"]`` mm."""
        return np.cumsum(self._read("identity_modes"), axis=2, dtype=np.int16)

    @cached_property
    def expression_modes(self) -> Int16[np.ndarray, "k 3 n"]:
        """Expression modes on the cage at one standard deviation, in steps of ``meta["expression_step"]`` mm."""
        return np.cumsum(self._read("expression_modes"), axis=2, dtype=np.int16)

    @cached_property
    def unit_modes(self) -> Int16[np.ndarray, "u 3 n"]:
        """The 52 face units on the cage at full activation, in steps of ``meta["unit_step"]`` mm."""
        return np.cumsum(self._read("unit_modes"), axis=2, dtype=np.int16)

    @cached_property
    def unit_to_expression(self) -> Float32[np.ndarray, "k u"]:
        """Weights of the 52 face units to expression coefficients in standard deviations (least squares)."""
        return self._read("unit_to_expression")

    @cached_property
    def identity_sd(self) -> Float[np.ndarray, "k"]:
        """Standard deviations (mm) of the identity modes when they are unit vectors over all template vertices."""
        return self._read("identity_sd")

    @cached_property
    def expression_sd(self) -> Float[np.ndarray, "k"]:
        """The same of the expression modes."""
        return self._read("expression_sd")

    # ------------------------------------------------------------------------------------------ colour

    @cached_property
    def albedo_mean(self) -> Int16[np.ndarray, "3 v"]:
        """The mean colour in steps of ``meta["albedo_mean_step"]`` levels (of 255, display-referred)."""
        return np.cumsum(self._read("albedo_mean"), axis=1, dtype=np.int16)

    @cached_property
    def albedo_modes(self) -> Int8[np.ndarray, "k 3 v"]:
        """Colour modes at one standard deviation in steps of :attr:`albedo_step`; stored as R, G − R, B − G."""
        return np.cumsum(self._read("albedo_modes"), axis=1, dtype=np.int8)

    @cached_property
    def albedo_step(self) -> Float32[np.ndarray, "k"]:
        """One step of each colour mode, in levels of 255."""
        return self._read("albedo_step")

    @cached_property
    def albedo_sd(self) -> Float[np.ndarray, "k"]:
        """Norm over all vertices and channels of each stored colour mode (white = 1)."""
        return self._read("albedo_sd")

    def mask(self, name: str) -> UInt8[np.ndarray, "v"]:
        """The painted mask `lips`, `eyelids` or `ears`, 0 to 255."""
        return self._read("mask_" + name)

    @cached_property
    def ambient_occlusion_root(self) -> UInt16[np.ndarray, "v"]:
        """The square root of the open share of the sky, 0 to 65535 (teeth take its power .35 near 0: no 8 bits)."""
        return self._read("ambient_occlusion_root")

    @cached_property
    def eye_angle_deg(self) -> Float32[np.ndarray, "e"]:
        """The angle from the gaze axis of every vertex of one eyeball; both have the same."""
        return self._read("eye_angle_deg")


@lru_cache(maxsize=1)
def built_in_file() -> BuiltInFile:
    """The file that ships with the package, opened once."""
    return BuiltInFile()

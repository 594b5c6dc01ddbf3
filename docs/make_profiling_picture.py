"""Draw the profiled astronaut at 0, ±15 … ±75 degrees.   python docs/make_profiling_picture.py [picture.png]

The photograph is scikit-image's (NASA, public domain); it shows a person, so the picture is made where somebody wants to look
at it and is not kept in the repository.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from geometry import load_model
from geometry.rotation import euler_from_rotation
from render.preview import encode_png
from render.profiling import MeshedPicture, turned_camera
from render.profiling_texture import ProfilingModel
from storage.annotations import read_annotation
from storage.images import decode_image
from storage.sample_photograph import write_photograph

STEPS = (0, 15, 30, 45, 60, 75)


def main(path: Path) -> None:
    model = load_model("built-in")
    with tempfile.TemporaryDirectory() as folder:
        write_photograph(Path(folder))
        annotation = read_annotation(Path(folder) / "AFW" / "astronaut_0.mat")
        image = decode_image((Path(folder) / "AFW" / "astronaut_0.jpg").read_bytes())
    meshed = MeshedPicture.of(
        image, ProfilingModel.of(model), model.vertices(annotation.coefficients), annotation.camera
    )
    own = float(euler_from_rotation(annotation.camera.rotation)[1])
    rows = []
    for side in (1, -1):
        yaws = [own if step == 0 else side * np.radians(step) for step in STEPS]
        views = meshed.seen_by([turned_camera(meshed.camera, yaw=float(yaw), pivot=meshed.pivot) for yaw in yaws])
        rows.append(np.hstack([view.image for view in views]))
    path.write_bytes(encode_png(np.vstack(rows)))
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "profiled-astronaut.png"))

"""A tour in ten cells, to be run from top to bottom, as a script or cell by cell in an editor that knows ``# %%``.

    python docs/examples/tour.py [FOLDER]

It draws faces, builds a data set, reads it, fits the model to landmarks, lays a head flat, trains a small network for
a minute and lets it predict. Pictures and data go to FOLDER (default: tour). All faces are the built-in model's.
"""

# %% Where things go. Worker processes start from a fresh Python and must not run the tour again: one process here.
import os
import sys
from pathlib import Path

import numpy as np

from flows.config import PosmapConfig
from flows.local import build_here
from flows.predict import PredictOptions, predict_here
from flows.sheets import contact_sheet, sample_sheet
from flows.training import train_here
from flows.training_progress import progress_line
from geometry import Coefficients, fit_landmarks, load_model, optimal_cylindrical
from geometry.mesh import Mesh
from render import AtlasRaster, CropConfig, encode_png
from storage import open_dataset
from storage.synthetic import write_sample_folder
from storage.views import split

if {"-h", "--help"} & set(sys.argv):
    sys.exit(__doc__)
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tour")
folder.mkdir(exist_ok=True)
steps = int(os.environ.get("TOUR_STEPS", "300"))

# %% 1. A folder of faces in 300W-LP's layout: pictures, and the parameters that they were drawn from.
print(f"drawing 50 faces in {folder / 'faces'}")
write_sample_folder(folder / "faces", seed=1, n_identities=8, n_expressions=1, n_views=3)

# %% 2. A data set: position maps, correspondence fields and parts of every crop, published as one version.
config = PosmapConfig(crop=CropConfig(size_px=128), targets=("posmap", "field", "parts"), shard_size=32)
published = build_here(config, source=folder / "faces", out=folder / "datasets", workers=1)
print(f"{published.dataset} {published.version}: {published.samples} samples, {published.rejected} rejected")

# %% 3. Read it. A sample is a dict of arrays; batches are what is fast.
ds = open_dataset(folder / "datasets" / "300wlp-posmaps")
sample = ds[0]
batch = ds.read(range(8), ["image", "position_map", "landmarks_px"])
print({name: (value.shape, str(value.dtype)) for name, value in batch.items()})
(folder / "sheet.png").write_bytes(encode_png(contact_sheet(ds)))
(folder / "sample.png").write_bytes(encode_png(sample_sheet(ds, 0)))

# %% 4. What the position map says is what the landmarks say: read the 68 landmarks from it.
texels = [ds.table(f"landmark_{part}") for part in ("rows", "columns", "weights")]
read_back = np.einsum("lk,lkc->lc", texels[2], sample["position_map"][texels[0], texels[1]])
distance = np.linalg.norm(read_back - sample["landmarks_px"], axis=1)
print(f"landmarks read from the map: {distance.mean():.3f} px off on average")

# %% 5. A face of your own: the model's vertices, and the same face as a map, without a picture.
model = load_model("built-in")
rng = np.random.default_rng(0)
face = Coefficients(model.draw_identity(rng), model.draw_expression(rng))
vertices = model.vertices(face)
print(f"{len(vertices)} vertices, {np.ptp(vertices[:, 1]):.0f} mm from neck to crown")

# %% 6. The way back: from 68 points in a picture to pose, identity and expression.
fit = fit_landmarks(model, sample["landmarks_px"][:, :2].astype(np.float64), image_size_hw=(128, 128))
print(f"fit: {fit.mean_residual_px:.2f} px on average, scale {fit.camera.scale:.3f} px/mm")

# %% 7. Lay the head flat by another map than the model's own, and draw a position map in it.
mesh = Mesh(model.mean_shape.astype(np.float64), model.triangles)
atlas = optimal_cylindrical(mesh, closing_triangles=model.closing_triangles)
flat = AtlasRaster(atlas, 128).apply(vertices.astype(np.float32))
low, high = vertices.min(axis=0), vertices.max(axis=0)
(folder / "flat.png").write_bytes(encode_png(np.clip(255 * (flat - low) / (high - low), 0, 255).astype(np.uint8)))

# %% 8. Split by person, without copying: nobody is in both parts.
parts = split(ds, {"train": 0.75, "test": 0.25}, by="identity", seed=0)
print({name: len(part) for name, part in parts.items()})

# %% 9. Train the small DAN for a minute; the same line again goes on where it stopped.
trained = train_here(
    "dan", ds.path, out=folder, hold_out=0.25, steps=steps, report=lambda now: print(progress_line(now))
)
print(f"dan: {trained.measure} {100 * (trained.validation or float('nan')):.1f} % after {trained.steps} steps")

# %% 10. Let it predict on a picture, roughly, for it saw 36 crops: landmarks, an overlay, and what it was asked for in JSON.
picture = min((folder / "faces").rglob("*.jpg"))
outcome = predict_here(trained.checkpoint, [picture], PredictOptions(out=folder / "predicted", boxes="landmarks"))
print(f"predictions lie in {folder / 'predicted'}: {[path.name for path in sorted((folder / 'predicted').iterdir())]}")

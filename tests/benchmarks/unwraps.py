"""Every unwrap of the built-in head and of its face alone: the tables of docs/unwraps.md, with process times.

python tests/benchmarks/unwraps.py [--pictures FOLDER]
"""

import argparse
import time
from pathlib import Path

import numpy as np

from geometry.atlas_report import AtlasReport, report_atlas
from geometry.built_in import load_built_in
from geometry.cylinder import cylindrical_map
from geometry.mesh import Mesh, submesh
from geometry.optimal_cylinder import optimal_cylindrical_map
from geometry.unwrap import tutte_map
from geometry.uv import UVAtlas
from render.checkerboard import atlas_picture, checkerboard_view
from render.preview import encode_png

FACE_RADIUS_MM = 105.0
"""The face is what lies within this of the tip of the nose, as a Basel Face Model is cut."""

COLUMNS = ("unwrap", "folded", "overlapping", "left out", "covered", "area 1 %", "median", "99 %", "stretch median",
           "99 %", "texels 1 %", "median", "repair", "CPU s")  # fmt: skip


def face_of(mesh: Mesh, nose: np.ndarray) -> Mesh:
    near = np.linalg.norm(mesh.vertices - nose, axis=1) < FACE_RADIUS_MM
    triangles, _ = submesh(mesh.triangles, near)
    return Mesh(mesh.vertices[near], triangles)


def unwraps(mesh: Mesh, closing: np.ndarray | None):
    for weights in ("uniform", "mean-value", "conformal"):
        for boundary in ("square", "circle", "natural"):
            yield (
                f"tutte, {weights}, {boundary}",
                lambda w=weights, b=boundary: tutte_map(mesh, weights=w, boundary=b, closing_triangles=closing),
            )
    yield "cylindrical", lambda: cylindrical_map(mesh)
    yield "optimal", lambda: optimal_cylindrical_map(mesh, closing_triangles=closing)


def row(name: str, report: AtlasReport, repair: str, seconds: float | None) -> str:
    area, stretch, texels = report.area_ratio, report.stretch_ratio, report.texels_per_vertex
    cells = (
        name, f"{report.n_folded:,}", f"{report.n_overlapping:,}", report.n_left_out, f"{report.coverage:.1%}",
        f"{area.p1:.2g}", f"{area.p50:.2g}", f"{area.p99:.2g}", f"{stretch.p50:.2f}", f"{stretch.p99:.3g}",
        f"{texels.p1:.2g}", f"{texels.p50:.2g}", repair, "" if seconds is None else f"{seconds:.1f}",
    )  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(title: str, mesh: Mesh, closing: np.ndarray | None, own: UVAtlas | None) -> dict[str, UVAtlas]:
    print(f"\n**{title}: {len(mesh.vertices):,} vertices, {len(mesh.triangles):,} triangles**\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    made = {}
    for name, make in unwraps(mesh, closing):
        start = time.process_time()
        result = make()
        seconds = time.process_time() - start
        repair = getattr(result, "repair", "none")
        made[name] = result.atlas
        print(
            row(name, report_atlas(result.atlas, mesh, size=256), "" if repair == "none" else repair, seconds),
            flush=True,
        )
    if own is not None:
        print(row("the model's own atlas", report_atlas(own, mesh, size=256), "", None))
    return made


def sheet(mesh: Mesh, atlases: list[UVAtlas], *, side: int, yaws: tuple[float, ...]) -> np.ndarray:
    """A row for each atlas: views of the mesh, then the atlas laid flat."""
    rows = []
    for atlas in atlases:
        views = [checkerboard_view(mesh, atlas, yaw=yaw, side=side, squares=24) for yaw in yaws]
        rows.append(np.hstack([*views, atlas_picture(atlas, side=side, squares=24)]))
    picture = np.vstack(rows)
    return np.where(picture == 255, 255, picture // 8 * 8 + 4).astype(np.uint8)  # 32 levels: a third of the bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path)
    pictures = parser.parse_args().pictures
    model = load_built_in()
    head = Mesh(model.mean_shape, model.triangles)
    own = UVAtlas(model.uv, np.concatenate([model.triangles, model.closing_triangles]))
    of_head = table("The whole head", head, model.closing_triangles, own)
    face = face_of(head, model.mean_shape[model.landmark_vertices[30]])
    of_face = table("The face alone", face, None, None)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        cylinders = sheet(head, [of_head["cylindrical"], of_head["optimal"]], side=200, yaws=(0.0, -0.8, 1.5))
        (pictures / "unwrap-cylinders.png").write_bytes(encode_png(cylinders))
        borders = [of_face[f"tutte, conformal, {boundary}"] for boundary in ("square", "circle", "natural")]
        (pictures / "unwrap-borders.png").write_bytes(encode_png(sheet(face, borders, side=190, yaws=(0.0, -0.8))))


if __name__ == "__main__":
    main()

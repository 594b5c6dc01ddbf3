"""Colours of a mesh file's vertices: stored at vertices (PLY, OBJ), or in the picture that an OBJ's material names.

Scans are so dense that the texture's colour at each vertex is as much as a picture of them shows.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from render.places import colours_at
from storage.bad_sample import BadSample
from storage.images import MAX_IMAGE_FILE_BYTES, decode_image
from storage.regular_files import read_regular_file


def file_colors(path: Path) -> UInt8[np.ndarray, "v 3"] | None:
    """RGB of every vertex of an OBJ or PLY in the file's order; None where it has no colours.

    Raises ValueError for a texture that cannot be read.
    """
    match path.suffix.lower():
        case ".ply":
            return _ply_colors(path)
        case ".obj":
            return _obj_colors(path)
    return None


def _ply_colors(path: Path) -> np.ndarray | None:
    import trimesh  # half a second, on first use

    mesh = trimesh.load(path, process=False, force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    visual = mesh.visual
    if not isinstance(visual, trimesh.visual.ColorVisuals) or visual.kind != "vertex":
        return None
    return np.ascontiguousarray(np.asarray(visual.vertex_colors)[:, :3], dtype=np.uint8)


def _obj_colors(path: Path) -> np.ndarray | None:
    at_vertices: list[list[float]] = []
    places: list[list[float]] = []
    place_of: dict[int, int] = {}
    libraries: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match line.split():
            case ["v", _, _, _, *rest]:
                at_vertices.append([float(value) for value in rest[:3]])
            case ["vt", u, v, *_]:
                places.append([float(u), float(v)])
            case ["f", *corners]:
                for vertex, place in (corner.split("/")[:2] for corner in corners if "/" in corner):
                    if place:
                        number, of_place = int(vertex), int(place)
                        number = number - 1 if number > 0 else len(at_vertices) + number
                        place_of.setdefault(number, of_place - 1 if of_place > 0 else len(places) + of_place)
            case ["mtllib", *name]:
                libraries.append(" ".join(name))
    if at_vertices and all(len(colour) == 3 for colour in at_vertices):
        colours = np.array(at_vertices)
        return np.rint(np.clip(colours * (255 if colours.max() <= 1 else 1), 0, 255)).astype(np.uint8)
    texture = _texture(path, libraries) if place_of else None
    if texture is None:
        return None
    uv = np.zeros((len(at_vertices), 2), dtype=np.float32)
    uv[list(place_of)] = np.array(places, dtype=np.float32)[list(place_of.values())]
    height, width = texture.shape[:2]
    pixels = np.stack([uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5], axis=1).astype(np.float32)
    return colours_at(texture, pixels)


def _texture(path: Path, libraries: list[str]) -> np.ndarray | None:
    for library in libraries:
        file = path.with_name(Path(library).name)
        if not file.is_file():
            continue
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            match line.split(maxsplit=1):
                case ["map_Kd", name]:
                    picture = path.with_name(Path(name.strip().replace("\\", "/")).name)
                    try:
                        return decode_image(
                            read_regular_file(picture, limit_bytes=MAX_IMAGE_FILE_BYTES, follow_links=True)
                        )
                    except (BadSample, OSError) as bad:
                        raise ValueError(f"{path.name}: its texture {picture.name} cannot be read: {bad}") from None
    return None

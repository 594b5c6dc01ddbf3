"""A folder of meshes, one for each sample: the surface of its position map, with the picture's colours.

Vertices are the map's covered texels, in pixels of the crop with y upward (right-handed: x right, y up, z toward the
viewer), so that the mesh lies on the picture. Left and right of hidden parts are those of the map; their colours are of
what hides them.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8

from render.preview import map_mesh
from storage.dataset import ShardedDataset
from storage.exports.common import Progress, loose_name, new_folder, samples_of, write_about
from storage.exports.prnet import require
from storage.mesh_export import Format, export_mesh, upright_from_picture

NEEDED = ("image", "position_map", "covered", "source_id")


def export(
    dataset: ShardedDataset, folder: Path, *, format: Format = "ply", progress: Progress = lambda n: None
) -> int:
    """Write the meshes into the new `folder`, under the source ids' names; how many there are.

    Raises ValueError for a data set without position maps, and for a view with a sample twice.
    """
    require(dataset, NEEDED, "meshes")
    copies = ["copy_index"] if "copy_index" in dataset.schema.names else []
    with new_folder(folder) as private:
        write_about(dataset, private)
        for _, sample in samples_of(dataset, [*NEEDED, *copies], progress):
            name = loose_name(str(sample["source_id"]), int(sample.get("copy_index", 0)))
            path = private / f"{name}.{format}"
            if path.exists():
                raise ValueError(f"{name} is in the view twice, and would be written over itself; export each once")
            path.parent.mkdir(parents=True, exist_ok=True)
            vertices, triangles, colors = mesh_of(sample["position_map"], sample["covered"], sample["image"])
            export_mesh(path, vertices, triangles, colors=colors, format=format)
    return len(dataset)


def mesh_of(
    position_map: Float32[np.ndarray, "s s 3"], covered: Bool[np.ndarray, "s s"], image: UInt8[np.ndarray, "h w 3"]
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "t 3"], UInt8[np.ndarray, "v 3"]]:
    """(vertices with y upward, triangles counter-clockwise from outside, colours) of a sample."""
    texels, triangles = map_mesh(np.ascontiguousarray(position_map), covered)
    used = np.unique(triangles)
    vertices = texels[used]
    number = np.zeros(len(texels), dtype=np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    x, y = (np.ascontiguousarray(position_map[..., axis]) for axis in (0, 1))
    texture = np.asarray(
        cv2.remap(np.ascontiguousarray(image), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )
    upright = upright_from_picture(vertices.astype(np.float64), height=len(image))
    return upright, number[triangles], texture.reshape(-1, 3)[used]

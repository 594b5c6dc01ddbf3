import numpy as np
import pytest
import trimesh

from geometry import load_mesh
from geometry.mesh import Mesh
from geometry.mesh_files import MeshFileError
from geometry.unwrap import tutte


@pytest.fixture
def sheet():
    """A bent lopsided sheet of 5 × 4 vertices, 100 mm wide."""
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-50.0, 50.0, 5), np.linspace(0.0, 70.0, 4)))
    i, j = (a.ravel() for a in np.meshgrid(np.arange(4), np.arange(3)))
    a = j * 5 + i
    triangles = np.concatenate([np.stack([a, a + 1, a + 6], 1), np.stack([a, a + 6, a + 5], 1)]).astype(np.int32)
    return Mesh(np.stack([x, y, 30 - x**2 / 100], axis=1), triangles)


def write(path, vertices, triangles):
    trimesh.Trimesh(vertices, triangles, process=False, validate=False).export(path)
    return path


def as_obj(path, vertices, triangles, extra=""):
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in np.asarray(vertices, float).tolist()]
    lines += ["f " + " ".join(str(i + 1) for i in t) for t in np.asarray(triangles).tolist()]
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


def surface(mesh):
    """Triangles by their corners' places, whatever the numbering."""
    corners = np.round(mesh.vertices[mesh.triangles], 3)
    return sorted(tuple(map(tuple, np.roll(t, -np.lexsort(t.T)[0], axis=0).tolist())) for t in corners)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".off", ".glb"])
def test_every_format_gives_the_same_surface(sheet, tmp_path, suffix):
    metres = suffix == ".glb"
    path = write(tmp_path / f"sheet{suffix}", sheet.vertices / (1000 if metres else 1), sheet.triangles)
    read = load_mesh(path)
    assert read.unit == ("m" if metres else "mm")
    assert len(read.mesh.vertices) == 20
    assert surface(read.mesh) == surface(sheet)
    assert len(tutte(read.mesh).triangles) == 24


def test_an_objs_vertices_keep_their_numbers_though_faces_have_texture_seams(tmp_path):
    path = tmp_path / "seam.obj"
    path.write_text(
        "mtllib nowhere.mtl\no one\nv 0 0 0\nv 100 0 9\nv 100 80 0\nv 0 80 5\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0.5 0.5\nvn 0 0 1\nvn 0 1 0\n"
        "usemtl a\nf 1/1/1 2/2/1 3/3/1\nusemtl b\nf 1/4/2 3/3/1 4/1/1\n"
    )
    read = load_mesh(path)
    np.testing.assert_array_equal(read.mesh.triangles, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(read.mesh.vertices[1], [100, 0, 9])
    np.testing.assert_array_equal(read.file_vertices, [0, 1, 2, 3])
    assert read.notes == ()


def test_stl_vertices_are_made_one_and_said_so(sheet, tmp_path):
    read = load_mesh(write(tmp_path / "sheet.stl", sheet.vertices, sheet.triangles))
    assert read.notes == ("72 vertices of the file lie in 20 places and were made one in each",)
    flat = sheet.vertices[sheet.triangles].reshape(-1, 3)
    np.testing.assert_allclose(read.mesh.vertices, flat[read.file_vertices], atol=1e-4)


def test_a_placed_and_doubled_scene_is_one_mesh_in_its_places(sheet, tmp_path):
    part = trimesh.Trimesh(sheet.vertices / 1000, sheet.triangles, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(part, transform=trimesh.transformations.translation_matrix([0, 0.07, 0]))
    scene.export(tmp_path / "placed.glb")
    read = load_mesh(tmp_path / "placed.glb")
    np.testing.assert_allclose(read.mesh.vertices[:, 1].min(), 70, atol=1e-3)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("mm", 1), ("cm", 10), ("m", 1000), ("inch", 25.4)])
def test_units_become_millimetres(sheet, tmp_path, unit, factor):
    read = load_mesh(as_obj(tmp_path / "sheet.obj", sheet.vertices / factor, sheet.triangles), unit=unit)
    np.testing.assert_allclose(read.mesh.vertices, sheet.vertices, atol=1e-9)
    assert read.notes == ()


def test_a_size_that_no_head_has_is_asked_about(sheet, tmp_path):
    read = load_mesh(as_obj(tmp_path / "sheet.obj", sheet.vertices / 1000, sheet.triangles))
    assert read.notes == (
        "the mesh is 0.1 mm across when its numbers are taken for mm: if that is not so, name the unit",
    )


def damaged(kind, sheet):
    vertices, triangles = sheet.vertices.copy(), sheet.triangles.copy()
    if kind == "stray vertex":
        return np.concatenate([vertices, [[0.0, 0, 99]]]), triangles
    if kind == "twice":
        return vertices, np.concatenate([triangles, triangles[3:4, [1, 2, 0]]])
    if kind == "both sides":
        return vertices, np.concatenate([triangles, triangles[:, ::-1]])
    if kind == "fin":
        return np.concatenate([vertices, [[0.0, 0, 99]]]), np.concatenate([triangles, [[0, 6, 20]]])
    if kind == "backwards":
        triangles[5] = triangles[5, ::-1]
        return vertices, triangles
    if kind == "two":
        return np.concatenate([vertices, vertices + 200]), np.concatenate([triangles, triangles[:-1] + 20])
    if kind == "seam":  # the left half has vertices of its own: the column in the middle is there twice
        left = triangles.min(axis=1) % 5 < 2
        numbers = np.unique(triangles)
        both = np.concatenate([triangles[left], triangles[~left] + 20])
        used, corners = np.unique(both, return_inverse=True)
        assert len(used) == len(numbers) + 4
        return np.concatenate([vertices, vertices])[used], corners.reshape(-1, 3)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("stray vertex", r"vertex 20 \(1 in all\) belongs to no triangle.*largest_component, or --largest, keeps"),
        ("twice", r"triangles 3 and 24 have the same three vertices \[3, 4, 9\] \(1 duplicates in all\)"),
        ("both sides", r"triangles 0 and 24 have the same three vertices .* \(24 duplicates in all\)"),
        ("fin", r"edge 0–6 has 3 triangles"),
        ("backwards", "not consistently wound"),
        ("two", "the mesh has 2 separate components"),
        ("seam", r"vertices lie exactly on others, as where a file splits them along texture seams"),
    ],
)
def test_what_is_no_single_surface_is_refused_with_the_files_name(sheet, tmp_path, kind, sentence):
    path = as_obj(tmp_path / "scan.obj", *damaged(kind, sheet))
    with pytest.raises(MeshFileError, match=sentence) as caught:
        load_mesh(path)
    assert str(caught.value).startswith("scan.obj: ")


def test_a_seam_is_closed_when_asked(sheet, tmp_path):
    read = load_mesh(as_obj(tmp_path / "scan.obj", *damaged("seam", sheet)), merge_coincident=True)
    assert surface(read.mesh) == surface(sheet)
    assert "were made one in each" in read.notes[0]


def test_the_largest_component_is_kept_when_asked(sheet, tmp_path):
    vertices, triangles = damaged("two", sheet)
    vertices = np.concatenate([[[9.0, 9, 9]], vertices])
    read = load_mesh(as_obj(tmp_path / "scan.obj", vertices, triangles + 1), largest_component=True)
    assert surface(read.mesh) == surface(sheet)
    np.testing.assert_array_equal(read.file_vertices, np.arange(1, 21))
    assert read.notes == (
        "23 triangles of smaller components were dropped",
        "21 vertices that belong to none of the rest were dropped",
    )


def test_not_a_number_is_refused(sheet, tmp_path):
    vertices = sheet.vertices.copy()
    vertices[7, 2] = np.nan
    with pytest.raises(MeshFileError, match=r"scan.ply: vertex 7 \(1 in all\) has coordinates that are not finite"):
        load_mesh(write(tmp_path / "scan.ply", vertices, sheet.triangles))


def test_an_index_that_points_outside_is_refused(tmp_path):
    path = tmp_path / "cut.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"
    )
    with pytest.raises(MeshFileError, match="triangles refer to vertices 0 to 7, but it has 3"):
        load_mesh(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("words.obj", b"hello\n", "holds no triangles"),
        ("words.ply", b"hello\n", "cannot be read as ply"),
        ("empty.stl", b"", "holds no triangles|cannot be read"),
        ("cut.glb", b"glTF123", "cannot be read as glb"),
        ("points.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
                       b"property float z\nend_header\n0 0 0\n", "a cloud of points cannot be unwrapped"),
        ("face.jpg", b"\xff\xd8", "face.jpg is no mesh file by its name; readable are .obj, .ply"),
    ],
)  # fmt: skip
def test_what_is_no_mesh_is_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshFileError, match=sentence):
        load_mesh(tmp_path / name)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no mesh file"):
        load_mesh(tmp_path / "absent.ply")

"""The folder of renders and its reader, mesh files' colours, and the release's landmark files."""

import cv2
import numpy as np
import pytest
import scipy.io

from geometry.camera import ScaledOrthographicCamera
from geometry.rotation import rotation_from_euler
from storage.bad_sample import BadSample
from storage.contour_landmarks import (
    ContourLandmarks,
    contour_landmarks_path,
    read_contour_landmarks,
    write_contour_landmarks,
)
from storage.mesh_colors import file_colors
from storage.mesh_export import export_mesh
from storage.pose_renders import (
    MARKER,
    RenderedFolder,
    RenderedSubject,
    RenderedView,
    open_pose_renders,
    write_marker,
    write_subject,
)

TETRAHEDRON = np.array([[0, 0, 0], [41, 0, 0], [0, 63, 0], [5, 7, 90]], dtype=np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], dtype=np.int32)
COLOURS = np.array([[250, 1, 2], [3, 240, 4], [5, 6, 230], [90, 80, 70]], dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    camera = ScaledOrthographicCamera(0.7, rotation_from_euler(0.2, -0.4, 0.1), np.array([20.0, 31.0, 4.0]))
    view = RenderedView(
        picture="one.png",
        size_hw=(48, 64),
        pitch_deg=11.5,
        yaw_deg=-23.0,
        scale_px_per_mm=camera.scale,
        rotation=tuple(map(tuple, camera.rotation.tolist())),
        translation_px=tuple(camera.translation_px.tolist()),
    )
    landmarks = np.arange(68 * 3, dtype=float).reshape(68, 3)
    subjects = [
        RenderedSubject(subject=name, made_from="0", licence="", landmarks_mm=points, views=(view,))
        for name, points in (("known", tuple(map(tuple, landmarks.tolist()))), ("unknown", None))
    ]
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for subject in subjects:
        write_subject(
            tmp_path / subject.subject,
            subject,
            vertices=TETRAHEDRON,
            triangles=FACES,
            colors=COLOURS,
            pictures=iter([picture]),
        )
    write_marker(tmp_path, RenderedFolder(protocol="any", subjects=("known", "unknown")))
    return tmp_path, picture, camera, landmarks


def test_what_was_written_is_read_bit_for_bit(folder):
    root, picture, camera, landmarks = folder
    renders = open_pose_renders(root)
    assert len(renders) == 2
    known, unknown = renders
    assert (known.source_id, unknown.subject) == ("known/one", "unknown")
    np.testing.assert_array_equal(known.image, picture)
    np.testing.assert_array_equal(known.mesh.vertices, TETRAHEDRON)
    np.testing.assert_array_equal(known.mesh.triangles, FACES)
    np.testing.assert_array_equal(known.camera.image_from_model, camera.image_from_model)
    np.testing.assert_allclose(known.landmarks_px, camera.project(landmarks))
    assert np.isnan(unknown.landmarks_px).all()
    np.testing.assert_allclose(known.box_px[:2], known.vertices_px[:, :2].min(axis=0))
    np.testing.assert_array_equal(renders[1].image, picture)


def test_an_unfinished_or_damaged_folder_is_refused(folder, tmp_path):
    root, *_ = folder
    (root / "known" / "one.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one.png: .*empty"):
        open_pose_renders(root)[0]
    (root / "known" / "views.json").write_text("{}")
    with pytest.raises(ValueError, match=r"views.json is damaged"):
        open_pose_renders(root)
    (root / MARKER).unlink()
    with pytest.raises(FileNotFoundError, match="unfinished"):
        open_pose_renders(root)


# ----------------------------------------------------------------------------------------------------------- colours


def test_colours_at_vertices_are_read_from_ply_and_obj(tmp_path):
    export_mesh(tmp_path / "a.ply", TETRAHEDRON, FACES, colors=COLOURS, format="ply")
    np.testing.assert_array_equal(file_colors(tmp_path / "a.ply"), COLOURS)
    lines = [
        f"v {x} {y} {z} {r / 255} {g / 255} {b / 255}"
        for (x, y, z), (r, g, b) in zip(TETRAHEDRON.tolist(), COLOURS.tolist(), strict=True)
    ]
    (tmp_path / "a.obj").write_text("\n".join([*lines, "f 1 3 2"]))
    np.testing.assert_array_equal(file_colors(tmp_path / "a.obj"), COLOURS)


def test_an_obj_takes_the_colours_of_its_texture_with_v_upward(tmp_path):
    """Four texels, one for each vertex; u goes right and v up from the texture's lower left corner."""
    texture = np.array([[[10, 20, 200], [200, 10, 20]], [[20, 200, 10], [77, 88, 99]]], dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "skin.png"), texture[:, :, ::-1])
    (tmp_path / "a.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd textures\\skin.png\n")
    corners = ["vt 0.25 0.75", "vt 0.75 0.75", "vt 0.25 0.25", "vt 0.75 0.25"]
    vertices = [f"v {x} {y} {z}" for x, y, z in TETRAHEDRON.tolist()]
    (tmp_path / "a.obj").write_text(
        "\n".join(["mtllib a.mtl", *vertices, *corners, "f 1/1 3/3 2/2", "f -4/-4 -3/-3 -1/-1"])
    )
    np.testing.assert_array_equal(file_colors(tmp_path / "a.obj"), texture.reshape(4, 3))
    (tmp_path / "skin.png").unlink()
    with pytest.raises(ValueError, match=r"its texture skin.png cannot be read"):
        file_colors(tmp_path / "a.obj")


def test_a_mesh_without_colours_has_none(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    export_mesh(tmp_path / "a.ply", TETRAHEDRON, FACES, format="ply")
    assert file_colors(tmp_path / "a.obj") is None
    assert file_colors(tmp_path / "a.ply") is None
    assert file_colors(tmp_path / "a.stl") is None


# --------------------------------------------------------------------------------------------------- landmark files


def test_both_kinds_of_landmarks_come_back_and_count_from_one_in_the_file(tmp_path):
    rng = np.random.default_rng(1)
    given = ContourLandmarks(rng.uniform(0, 450, (68, 2)), rng.uniform(0, 450, (68, 2)))
    path = contour_landmarks_path(tmp_path, "AFW/AFW_1_3")
    assert path == tmp_path / "landmarks" / "AFW" / "AFW_1_3_pts.mat"
    path.parent.mkdir(parents=True)
    write_contour_landmarks(path, given)
    first = path.read_bytes()
    read = read_contour_landmarks(path)
    np.testing.assert_allclose(read.marched_px, given.marched_px, atol=1e-12)
    np.testing.assert_allclose(read.fixed_px, given.fixed_px, atol=1e-12)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["pts_2d"], given.marched_px + 1)
    write_contour_landmarks(path, given)
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [{"pts_2d": np.zeros((68, 2))}, {"pts_2d": np.zeros((2, 68)), "pts_3d": np.zeros((2, 68))},
                                     {"pts_2d": np.full((68, 2), np.nan), "pts_3d": np.zeros((68, 2))}])  # fmt: skip
def test_other_files_are_no_landmark_files(tmp_path, content):
    scipy.io.savemat(tmp_path / "x_pts.mat", content)
    with pytest.raises(BadSample, match="68×2"):
        read_contour_landmarks(tmp_path / "x_pts.mat")

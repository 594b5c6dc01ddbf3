"""`facefoundry florence`: what is stored is what is seen."""

import json

import cv2
import numpy as np
import pytest

from flows.florence import florence_here
from geometry.built_in import load_built_in
from render.pose_grid import PITCHES_DEG, camera_of, florence_poses
from render.zbuffer import rasterize
from storage.mesh_export import export_mesh
from storage.pose_renders import open_pose_renders

SIZE = 160


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan as people have them: the front of a head, open behind, in centimetres, with colours."""
    model = load_built_in()
    mean = model.mean_shape
    kept = mean[:, 2] > -20
    triangles = model.triangles[kept[model.triangles].all(axis=1)]
    used = np.unique(triangles)
    index = np.full(len(mean), -1, dtype=np.int32)
    index[used] = np.arange(len(used))
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scans") / "subject_7.ply"
    colours = rng.integers(60, 256, (len(used), 3), dtype=np.uint8)
    export_mesh(path, mean[used] / 10 + (3.0, -2.0, 40.0), index[triangles], colors=colours, format="ply")
    return path


@pytest.fixture(scope="module")
def rendered(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "florence"
    folder, pictures = florence_here(
        ["built-in", str(scan)], out=out, people=1, size_px=SIZE, yaw_step_deg=80, unit="cm", largest=True, workers=1
    )
    return folder, pictures


def test_the_poses_are_the_protocols():
    poses = florence_poses()
    assert len(poses) == 3 * 9
    assert {pose.pitch_deg for pose in poses} == {-15.0, 20.0, 25.0} == set(PITCHES_DEG)
    assert sorted({pose.yaw_deg for pose in poses}) == [-80, -60, -40, -20, 0, 20, 40, 60, 80]
    assert len({pose.name for pose in poses}) == len(poses)
    for step in (30, 0, -20, 160):
        with pytest.raises(ValueError, match="do not lead from"):
            florence_poses(yaw_step_deg=step)


def test_the_stored_mesh_in_the_stored_camera_covers_just_the_pixels_that_were_drawn(rendered):
    folder, pictures = rendered
    renders = open_pose_renders(folder)
    assert len(renders) == pictures == 2 * 9
    for sample in renders:
        drawn = (np.abs(sample.image.astype(int) - 128) > 1).any(axis=2).astype(np.uint8)
        covered = rasterize(sample.vertices_px, sample.mesh.triangles, size_hw=(SIZE, SIZE)).covered.astype(np.uint8)
        near = np.ones((3, 3), np.uint8)
        assert covered.sum() > 0.1 * SIZE**2
        assert not (drawn & ~cv2.dilate(covered, near) & 1).any()  # half-covered pixels are drawn
        missed = cv2.erode(covered, near) & ~drawn & 1
        assert missed.sum() <= 0.002 * covered.sum()  # a colour may be the background's
        low, high = sample.box_px[:2], sample.box_px[2:]
        assert (low > 0).all()
        assert (high < SIZE - 1).all()


def test_the_nose_looks_where_the_angles_say(rendered):
    for sample in open_pose_renders(rendered[0]):
        if sample.subject != "built-in-000":
            continue
        tip, root = sample.landmarks_px[30], sample.landmarks_px[[0, 16]].mean(axis=0)
        assert np.isfinite(sample.landmarks_px).all()
        if sample.yaw_deg:
            assert np.sign(tip[0] - root[0]) == -np.sign(sample.yaw_deg)  # positive: to the viewer's left
    frontal = [s for s in open_pose_renders(rendered[0]) if s.yaw_deg == 0 and s.subject == "built-in-000"]
    heights = {s.pitch_deg: s.landmarks_px[30, 1] - s.landmarks_px[[0, 16], 1].mean() for s in frontal}
    assert heights[25.0] < heights[20.0] < heights[-15.0]  # y points down: looking up lifts the nose


def test_a_scan_keeps_its_size_place_and_colours_and_has_no_landmarks(rendered):
    sample = next(s for s in open_pose_renders(rendered[0]) if s.subject == "subject_7" and s.yaw_deg == 0)
    assert 120 < np.ptp(sample.mesh.vertices[:, 0]) < 200  # millimetres
    assert sample.mesh.vertices[:, 2].min() > 300
    assert np.isnan(sample.landmarks_px).all()
    face = sample.image[60:100, 60:100].reshape(-1, 3).astype(int)
    assert face.std(axis=0).min() > 5  # its own speckles, not one colour


def test_running_it_again_makes_nothing_again_and_what_is_gone_is_made(rendered):
    folder, _ = rendered
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.png")}
    gone = next(folder.rglob("built-in-000/*.png"))
    gone.unlink()
    florence_here(["built-in"], out=folder, people=1, size_px=SIZE, yaw_step_deg=80, workers=1)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.png")}
    assert {path: content for path, (content, _) in after.items()} == {p: content for p, (content, _) in before.items()}
    untouched = folder / "subject_7" / gone.name
    assert after[untouched] == before[untouched]


def test_a_camera_holds_the_mesh_in_every_pose():
    vertices = np.array([[0, 0, 0], [10, 0, 0], [0, 400, 3], [7, 9, -60]], dtype=np.float64) + 500
    for pose in florence_poses(yaw_step_deg=10):
        camera = camera_of(pose, vertices, size_px=100)
        seen = camera.project(vertices)
        assert (seen[:, :2] > 0).all()
        assert (seen[:, :2] < 99).all()
        np.testing.assert_allclose(camera.project((vertices.min(axis=0) + vertices.max(axis=0)) / 2.0)[2], 0, atol=1e-9)


def test_the_command_line_prints_one_object_and_names_what_is_wrong(tmp_path, scan, run):
    options = ("--out", tmp_path / "out", "--size=64", "--yaw-step=80", "--workers=1", "--largest")
    code, printed, _ = run("florence", scan, *options, "--unit=cm", "--json")
    assert code == 0
    assert json.loads(printed) == {"folder": str(tmp_path / "out"), "pictures": 9}
    code, _, error = run("florence", tmp_path / "absent.ply", *options)
    assert (code, "there is no mesh file" in error) == (1, True)
    code, _, error = run("florence", scan, scan, *options)
    assert (code, "two meshes would be called subject_7" in error) == (1, True)
    code, _, error = run("florence", scan, "--out", tmp_path / "out", "--yaw-step=30")
    assert (code, "do not lead from" in error) == (1, True)

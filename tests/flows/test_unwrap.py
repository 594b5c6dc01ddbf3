import json

import cv2
import numpy as np
import pytest
import scipy.io
import trimesh

from flows.commands import exit_codes
from geometry.atlas_files import open_atlas
from geometry.mesh import Mesh, boundary_loops
from geometry.uv import UVAtlas


def bent_sheet(n=12):
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1.9, 1.9, n), np.linspace(-60, 90, n)))
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n - 1), np.arange(n - 1)))
    a = j * n + i
    triangles = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    return Mesh(np.stack([80 * np.sin(x), y, 70 * np.cos(x)], axis=1), triangles.astype(np.int32))


@pytest.fixture
def scan(tmp_path):
    mesh = bent_sheet()
    path = tmp_path / "scan.ply"
    trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).export(path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "cylindrical"),
        ("--method", "optimal"),
        ("--weights", "uniform", "--boundary", "circle"),
        ("--boundary", "natural", "--inner-loops", "free"),
    ],
)
def test_a_mesh_is_unwrapped_into_a_folder(run, scan, tmp_path, options):
    out = tmp_path / "uv"
    code, printed, _ = run("unwrap", scan, "--out", out, "--size", 64, "--json", *options)
    assert code == 0
    told = json.loads(printed)
    assert told["path"] == str(out)
    assert told["report"]["n_folded"] == 0
    assert told["report"]["size"] == 64
    atlas = open_atlas(out / "atlas.npz")
    assert len(atlas.uv) == 144
    np.testing.assert_array_equal(scipy.io.loadmat(out / "BFM_UV.mat")["UV"], atlas.uv)
    report = json.loads((out / "report.json").read_text())
    assert report["report"] == told["report"]
    assert report["surface"] == "scan"
    assert any("of the square is covered" in sentence for sentence in report["sentences"])
    picture = cv2.imread(str(out / "checkerboard.png"))
    assert picture.shape == (384, 4 * 384, 3)
    assert picture.std() > 30


def border_table(path, triangles, *, rows=None):
    """A CSV file that puts the sheet's border on a circle, in no order, with a vertex that is none of the border's."""
    border = boundary_loops(triangles)[0]
    turn = 2 * np.pi * np.arange(len(border)) / len(border)
    places = np.append(0.5 + 0.4 * np.stack([np.cos(turn), np.sin(turn)], axis=1), [[0.5, 0.5]], axis=0)
    lines = [f"{u!r},{i},{v!r}" for i, (u, v) in zip([*border.tolist(), 40], places.tolist(), strict=True)]
    path.write_text("\n".join(["u,vertex,v", *(rows or sorted(lines))]) + "\n")
    return border, places[:-1]


def test_the_border_may_be_given_in_a_table(run, scan, tmp_path):
    border, places = border_table(tmp_path / "my border.csv", bent_sheet().triangles)
    out = tmp_path / "uv"
    code, printed, _ = run("unwrap", scan, "--boundary", tmp_path / "my border.csv", "--out", out, "--json")
    assert code == 0
    assert json.loads(printed)["report"]["n_folded"] == 0
    np.testing.assert_array_equal(open_atlas(out / "atlas.npz").uv[border], places)
    assert json.loads((out / "report.json").read_text())["boundary"] == str(tmp_path / "my border.csv")


def test_a_tables_vertices_are_numbered_as_in_the_file(run, tmp_path):
    """A stray vertex before the others and --largest: the mesh's numbers are the file's less one."""
    mesh = bent_sheet()
    lines = ["v 0 0 300", *(f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.tolist())]
    lines += ["f " + " ".join(str(i + 2) for i in corners) for corners in mesh.triangles.tolist()]
    (tmp_path / "scan.obj").write_text("\n".join(lines) + "\n")
    border, places = border_table(tmp_path / "border.csv", mesh.triangles + 1)
    options = ("--largest", "--boundary", tmp_path / "border.csv", "--out", tmp_path / "uv")
    assert run("unwrap", tmp_path / "scan.obj", *options).code == 0
    np.testing.assert_array_equal(open_atlas(tmp_path / "uv" / "atlas.npz").uv[border - 1], places)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["0.1,0,0.2"], "border.csv says nothing of vertex 1 (43 of the border's 44 are missing)"),
        (["0.1,0,0.2", "0.1,0,0.2"], "border.csv, line 3: vertex 0 is there twice"),
        (["0.1,0"], "border.csv, line 2: "),
        (["0.1,nose,0.2"], "border.csv, line 2: "),
    ],
)
def test_a_table_that_gives_no_border_is_one_line(run, scan, tmp_path, rows, sentence):
    border_table(tmp_path / "border.csv", bent_sheet().triangles, rows=rows)
    code, _, err = run("unwrap", scan, "--boundary", tmp_path / "border.csv", "--out", tmp_path / "uv")
    assert code == exit_codes.FAILED
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "uv").exists()


def test_the_same_mesh_gives_the_same_files(run, scan, tmp_path):
    for name in ("one", "other"):
        assert run("unwrap", scan, "--method", "optimal", "--out", tmp_path / name).code == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["BFM_UV.mat", "atlas.npz", "checkerboard.png", "report.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_people_get_sentences_and_a_folder_of_their_own(run, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, _ = run("unwrap", scan, "--unit", "um")
    assert code == 0
    assert printed.splitlines()[0] == "unwraps/scan-tutte"
    assert "if that is not so, name the unit" in printed
    assert (tmp_path / "unwraps" / "scan-tutte" / "atlas.npz").is_file()


def test_the_built_in_model_is_unwrapped_round_a_cylinder(run, tmp_path):
    code, printed, _ = run("unwrap", "built-in", "--method", "cylindrical", "--out", tmp_path / "uv", "--json")
    assert code == 0
    told = json.loads(printed)
    assert told["report"]["n_vertices"] == 53_099
    assert told["report"]["n_folded"] > 5_000
    assert any("cross the seam" in sentence for sentence in told["sentences"])
    assert isinstance(open_atlas(tmp_path / "uv" / "atlas.npz"), UVAtlas)


def test_bad_meshes_and_wrong_use_are_one_line_and_an_exit_code(run, scan, tmp_path):
    code, _, err = run("unwrap", scan, "--method", "cylindrical", "--weights", "uniform")
    assert code == exit_codes.WRONG_USE
    assert "belong to --method tutte, not to cylindrical" in err
    code, _, err = run("unwrap", scan, "--boundary", "triangle")
    assert code == exit_codes.WRONG_USE
    assert "none of square, circle, natural, nor a .csv file" in " ".join(err.split())
    (tmp_path / "words.csv").write_text("hello\n")
    code, _, err = run("unwrap", scan, "--boundary", tmp_path / "words.csv")
    assert code == exit_codes.FAILED
    assert "the first line names the columns vertex, u and v" in err
    code, _, err = run("unwrap", tmp_path / "absent.obj")
    assert code == exit_codes.FAILED
    assert err.startswith("facefoundry: there is no mesh file")
    bad = tmp_path / "bad.off"
    bad.write_text("OFF\n4 2 0\n0 0 0\n90 0 0\n0 90 0\n0 0 90\n3 0 1 2\n3 0 2 1\n")
    code, _, err = run("unwrap", bad)
    assert code == exit_codes.FAILED
    assert "bad.off: triangles 0 and 1 have the same three vertices" in err
    assert len(err.splitlines()) == 1
    code, _, err = run("unwrap", "built-in", "--largest")
    assert code == exit_codes.FAILED
    assert "a mesh file's affair" in err

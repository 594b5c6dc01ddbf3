import numpy as np
import pytest
import scipy.io

from geometry.atlas_files import open_atlas, save_atlas, save_bfm_uv
from geometry.mesh import Mesh
from geometry.uv import UVAtlas


@pytest.fixture
def atlas():
    uv = np.array([[0.0, 0.1], [1.0, 0.0], [0.3, 0.9], [0.8, 1 / 3]])
    return UVAtlas(uv, np.array([[0, 1, 2], [1, 3, 2]], dtype=np.int32))


@pytest.fixture
def mesh(atlas):
    return Mesh(np.arange(12.0).reshape(4, 3) ** 1.5, atlas.triangles[:1])


def test_an_atlas_comes_back_exactly_and_equal_atlases_are_equal_bytes(atlas, mesh, tmp_path):
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    for path in (one, other):
        save_atlas(path, atlas, mesh, file_vertices=np.array([3, 1, 0, 2]))
    assert one.read_bytes() == other.read_bytes()
    back = open_atlas(one)
    np.testing.assert_array_equal(back.uv, atlas.uv)
    np.testing.assert_array_equal(back.triangles, atlas.triangles)
    with np.load(one) as stored:
        np.testing.assert_array_equal(stored["vertices"], mesh.vertices)
        np.testing.assert_array_equal(stored["mesh_triangles"], mesh.triangles)
        np.testing.assert_array_equal(stored["file_vertices"], [3, 1, 0, 2])


def test_bfm_uv_is_the_file_that_face3d_reads(atlas, tmp_path):
    path = tmp_path / "BFM_UV.mat"
    save_bfm_uv(path, atlas)
    first = path.read_bytes()
    assert first.startswith(b"MATLAB 5.0 MAT-file, written by facefoundry")
    np.testing.assert_array_equal(scipy.io.loadmat(path)["UV"], atlas.uv)
    save_bfm_uv(path, atlas)
    assert path.read_bytes() == first  # no clock in it


def test_another_npz_is_no_atlas(tmp_path):
    np.savez(tmp_path / "x.npz", uv=np.zeros((1, 2)))
    with pytest.raises(
        ValueError, match="x.npz is another .npz file than the one that is expected: it has no triangles"
    ):
        open_atlas(tmp_path / "x.npz")

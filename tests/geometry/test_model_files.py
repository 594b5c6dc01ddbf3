"""Every published model format loads to the model its file was written from, and every defect is noticed and said."""

import json
import pickle
import struct
import sys

import numpy as np
import pytest

from geometry import load_model
from geometry.landmarks import N_LANDMARKS
from geometry.mesh import boundary_loops, signed_volume
from geometry.model_checks import ModelFileError
from geometry.models import describe_model
from geometry.morphable_model import REGION_NAMES, Coefficients, DenseModel

N_WHOLE, N_CUT = 53_490, 53_215


def same_triangles(ours: np.ndarray, truth: np.ndarray) -> bool:
    """Whether two lists hold the same triangles in the same direction, whatever their order and first corner."""

    def canonical(triangles: np.ndarray) -> np.ndarray:
        first = triangles.argmin(axis=1)[:, None]
        turned = np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1)
        return turned[np.lexsort(turned.T)]

    return ours.shape == truth.shape and bool((canonical(ours) == canonical(truth)).all())


def check_cut(model: DenseModel, face, writers) -> None:
    """The 53,215 vertices with expressions, in millimetres per unit of the file's coefficients."""
    mean_um = face.cut_mean.astype(np.float64) + face.mean_expression.reshape(-1, 3)
    np.testing.assert_allclose(model.mean_shape, mean_um * 1e-3, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.identity_basis, face.identity[face.trim_rows].T * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(model.expression_basis, face.expression.T * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(model.identity_stddevs, face.sigma, rtol=1e-6)
    np.testing.assert_allclose(model.expression_stddevs, face.sigma_expression, rtol=1e-6)
    assert same_triangles(model.triangles, face.cut_triangles)
    assert (model.landmark_vertices == writers.CUT_LANDMARKS).all()
    assert signed_volume(model.mean_shape, model.triangles) > 0


# ---------------------------------------------------------------- each format comes back


def test_bfm_2009_alone_is_kept_whole_and_has_no_expression(face, writers, tmp_path):
    model = load_model(writers.bfm2009(tmp_path, face))
    assert (model.n_vertices, model.n_identity, model.n_expression) == (N_WHOLE, 6, 0)
    np.testing.assert_allclose(model.mean_shape, face.mean * np.float32(1e-3), rtol=1e-6)
    np.testing.assert_allclose(model.identity_basis, face.identity.T * np.float32(1e-3), rtol=1e-6)
    assert same_triangles(model.triangles, face.triangles)
    assert [len(loop) for loop in boundary_loops(model.triangles)] == [512]
    assert (model.landmark_vertices == writers.WHOLE_LANDMARKS).all()
    np.testing.assert_array_equal(model.vertices(model.neutral()), model.mean_shape)
    assert model.mirror is None
    assert model.uv is None


@pytest.mark.parametrize("tables", ["bfm_info", "model_info"])
def test_bfm_2009_is_cut_where_a_file_says_which_vertices_to_keep(face, writers, tmp_path, tables):
    files = [writers.bfm2009(tmp_path, face), writers.lp_expression(tmp_path, face)]
    model = load_model([*files, getattr(writers, tables)(tmp_path, face)])
    check_cut(model, face, writers)
    assert [len(loop) for loop in boundary_loops(model.triangles)] == [512, 78]


@pytest.mark.parametrize("expression_name", ["Model_Exp.mat", "Model_Expression.mat"])
def test_the_pair_of_300w_lp_comes_back(face, writers, tmp_path, expression_name):
    shape = writers.lp_shape(tmp_path, face)
    model = load_model([shape, writers.lp_expression(tmp_path, face, expression_name)])
    check_cut(model, face, writers)
    assert (model.mirror[model.mirror] == np.arange(N_CUT)).all()
    assert (model.mirror == np.arange(N_CUT)).sum() == 211
    first, second = face.symlist()
    assert (model.mirror[first] == second).all()


def test_the_shape_half_alone_has_no_expression(face, writers, tmp_path):
    assert load_model(writers.lp_shape(tmp_path, face)).n_expression == 0


def test_the_pair_without_its_tables_takes_the_published_landmarks(face, writers, tmp_path):
    model = load_model(writers.lp_shape(tmp_path, face, keypoints=None, symlist=None, segbin=None))
    assert (model.landmark_vertices == writers.CUT_LANDMARKS).all()
    assert model.mirror is None


def test_face3ds_file_and_its_uv_come_back(face, writers, tmp_path):
    model = load_model([writers.face3d(tmp_path, face), writers.bfm_uv(tmp_path, face)])
    check_cut(model, face, writers)
    np.testing.assert_array_equal(model.uv, face.uv())
    closing = model.closing_triangles
    assert (np.sort(closing, axis=1) == np.sort(face.tri_mouth(), axis=1)).all()
    a, b, c = (model.mean_shape[closing[:, k]].astype(np.float64) for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > -1e-3).all()  # toward the viewer


def test_one_basel_face_gives_one_set_of_vertices_in_all_three_cuts(face, writers, tmp_path):
    expression = writers.lp_expression(tmp_path, face)
    models = [
        load_model([writers.bfm2009(tmp_path, face), expression, writers.bfm_info(tmp_path, face)]),
        load_model([writers.lp_shape(tmp_path, face), expression]),
        load_model(writers.face3d(tmp_path, face)),
    ]
    rng = np.random.default_rng(0)
    coefficients = Coefficients(rng.normal(size=6) * face.sigma, rng.normal(size=4))
    first, *others = (model.vertices(coefficients) for model in models)
    truth = face.cut_mean.ravel() + face.mean_expression + face.identity[face.trim_rows] @ coefficients.identity
    truth = (truth + face.expression @ coefficients.expression).reshape(-1, 3) * 1e-3
    np.testing.assert_allclose(first, truth, atol=2e-4)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_bfm_2017_comes_back_in_millimetres_with_the_roots_of_its_variances(face2017, writers, tmp_path):
    landmarks = writers.landmark_list(tmp_path, face2017.landmarks)
    model = load_model([writers.bfm2017(tmp_path, face2017), landmarks])
    np.testing.assert_allclose(model.mean_shape, face2017.mean + face2017.mean_expression, atol=1e-5)
    np.testing.assert_array_equal(model.identity_basis, face2017.identity.T)
    np.testing.assert_array_equal(model.expression_basis, face2017.expression.T)
    np.testing.assert_allclose(model.identity_stddevs, face2017.sigma, rtol=1e-6)
    np.testing.assert_allclose(model.expression_stddevs, face2017.sigma_expression, rtol=1e-6)
    assert same_triangles(model.triangles, face2017.triangles)
    assert (model.landmark_vertices == face2017.landmarks).all()
    assert model.name == "BFM 2017, face12"


def test_inward_triangles_of_an_hdf5_model_are_turned(face2017, writers, tmp_path):
    path = writers.bfm2017(tmp_path, face2017, shape__representer__cells=face2017.triangles[:, [0, 2, 1]].T)
    model = load_model([path, writers.landmark_list(tmp_path, face2017.landmarks)])
    assert same_triangles(model.triangles, face2017.triangles)


def test_a_shape_model_in_hdf5_needs_no_expression(face2017, writers, tmp_path):
    parts = ("mean", "pcaBasis", "pcaVariance")
    path = writers.bfm2017(tmp_path, face2017, **{f"expression__model__{part}": None for part in parts})
    assert load_model([path, writers.landmark_list(tmp_path, face2017.landmarks)]).n_expression == 0


def test_a_landmark_list_may_be_json_and_replaces_the_files_own(face, writers, tmp_path):
    moved = writers.CUT_LANDMARKS.copy()
    moved[[37, 38]] = moved[[38, 37]]
    (tmp_path / "landmarks.json").write_text(json.dumps(moved.tolist()))
    model = load_model([writers.lp_shape(tmp_path, face), tmp_path / "landmarks.json"])
    assert (model.landmark_vertices == moved).all()


def test_a_folder_is_sorted_out_by_content(face, writers, tmp_path):
    writers.lp_shape(tmp_path, face)
    writers.lp_expression(tmp_path, face)
    writers.bfm_uv(tmp_path, face)
    writers.bfm2009(tmp_path, face)  # the same model before it was cut: adds nothing
    (tmp_path / "Model_Exp.mat").rename(tmp_path / "some name.mat")
    writers._save(tmp_path / "pncc_code.mat", {"vertex_code": np.zeros((3, 5))}, {})
    (tmp_path / "readme.txt").write_text("not a list")
    model = load_model(tmp_path)
    check_cut(model, face, writers)
    np.testing.assert_array_equal(model.uv, face.uv())


def test_uv_of_the_whole_model_is_cut_too(face, writers, tmp_path):
    whole = np.zeros((N_WHOLE, 2))
    whole[face.trim] = face.uv()
    files = [
        writers.bfm2009(tmp_path, face),
        writers.bfm_info(tmp_path, face),
        writers.bfm_uv(tmp_path, face, UV=whole),
    ]
    np.testing.assert_array_equal(load_model(files).uv, face.uv())


def test_eyes_nose_and_mouth_are_the_files_and_the_neck_is_found_all_the_same(face, writers, tmp_path):
    model = load_model(writers.lp_shape(tmp_path, face))
    nose, eyes, mouth, _ = face.segbin().astype(bool)
    code = {name: index for index, name in enumerate(REGION_NAMES)}
    brows = model.regions == code["brows"]
    for name, segment in (("nose", nose), ("eyes", eyes), ("mouth", mouth)):
        assert ((model.regions == code[name]) == (segment & ~brows)).all()
    chin = model.mean_shape[model.landmark_vertices[8]]
    assert (model.regions[model.mean_shape[:, 1] < chin[1] - 5] == code["neck"]).mean() > 0.99


def test_a_vertex_with_two_partners_gets_the_nearer_one(face, writers, tmp_path):
    pairs = face.symlist()
    mean = face.cut_mean
    a = pairs[0, 300]
    partners = pairs[1, [300, 301]]
    more = np.concatenate([pairs, [[a], [partners[1]]]], axis=1)
    model = load_model(writers.lp_shape(tmp_path, face, symlist=more + 1.0))
    distance = np.linalg.norm(mean[a] * (-1, 1, 1) - mean[partners], axis=1)
    assert model.mirror[a] == partners[distance.argmin()]


def test_a_description_counts_what_is_there(face, writers, tmp_path):
    model = load_model([writers.face3d(tmp_path, face), writers.bfm_uv(tmp_path, face)])
    described = describe_model(model)
    assert (described.n_vertices, described.n_triangles, described.n_closing_triangles) == (N_CUT, 105_840, 114)
    assert (described.n_identity, described.n_expression, described.n_landmarks) == (6, 4, N_LANDMARKS)
    assert described.boundary_loops == (512, 78)
    assert (described.n_components, described.euler_characteristic) == (1, 0)
    assert (described.has_atlas, described.has_mirror, described.units) == (True, False, "mm")
    assert sum(described.region_sizes.values()) == N_CUT
    assert described.box_mm[0][1] == pytest.approx(model.mean_shape[:, 1].min())
    assert "University of Basel" in described.licence
    assert described.fingerprint == model.fingerprint


# ---------------------------------------------------------------- each defect is said


def refused(paths, sentence: str) -> None:
    with pytest.raises(ModelFileError, match=sentence):
        load_model(paths)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("BFM.mat", b"", "BFM.mat is empty"),
        ("BFM.mat", b"\n<!DOCTYPE html><html>log in</html>", "BFM.mat is a web page, not a model .* while logged in"),
        ("BFM.mat", pickle.dumps({"mean": [1, 2]}), "is a Python pickle: opening one runs whatever code it holds"),
        ("BFM.pkl", b"(dp0\n.", "is a Python pickle"),
        ("a.h5", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("a.mat", b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600), "MATLAB 7.3 file .* '-v7'"),
        ("a.mat", b"\x1f\x8b\x08\x00rest", "compressed with gzip: unpack it first"),
        ("a.mat", b"solid head\nfacet normal", "neither a MATLAB 5 nor an HDF5 file .*solid head"),
        ("a.zip", b"PK\x03\x04" + bytes(60), "is a zip file, but not one that `facefoundry model import` wrote"),
    ],
)
def test_what_is_no_model_file_is_called_what_it_is(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, sentence)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model file or folder"):
        load_model(tmp_path / "BFM.mat")


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("opened").mkdir, ())

    (tmp_path / "BFM.mat").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "BFM.mat", "pickle")
    assert not (tmp_path / "opened").exists()


def matlab_element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def numbers_of_no_type(name: str) -> bytes:
    """A variable that SciPy's reader does not survive."""
    body = matlab_element(6, struct.pack("<II", 6, 0)) + matlab_element(5, struct.pack("<ii", 1, 1))
    return matlab_element(14, body + matlab_element(1, name.encode()) + matlab_element(8, bytes(8)))


def test_a_file_that_ends_its_reader_is_refused_and_nothing_else_ends(face, writers, tmp_path):
    path = writers.lp_shape(tmp_path, face, keypoints=None)
    path.write_bytes(path.read_bytes() + numbers_of_no_type("keypoints"))
    refused(path, r"Model_Shape\.mat: reading it ended the process that did \(signal 11\).*download it again")


def test_what_the_reading_process_says_by_itself_is_our_failure_and_not_the_files(face, writers, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(RuntimeError, match="the process that reads model files failed: no such thing"):
        load_model(writers.lp_shape(tmp_path, face))


def test_other_matlab_files_are_told_apart(writers, tmp_path):
    annotation = writers._save(
        tmp_path / "image00002.mat", {"Pose_Para": np.zeros((1, 7)), "roi": np.zeros((1, 4))}, {}
    )
    refused(annotation, "image00002.mat is the annotation of one photograph .*Pose_Para, roi")
    unknown = writers._save(tmp_path / "tri.mat", {"tri_refine": np.zeros((3, 7))}, {})
    refused(unknown, "a MATLAB file without a morphable model in it")


def test_missing_keys_are_named(face, face2017, writers, tmp_path):
    refused(
        writers.lp_shape(tmp_path, face, sigma=None), r"Model_Shape.mat lacks sigma \(it holds .*take the published"
    )
    refused(writers.lp_shape(tmp_path, face, tri=None), r"Model_Shape.mat: no triangles \(tri\)")
    refused(writers.bfm2009(tmp_path, face, tl=None), r"no triangles \(tl\)")
    refused(writers.face3d(tmp_path, face, expPC=None), "BFM.mat lacks expPC")
    path = writers.bfm2017(tmp_path, face2017, shape__model__pcaVariance=None)
    refused(path, "lacks the data set shape/model/pcaVariance")


def test_an_hdf5_file_of_something_else_is_told(writers, tmp_path):
    import h5py

    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["conv1"] = np.zeros(3)
    refused(tmp_path / "weights.h5", r"HDF5 file without the group 'shape' \(it holds conv1\)")


def test_the_expression_half_alone_is_no_model(face, writers, tmp_path):
    refused(
        writers.lp_expression(tmp_path, face), "no file with a mean face .*Model_Exp.mat. Add 01_MorphableModel.mat"
    )


def test_two_models_at_once_are_a_question(face, writers, tmp_path):
    files = [writers.face3d(tmp_path, face), writers.lp_shape(tmp_path, face)]
    refused(files, r"several models at once: BFM.mat \(face3d\), Model_Shape.mat \(300wlp-shape\). Name the one")


def test_two_expression_files_are_a_question(face, writers, tmp_path):
    second = writers.lp_expression(tmp_path, face, "Model_Expression.mat")
    refused(
        [writers.lp_shape(tmp_path, face), writers.lp_expression(tmp_path, face), second], "more than an expression"
    )


def test_files_that_add_nothing_are_refused(face, face2017, writers, tmp_path):
    expression = writers.lp_expression(tmp_path, face)
    refused([writers.face3d(tmp_path, face), expression], r"Model_Exp.mat .* cannot be combined with BFM.mat")
    refused([writers.bfm2017(tmp_path, face2017), writers.bfm_uv(tmp_path, face)], "BFM_UV.mat .* leave it out")


def test_expressions_of_the_cut_do_not_fit_the_whole_model(face, writers, tmp_path):
    files = [writers.bfm2009(tmp_path, face), writers.lp_expression(tmp_path, face)]
    refused(files, "moves 53215 vertices but 01_MorphableModel.mat has 53490; add the file with trimIndex")


def test_transposed_bases_are_noticed(face, face2017, writers, tmp_path):
    sentence = r"shapePC is transposed, \(6, 160470\) instead of \(160470, 6\)"
    refused(writers.bfm2009(tmp_path, face, shapePC=face.identity.T), sentence)
    path = writers.bfm2017(tmp_path, face2017, expression__model__pcaBasis=face2017.expression.T)
    refused(path, r"expression/model/pcaBasis is transposed")


def test_shapes_that_do_not_belong_together_are_noticed(face, writers, tmp_path):
    refused(writers.lp_shape(tmp_path, face, w=face.identity), "w has shape .* but mu_shape has 53215 vertices")
    refused(writers.lp_shape(tmp_path, face, sigma=np.ones((5, 1))), r"sigma has shape \(5, 1\) but w has 6 modes")
    refused(writers.lp_shape(tmp_path, face, mu_shape=face.cut_mean), "must be one column of x, y, z for every vertex")
    refused(writers.lp_shape(tmp_path, face, keypoints=np.ones((1, 51))), "keypoints holds 51 vertices, not the 68")
    refused(writers.lp_shape(tmp_path, face, symlist=face.symlist().T + 1.0), "symlist has shape .*it is 2 × P")
    refused(writers.lp_shape(tmp_path, face, segbin=face.segbin()[:3]), "segbin has shape")


def test_transposed_triangles_are_noticed(face, face2017, writers, tmp_path):
    refused(writers.bfm2009(tmp_path, face, tl=(face.triangles + 1.0).T), r"tl is transposed, \(3, 106466\) .*T × 3")
    path = writers.lp_shape(tmp_path, face, tri=face.cut_triangles + 1.0)
    refused(path, r"tri is transposed, \(105840, 3\) where this format has 3 × T")
    path = writers.bfm2017(tmp_path, face2017, shape__representer__cells=face2017.triangles)
    refused(path, "shape/representer/cells is transposed")


def test_indices_of_the_wrong_base_are_noticed(face, face2017, writers, tmp_path):
    refused(writers.bfm2009(tmp_path, face, tl=face.triangles), "tl holds index 0; MATLAB files count from one")
    refused(
        writers.lp_shape(tmp_path, face, tri=face.cut_triangles.T + 2.0), "refers to vertex 53216 of a model with 53215"
    )
    path = writers.lp_shape(tmp_path, face, keypoints=writers.CUT_LANDMARKS[None])
    refused(path, "keypoints counts from zero: it begins with 21873, the published one with 21874")
    path = writers.bfm2017(tmp_path, face2017, shape__representer__cells=face2017.triangles.T + 1)
    refused(path, "counts vertices from one .*HDF5 models count from zero")


def test_triangles_of_another_cut_are_noticed(face, writers, tmp_path):
    few = face.cut_triangles[(face.cut_triangles < N_CUT - 100).all(axis=1)].T + 1.0
    refused(writers.lp_shape(tmp_path, face, tri=few), "uses the vertices 1 to 53115 .* the published one uses all")
    refused(writers.lp_shape(tmp_path, face, tri=face.cut_triangles.T + 1.5), "numbers that are not whole")


@pytest.mark.parametrize("writer", ["bfm2009", "lp_shape", "face3d"])
def test_variances_for_standard_deviations_are_noticed(face, writers, tmp_path, writer):
    name = "sigma" if writer == "lp_shape" else "shapeEV"
    path = getattr(writers, writer)(tmp_path, face, **{name: face.sigma[:, None] ** 2})
    refused(path, f"one standard deviation .* by .* mm, .*{name} seems to hold variances")


def test_standard_deviations_for_variances_are_noticed(face2017, writers, tmp_path):
    path = writers.bfm2017(tmp_path, face2017, shape__model__pcaVariance=face2017.sigma)
    refused(path, "seems to hold standard deviations, where this format has variances")


def test_a_basis_multiplied_by_its_spread_is_noticed(face, face2017, writers, tmp_path):
    scaled = face.identity * face.sigma.astype(np.float32)
    refused(writers.bfm2009(tmp_path, face, shapePC=scaled), "column 0 of shapePC has length 8.8e.05")
    path = writers.bfm2017(tmp_path, face2017, shape__model__pcaBasis=face2017.identity * face2017.sigma)
    refused(path, "the basis seems to be scaled twice")


def test_spreads_that_are_none_are_noticed(face, writers, tmp_path):
    sigma = face.sigma[:, None] * np.array([[1, 1, 0, 1, 1, 1]]).T
    refused(writers.lp_shape(tmp_path, face, sigma=sigma), "sigma of mode 2 is 0; a spread is positive")


def test_another_unit_is_noticed(face, face2017, writers, tmp_path):
    refused(
        writers.bfm2009(tmp_path, face, shapeMU=face.mean.reshape(-1, 1) / 1000), "read in µm, the mean face is 0.2"
    )
    path = writers.bfm2017(tmp_path, face2017, shape__model__mean=face2017.mean.ravel() * 1000)
    refused(path, "read in mm, the mean face is 2.* mm tall")


def test_nan_is_noticed(face, face2017, writers, tmp_path):
    spoilt = face.identity.copy()
    spoilt[4000, 2] = np.nan
    refused(writers.bfm2009(tmp_path, face, shapePC=spoilt), "shapePC holds 1 values that are NaN or infinite")
    mean = face2017.mean.ravel().copy()
    mean[-1] = np.inf
    refused(
        writers.bfm2017(tmp_path, face2017, shape__model__mean=mean), "shape/model/mean holds 1 values that are NaN"
    )


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.02])
def test_a_file_cut_short_is_noticed(face, face2017, writers, tmp_path, keep):
    for path in (writers.face3d(tmp_path, face), writers.lp_shape(tmp_path, face), writers.bfm2017(tmp_path, face2017)):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        refused(path, "cannot be read to its end.* cut short")


def test_uv_that_does_not_fit_is_noticed(face, writers, tmp_path):
    shape = writers.lp_shape(tmp_path, face)
    refused([shape, writers.bfm_uv(tmp_path, face, UV=face.uv().T)], r"\(transposed\); this model needs \(53215, 2\)")
    refused([shape, writers.bfm_uv(tmp_path, face, UV=face.uv() * 255)], r"UV holds values outside \[0, 1\]")


def test_a_damaged_symlist_is_noticed(face, writers, tmp_path):
    pairs = face.symlist()
    pairs[1, 300:500] = np.roll(pairs[1, 300:500], 1)
    damaged = np.concatenate([face.symlist(), pairs], axis=1)
    refused(
        writers.lp_shape(tmp_path, face, symlist=damaged + 1.0), "symlist gives .* a partner that has another partner"
    )
    refused(writers.lp_shape(tmp_path, face, segbin=np.ones((4, N_CUT))), "in no segment or in several")


def test_a_trim_index_of_another_cut_is_noticed(face, writers, tmp_path):
    path = writers.bfm_info(tmp_path, face, trimIndex=face.trim[:-5, None] + 1.0)
    refused([writers.bfm2009(tmp_path, face), path], "trimIndex holds 53210 vertices, ascending: True")
    path = writers.bfm_info(tmp_path, face, trimIndex=face.trim[::-1, None] + 1.0)
    refused([writers.bfm2009(tmp_path, face), path], "ascending: False")


def test_an_hdf5_model_asks_for_the_landmarks_it_does_not_name(face2017, writers, tmp_path):
    refused(writers.bfm2017(tmp_path, face2017), r"names 4 of the 68 landmarks \(iBUG 8, 30, 36, 45.* add a text file")
    refused(writers.bfm2017(tmp_path, face2017, named={}), r"names 0 of the 68 landmarks \(iBUG none")


def test_a_list_that_contradicts_the_named_points_is_noticed(face2017, writers, tmp_path):
    wrong = face2017.landmarks.copy()
    wrong[30], wrong[33] = wrong[33], wrong[30]
    path = writers.bfm2017(tmp_path, face2017)
    refused([path, writers.landmark_list(tmp_path, wrong)], "landmark 30 of the list is vertex .* mm from where")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 2 3", "holds 3 values, 3 of them different; a landmark list is 68"),
        (" ".join(["5"] * 68), "68 values, 1 of them different"),
        ("eyes, nose", "is not a list of vertex indices"),
        ("[1, 2, 3", "is not a list of vertex indices"),
        (" ".join(str(53_148 + k) for k in range(68)), "refers to vertex 53215 but .* has 53215 vertices, 0 to 53214"),
        (" ".join(str(100 + k) for k in range(68)), "do not look like a face"),
    ],
)
def test_a_bad_landmark_list_is_noticed(face, writers, tmp_path, text, sentence):
    (tmp_path / "landmarks.txt").write_text(text)
    refused([writers.lp_shape(tmp_path, face), tmp_path / "landmarks.txt"], sentence)


def test_a_face_upside_down_is_noticed(face, writers, tmp_path):
    mean = (face.mean * (1, -1, 1)).reshape(-1, 1)
    refused(writers.bfm2009(tmp_path, face, shapeMU=mean), "the mouth does not lie below the eyes")


def test_a_folder_of_annotations_is_no_model(writers, tmp_path):
    for index in range(120):
        (tmp_path / f"image{index}.mat").touch()
    refused(tmp_path, "holds 120 files named .* name the model's files")
    with pytest.raises(ValueError, match="no model given"):
        load_model([])

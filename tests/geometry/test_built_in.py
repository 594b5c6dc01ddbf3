"""Laws of the built-in model. Frozen numbers were taken from the code that made the shipped file."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geometry import landmarks as lm
from geometry.built_in import BuiltInModel, load_built_in
from geometry.built_in_file import BUILT_IN_PATH, BUILT_IN_SHA256, PARTS, BuiltInFile
from geometry.mesh import boundary_loops, component_count, signed_volume
from geometry.morphable_model import REGION_NAMES, Coefficients, DenseModel, SurfacePoints
from geometry.uv import UVAtlas

WITH_ATLAS = (("skin",), ("skin", "eye_cavity"), ("skin", "mouth_cavity"), ("skin", "eye_cavity", "mouth_cavity"))


@pytest.fixture(scope="module")
def skin() -> BuiltInModel:
    return load_built_in()


@pytest.fixture(scope="module")
def whole() -> BuiltInModel:
    return load_built_in("all")


@pytest.fixture(scope="module")
def dense(skin: BuiltInModel) -> DenseModel:
    return skin.dense()


def people(model: BuiltInModel, count: int, seed: int = 0) -> Coefficients:
    rng = np.random.default_rng(seed)
    identity = np.stack([model.draw_identity(rng) for _ in range(count)])
    return Coefficients(identity, np.stack([model.draw_expression(rng) for _ in range(count)]))


def one(faces: Coefficients, index: int) -> Coefficients:
    return Coefficients(faces.identity[index], faces.expression[index])


# ---------------------------------------------------------------------------------------------- the file


def test_the_shipped_file_is_the_one_that_everybody_has() -> None:
    assert hashlib.sha256(BUILT_IN_PATH.read_bytes()).hexdigest() == BUILT_IN_SHA256


def test_the_content_hash_in_the_file_is_that_of_its_arrays() -> None:
    digest = hashlib.sha256()
    with np.load(BUILT_IN_PATH, allow_pickle=False) as entries:
        meta = json.loads(entries["meta"].tobytes())
        for name in sorted(set(entries.files) - {"meta"}):
            array = entries[name]
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
    assert digest.hexdigest() == meta["content_sha256"]


def test_a_missing_file_says_how_to_get_it_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"head\.npz is missing: restore it from the repository"):
        BuiltInFile(tmp_path / "head.npz")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", bytes(range(256)) * 40])
def test_what_is_not_the_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"head\.npz is not the built-in model's data file"):
        BuiltInFile(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(BUILT_IN_PATH.read_bytes()[:5_000_000])
    with pytest.raises(ValueError, match="is not the built-in model's data file"):
        BuiltInFile(path)


def test_another_programs_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(ValueError, match="entry 'meta'"):
        BuiltInFile(path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, meta=np.frombuffer(json.dumps({"format": 2, "parts": PARTS}).encode(), np.uint8))
    with pytest.raises(ValueError, match="format 2"):
        BuiltInFile(path)


def test_one_flipped_byte_in_an_entry_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    shutil.copyfile(BUILT_IN_PATH, path)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("identity_modes.npy")
    content = bytearray(path.read_bytes())
    content[entry.header_offset + entry.compress_size // 2] ^= 0x10
    path.write_bytes(content)
    file = BuiltInFile(path)
    assert file.cage_mean.shape == (4405, 3)
    with pytest.raises(ValueError, match=r"entry 'identity_modes' of .* cannot be read .* the file is damaged"):
        _ = file.identity_modes


def test_a_pickle_where_numbers_should_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, meta=np.array({"format": 1}, dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        BuiltInFile(path)


def test_after_decoding_shapes_and_landmarks_are_the_same_and_the_file_is_not_read_again(
    skin: BuiltInModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    z = Coefficients(rng.normal(size=199) * skin.identity_stddevs, rng.normal(size=29) * skin.expression_stddevs)
    expected, landmarks = skin.vertices(z), skin.landmark_vertices
    decoded = BuiltInModel(BuiltInFile(), ("skin",))
    decoded.decode()

    def read(file: BuiltInFile, name: str) -> None:
        raise AssertionError(f"{name} is read after all")

    monkeypatch.setattr(BuiltInFile, "_read", read)
    np.testing.assert_array_equal(decoded.vertices(z), expected)
    np.testing.assert_array_equal(decoded.landmark_vertices, landmarks)
    assert decoded.rows(decoded.landmarks) is not None


def test_a_head_needs_numpy_and_scipy_alone_and_never_decodes_the_colours() -> None:
    code = (
        "import sys; from geometry.built_in import load_built_in; model = load_built_in(); "
        "model.vertices(model.neutral()); model.fingerprint; "
        "print([name for name in ('torch', 'numba', 'cv2', 'PIL', 'h5py', 'scipy.io') if name in sys.modules]); "
        "print(sorted(set(model.file.__dict__) & {'albedo_modes', 'albedo_mean', 'unit_modes', 'triangles', 'uv'}))"
    )
    root = BUILT_IN_PATH.parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


# ---------------------------------------------------------------------------------------------- identity of the model


def test_fingerprints_are_frozen_differ_by_parts_and_need_no_modes() -> None:
    file = BuiltInFile()
    assert BuiltInModel(file, ("skin",)).fingerprint == "3180d11bd71c80a1a8f3674d06606592"
    fingerprints = {load_built_in(parts).fingerprint for parts in (*WITH_ATLAS, "all")}
    assert len(fingerprints) == 5
    assert set(file.__dict__) == {"path", "meta"}


def test_the_order_in_which_parts_are_named_does_not_matter() -> None:
    assert load_built_in(("tongue", "skin", "teeth_u")) is load_built_in(["skin", "teeth_u", "tongue"])
    assert load_built_in("skin") is load_built_in()
    assert load_built_in("all").parts == PARTS


@pytest.mark.parametrize("parts", ["hair", ("skin", "lashes"), ("skin", "skins")])
def test_an_unknown_part_is_named(parts: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"has no part '(hair|lashes|skins)'; it has skin, eye_cavity"):
        load_built_in(parts)


def test_parts_without_the_skin_are_refused_since_it_carries_the_landmarks() -> None:
    with pytest.raises(ValueError, match="lack 'skin', which carries the 68 landmarks"):
        load_built_in(("tongue", "teeth_l"))


def test_a_model_travels_to_another_process_as_its_name_alone(skin: BuiltInModel) -> None:
    skin.vertices(skin.neutral())
    pickled = pickle.dumps(skin)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).fingerprint == skin.fingerprint  # noqa: S301 (written the line above)


# ---------------------------------------------------------------------------------------------- shapes


def test_sizes_are_those_of_a_basel_face_model(skin: BuiltInModel, whole: BuiltInModel) -> None:
    assert (skin.n_vertices, skin.n_identity, skin.n_expression) == (53_099, 199, 29)
    assert (whole.n_vertices, len(whole.triangles), len(skin.triangles)) == (71_134, 141_400, 105_592)
    assert component_count(skin.triangles, skin.n_vertices) == 1
    extent = np.ptp(skin.mean_shape, axis=0)  # mm
    assert signed_volume(skin.mean_shape, skin.triangles) > 1e6  # mm³, counter-clockwise from outside
    assert ((extent > 100) & (extent < 300)).all()


def test_the_cage_and_the_dense_basis_give_the_same_faces(skin: BuiltInModel, dense: DenseModel) -> None:
    faces = people(skin, 3)
    np.testing.assert_allclose(skin.vertices(faces), dense.vertices(faces), atol=2e-4)
    for name in ("triangles", "landmark_vertices", "regions", "closing_triangles", "mirror", "uv", "identity_stddevs"):
        np.testing.assert_array_equal(getattr(dense, name), getattr(skin, name))


def test_a_batch_is_its_faces_one_by_one_whatever_its_size(skin: BuiltInModel) -> None:
    faces = people(skin, 11)  # more than one block of the sparse product, and a remainder
    batch = skin.vertices(faces)
    assert batch.dtype == np.float32
    for index in (0, 7, 8, 10):
        np.testing.assert_allclose(batch[index], skin.vertices(one(faces, index)), atol=1e-4)
    assert skin.vertices(Coefficients(faces.identity[:0], faces.expression[:0])).shape == (0, skin.n_vertices, 3)
    nested = Coefficients(faces.identity[:4].reshape(2, 2, -1), faces.expression[:4].reshape(2, 2, -1))
    np.testing.assert_array_equal(
        skin.vertices(nested).reshape(4, -1, 3), skin.vertices(Coefficients(faces.identity[:4], faces.expression[:4]))
    )


def test_no_coefficients_give_the_mean(skin: BuiltInModel) -> None:
    np.testing.assert_array_equal(skin.vertices(skin.neutral()), skin.mean_shape)


def test_rows_at_vertices_are_the_vertices(whole: BuiltInModel) -> None:
    faces = people(whole, 2)
    of_each_part = [np.flatnonzero(whole.part == part)[3] for part in range(len(PARTS))]
    chosen = np.array([0, 17, *whole.landmark_vertices[:5], *of_each_part, whole.n_vertices - 1])
    rows = whole.rows(SurfacePoints.at_vertices(chosen))
    assert rows.identity.dtype == np.float64
    np.testing.assert_allclose(rows.positions(faces), whole.vertices(faces)[:, chosen], atol=1e-4)


def test_rows_inside_triangles_are_the_weighted_corners(skin: BuiltInModel, dense: DenseModel) -> None:
    rng = np.random.default_rng(4)
    points = SurfacePoints(
        skin.triangles[rng.integers(len(skin.triangles), size=50)], rng.dirichlet([1, 2, 3], size=50)
    )
    face = one(people(skin, 1), 0)
    corners = skin.vertices(face).astype(np.float64)[points.corners]
    np.testing.assert_allclose(
        skin.rows(points).positions(face), np.einsum("pcx,pc->px", corners, points.weights), atol=1e-4
    )
    dense_rows = dense.rows(points)
    np.testing.assert_allclose(skin.rows(points).identity, dense_rows.identity, rtol=0, atol=1e-11)
    np.testing.assert_allclose(skin.rows(points).expression, dense_rows.expression, rtol=0, atol=1e-11)


def test_basis_columns_are_unit_vectors_in_micrometres_over_the_whole_template(
    whole: BuiltInModel, dense: DenseModel
) -> None:
    for stddevs, attribute in ((whole.identity_stddevs, "identity"), (whole.expression_stddevs, "expression")):
        modes = [0, 1, len(stddevs) // 2, len(stddevs) - 1]
        coefficients = {"identity": np.zeros((4, 199)), "expression": np.zeros((4, 29))}
        coefficients[attribute][np.arange(4), modes] = stddevs[modes]
        moved = whole.vertices(Coefficients(**coefficients)).astype(np.float64) - whole.mean_shape
        length_um = 1000 * np.linalg.norm(moved.reshape(4, -1), axis=1)
        np.testing.assert_allclose(length_um, stddevs[modes], rtol=2e-3)
    assert (1000 * np.linalg.norm(dense.identity_basis.astype(np.float64), axis=1) < 1).all()  # the skin alone


def test_standard_deviations_have_the_size_of_a_300w_lp_files(skin: BuiltInModel) -> None:
    assert skin.identity_stddevs[0] == pytest.approx(921_346.83, rel=1e-6)
    assert skin.expression_stddevs[0] == pytest.approx(508_280.44, rel=1e-6)
    assert (np.diff(skin.identity_stddevs) <= 0).all()
    assert (np.diff(skin.expression_stddevs) <= 0).all()
    drawn = np.stack([skin.draw_identity(np.random.default_rng(seed)) for seed in range(40)])
    in_stddevs = Coefficients(drawn, np.zeros((40, 29))).in_stddevs(skin).identity
    assert in_stddevs.std() == pytest.approx(0.85, rel=0.03)


def test_coefficients_of_another_model_are_refused(skin: BuiltInModel) -> None:
    with pytest.raises(ValueError, match="80 identity and 64 expression coefficients do not fit built-in"):
        skin.vertices(Coefficients(np.zeros(80), np.zeros(64)))


# ---------------------------------------------------------------------------------------------- parts and tables


@pytest.mark.parametrize("parts", [*WITH_ATLAS, ("skin", "teeth_l", "tongue"), ("skin", "eyeball_l")])
def test_every_selection_of_parts_is_cut_from_the_same_head(whole: BuiltInModel, parts: tuple[str, ...]) -> None:
    model = load_built_in(parts)
    chosen = model.template_vertices
    face = one(people(whole, 1), 0)
    np.testing.assert_allclose(model.vertices(face), whole.vertices(face)[chosen], atol=1e-5)
    np.testing.assert_array_equal(model.regions, whole.regions[chosen])
    np.testing.assert_array_equal(chosen[model.landmark_vertices], whole.landmark_vertices)
    assert set(model.part) == {PARTS.index(name) for name in parts}
    assert {tuple(t) for t in chosen[model.triangles]} <= {tuple(t) for t in whole.triangles}
    assert len(np.unique(model.triangles)) == model.n_vertices


@pytest.mark.parametrize("parts", [*WITH_ATLAS, PARTS])
def test_the_mirror_is_an_involution_and_renames_the_landmarks(parts: tuple[str, ...]) -> None:
    model = load_built_in(parts)
    np.testing.assert_array_equal(model.mirror[model.mirror], np.arange(model.n_vertices))
    np.testing.assert_array_equal(model.mirror[model.landmark_vertices], model.landmark_vertices[lm.MIRROR])
    mean = model.mean_shape
    # the mean face itself is not quite symmetric
    np.testing.assert_allclose(mean[model.mirror] * [-1, 1, 1], mean, atol=0.2)


def test_one_eyeball_alone_has_no_mirror() -> None:
    model = load_built_in(("skin", "eyeball_l"))
    assert model.mirror is None
    with pytest.raises(ValueError, match="one eyeball without the other"):
        model.mirror_vertices(model.mean_shape)


def test_landmarks_lie_where_their_names_say(skin: BuiltInModel) -> None:
    points = skin.mean_shape[skin.landmark_vertices]
    assert len(set(skin.landmark_vertices)) == 68
    assert points[:, 2].argmax() in (30, 33)  # the tip of the nose is foremost
    assert points[:, 1].argmin() == 8  # the chin is lowest
    assert (points[lm.RIGHT_EYE, 0] < 0).all()  # the subject's right is on the viewer's left
    assert (points[lm.LEFT_EYE, 0] > 0).all()
    names = np.array(REGION_NAMES)[skin.regions[skin.landmark_vertices]]
    assert set(names[lm.RIGHT_EYE]) == set(names[lm.LEFT_EYE]) == {"eyes"}
    assert set(names[lm.OUTER_LIPS]) | set(names[lm.INNER_LIPS]) == {"mouth"}
    assert set(names[lm.NOSE_RIDGE]) <= {"nose", "eyes"}


# ---------------------------------------------------------------------------------------------- the atlas


@pytest.mark.parametrize("parts", WITH_ATLAS)
def test_the_atlas_has_no_fold_and_no_inner_hole(parts: tuple[str, ...]) -> None:
    model = load_built_in(parts)
    triangles = np.concatenate([model.triangles, model.closing_triangles])
    atlas = UVAtlas(model.uv, triangles)
    assert (atlas.signed_areas > 1e-8).all()
    assert [len(loop) for loop in boundary_loops(triangles)] == [234]
    assert atlas.signed_areas.sum() == pytest.approx(0.92674, abs=1e-4)  # the rounded square


def test_the_atlas_shows_the_face_from_the_front(skin: BuiltInModel) -> None:
    u, v = skin.uv[skin.landmark_vertices].T
    assert (u[lm.LEFT_EYE] > 0.5).all()  # the subject's left is on the viewer's right
    assert (u[lm.RIGHT_EYE] < 0.5).all()
    assert v[8] < v[57] < v[33] < v[27] < v[24]  # chin, lower lip, base and root of the nose, brow
    front = (skin.regions != REGION_NAMES.index("neck")) & (np.abs(skin.mean_shape[:, 0]) > 20)
    assert (np.sign(skin.mean_shape[front, 0]) == np.sign(skin.uv[front, 0] - 0.5)).mean() > 0.999


def test_parts_without_an_atlas_have_none(whole: BuiltInModel) -> None:
    assert whole.uv is None
    assert whole.closing_triangles.shape == (0, 3)


# ---------------------------------------------------------------------------------------------- expressions


def test_drawn_people_never_change(skin: BuiltInModel) -> None:
    rng = np.random.default_rng(2026)
    identity, expression = skin.draw_identity(rng), skin.draw_expression(rng)
    np.testing.assert_allclose(
        identity[[0, 1, 198]], [-621129.7451468819, 102093.39007476834, 887.8864288183183], rtol=1e-9
    )
    np.testing.assert_allclose(
        expression[[0, 1, 28]], [92573.3392972974, -10155.04990565033, 3898.1374423818547], rtol=1e-5
    )
    nose = skin.vertices(Coefficients(identity, expression))[skin.landmark_vertices[30]]
    np.testing.assert_allclose(nose, [-0.14409, -13.74563, 69.44450], atol=1e-3)


def test_drawn_units_lie_between_rest_and_full_activation(skin: BuiltInModel) -> None:
    drawn = np.stack([skin.draw_units(np.random.default_rng(seed)) for seed in range(300)])
    assert drawn.shape == (300, 52)
    assert drawn.min() == 0
    assert 0.9 < drawn.max() <= 1
    assert not drawn[:, skin.unit_names.index("tongueOut")].any()


def test_a_unit_named_without_a_side_sets_both(skin: BuiltInModel) -> None:
    weights = skin.unit_weights({"mouthSmile": 0.8, "jawOpen": 0.2, "eyeBlinkLeft": 1.0})
    active = {name: weight for name, weight in zip(skin.unit_names, weights, strict=True) if weight}
    assert active == {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "jawOpen": 0.2, "eyeBlinkLeft": 1.0}
    with pytest.raises(ValueError, match="no face unit is called 'grin'; there are browDownLeft"):
        skin.unit_weights({"grin": 1.0})


def test_expressions_are_the_nearest_to_their_face_units(whole: BuiltInModel) -> None:
    """The residue of the stored projection is orthogonal to every expression mode, over the whole template."""
    file = whole.file
    units = file.unit_modes.transpose(0, 2, 1).reshape(52, -1) * np.float32(file.meta["unit_step"])
    on_surface = whole._subdivide(units).reshape(52, -1).astype(np.float64)
    modes = whole._subdivide(whole._expression_modes).reshape(29, -1).astype(np.float64)
    in_stddevs = whole.expression_from_units(np.eye(52)) / whole.expression_stddevs
    residue = on_surface - in_stddevs @ modes
    cosine = (residue @ modes.T) / np.linalg.norm(on_surface, axis=1)[:, None] / np.linalg.norm(modes, axis=1)
    assert np.abs(cosine).max() < 1e-4


def test_an_open_jaw_opens_the_mouth_and_a_blink_closes_the_eye(skin: BuiltInModel) -> None:
    def gap(units: dict[str, float], upper: int, lower: int) -> float:
        expression = skin.expression_from_units(skin.unit_weights(units))
        points = skin.rows(skin.landmarks).positions(Coefficients(np.zeros(199), expression))
        return float(points[upper, 1] - points[lower, 1])

    assert gap({"jawOpen": 0.8}, 62, 66) > gap({}, 62, 66) + 10
    assert gap({"eyeBlinkRight": 1.0}, 37, 41) < 0.5 * gap({}, 37, 41)
    assert gap({"eyeBlinkRight": 1.0}, 44, 46) > 0.8 * gap({}, 44, 46)


# ---------------------------------------------------------------------------------------------- left and right


def test_mirrored_coefficients_give_the_mirrored_face(whole: BuiltInModel) -> None:
    faces = people(whole, 8, seed=3)
    truth = whole.mirror_vertices(whole.vertices(faces))
    distance = np.linalg.norm(whole.vertices(whole.mirror_coefficients(faces)) - truth, axis=-1)
    assert np.sqrt((distance[:, whole.part == 0] ** 2).mean()) < 0.09  # mm; without mirroring it is 2
    assert np.sqrt((distance**2).mean()) < 0.09
    assert distance.max() < 1.5


def test_mirrored_coefficients_do_not_depend_on_the_parts(skin: BuiltInModel, whole: BuiltInModel) -> None:
    faces = people(skin, 2)
    np.testing.assert_array_equal(skin.mirror_coefficients(faces).identity, whole.mirror_coefficients(faces).identity)


def test_mirroring_swaps_one_sided_expressions(skin: BuiltInModel) -> None:
    def expression(units: dict[str, float]) -> np.ndarray:
        return skin.expression_from_units(skin.unit_weights(units))

    left, right = (expression({f"browOuterUp{side}": 1.0, f"noseSneer{side}": 0.7}) for side in ("Left", "Right"))
    mirrored = skin.mirror_coefficients(Coefficients(np.zeros(199), left)).expression
    assert np.linalg.norm(mirrored - right) < 0.15 * np.linalg.norm(
        left - right
    )  # 29 modes hold one-sided units roughly


def test_mirroring_twice_gives_the_face_back(skin: BuiltInModel) -> None:
    faces = people(skin, 4, seed=9)
    twice = skin.mirror_coefficients(skin.mirror_coefficients(faces))
    distance = np.linalg.norm(skin.vertices(twice) - skin.vertices(faces), axis=-1)
    assert np.sqrt((distance**2).mean()) < 0.12
    np.testing.assert_array_equal(skin.mirror_vertices(skin.mirror_vertices(skin.mean_shape)), skin.mean_shape)

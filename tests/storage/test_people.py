"""A folder of rendered people: redrawn alone, gone on with, honest about its cameras, read by the main job's reader."""

import json
import os

import numpy as np
import pytest
import scipy.io

from geometry.built_in import load_built_in
from geometry.camera import PerspectiveCamera, ScaledOrthographicCamera
from render.people_config import HAIR_STYLES, PRESETS, PeopleConfig
from render.sensor import Sensor
from render.shading import PhongLight
from render.spreads import Uniform
from storage.annotations import read_annotation
from storage.bad_sample import BadSample
from storage.jpeg import decode_jpeg, encode_jpeg
from storage.landmark_files import read_landmarks
from storage.people import PeoplePlan, draw_family, draw_person, draw_picture, draw_shot, truth_of
from storage.people_folder import write_people_folder
from storage.people_truth import SUFFIX, read_truth
from storage.sources import open_source

SIDE = 128


def plan_of(preset="people", **changes):
    config = PRESETS[preset]().model_copy(update={"side_px": SIDE, **changes.pop("config", {})})
    values = {"seed": 3, "n_people": 2, "n_expressions": 2, "n_views": 2, "validation_share": 0.1, **changes}
    return PeoplePlan(config, **values)


PLAN = plan_of()
PERSPECTIVE = plan_of("people-perspective", n_people=1, n_expressions=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("people")
    write_people_folder(path, PLAN)
    return path


@pytest.fixture(scope="module")
def lens_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lens")
    write_people_folder(path, PERSPECTIVE)
    return path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stems(folder):
    return sorted(path.with_name(path.name.removesuffix(".jpg")) for path in folder.rglob("*.jpg"))


# ------------------------------------------------------------------------------------------------ what lies there


def test_every_picture_has_its_truth_and_annotation(folder):
    assert len(stems(folder)) == PLAN.pictures == 8
    for stem in stems(folder):
        assert stem.with_name(stem.name + SUFFIX).is_file()
        assert stem.with_name(stem.name + ".mat").is_file()
        picture = decode_jpeg(stem.with_name(stem.name + ".jpg").read_bytes())
        assert picture.shape == (SIDE, SIDE, 3)


def test_the_main_jobs_reader_lists_it_whole(folder):
    source = open_source(folder)
    assert len(source.items) == 8
    assert source.rejected == ()
    source.check_model(load_built_in())
    families = {item.family for item in source.items}
    assert len(families) == 4  # a person with an expression
    assert {item.k for item in source.items} == {0, 1}


def test_files_say_where_every_vertex_is(folder):
    model = load_built_in()
    for stem in stems(folder)[:3]:
        truth = read_truth(stem.with_name(stem.name + SUFFIX))
        read = read_annotation(stem.with_name(stem.name + ".mat"), image_height=SIDE)
        expected = truth.project(model)
        found = read.camera.project(model.vertices(read.coefficients))
        assert np.abs(found - expected).max() < 0.02  # Pose_Para is in single precision


def test_stored_landmarks_are_right_in_every_view(folder):
    """Unlike 300W-LP's, whose turned files repeat the first one's."""
    model = load_built_in()
    for stem in stems(folder):
        stored = scipy.io.loadmat(stem.with_name(stem.name + ".mat"))["pt2d"].T - 1
        truth = read_truth(stem.with_name(stem.name + SUFFIX))
        expected = truth.project(model)[model.landmark_vertices][:, :2]
        np.testing.assert_allclose(stored, expected, atol=1e-3)
        np.testing.assert_allclose(np.array(truth.landmarks_px)[:, :2], expected, atol=1e-3)


def test_a_family_shares_its_coefficients_and_a_person_their_identity(folder):
    by_number = {}
    for stem in stems(folder):
        truth = read_truth(stem.with_name(stem.name + SUFFIX))
        by_number[truth.person, truth.expression_number, truth.view] = truth
    for person in (0, 1):
        assert by_number[person, 0, 0].identity == by_number[person, 1, 1].identity
        for expression in (0, 1):
            first, second = (by_number[person, expression, view] for view in (0, 1))
            assert first.expression == second.expression
            assert (first.hair, first.glasses) == (second.hair, second.glasses)
            assert first.camera != second.camera
        assert by_number[person, 0, 0].expression != by_number[person, 1, 0].expression
    assert by_number[0, 0, 0].identity != by_number[1, 0, 0].identity


def test_light_is_in_the_annotation_only_where_the_format_has_it(tmp_path):
    for share, keys in ((0.0, {"Illum_Para", "Color_Para"}), (1.0, set())):
        plan = plan_of(n_people=1, n_expressions=1, n_views=1, config={"harmonic_share": share})
        write_people_folder(tmp_path / str(share), plan)
        (path,) = (tmp_path / str(share)).rglob("*.mat")
        assert {"Illum_Para", "Color_Para"} & set(scipy.io.loadmat(path)) == keys
        truth = read_truth(path.with_suffix(SUFFIX))
        assert truth.light.kind == ("harmonics" if share else "phong")
        if keys:
            light = PhongLight.from_illum_para(np.array(truth.light.illumination))
            np.testing.assert_allclose(scipy.io.loadmat(path)["Illum_Para"][0], light.illum_para)


# ------------------------------------------------------------------------------------------------ lenses


def test_pictures_through_a_lens_have_no_annotation_that_would_be_wrong(lens_folder):
    assert not list(lens_folder.rglob("*.mat"))
    with pytest.raises(ValueError, match="holds no picture .* with an annotation"):
        open_source(lens_folder)


def test_the_lens_truth_is_the_perspective_projection_and_far_from_an_orthographic_one(lens_folder):
    model = load_built_in()
    for stem in stems(lens_folder):
        truth = read_truth(stem.with_name(stem.name + SUFFIX))
        camera = truth.camera.camera
        assert isinstance(camera, PerspectiveCamera)
        landmarks = model.vertices(truth.coefficients)[model.landmark_vertices].astype(np.float64)
        np.testing.assert_allclose(np.array(truth.landmarks_px), camera.project(landmarks), atol=1e-3)
        points = read_landmarks(stem.with_name(stem.name + ".pts"))
        np.testing.assert_allclose(points, np.array(truth.landmarks_px)[:, :2], atol=1e-5)
        near = camera.scaled_orthographic(landmarks.mean(axis=0)).project(landmarks)
        off = np.linalg.norm((near - camera.project(landmarks))[:, :2], axis=1).max() / SIDE
        assert off > 0.002  # who wrote the nearest orthographic camera would be wrong by this share of the side


def test_a_lens_places_the_face_where_and_as_large_as_asked():
    plan = plan_of("people-perspective", n_people=1, n_expressions=1, n_views=12)
    family = draw_family(plan, 0, 0)
    for view in range(plan.n_views):
        shot = draw_shot(plan, family, view)
        points = shot.camera.project(family.landmarks.astype(np.float64))
        low, high = points[:, :2].min(axis=0) / SIDE, points[:, :2].max(axis=0) / SIDE
        assert 0.415 < (high - low).max() < 0.605
        assert np.abs((low + high) / 2 - (0.5, 0.55)).max() < 0.055
        assert 349 < -shot.camera.translation_mm[2] < 1501


@pytest.mark.parametrize("pitch", [-60, 60])
def test_the_nearest_lens_sees_the_steepest_head_whole(pitch):
    """No shoulder may come to lie behind the lens."""
    steep = Uniform(low=np.radians(pitch), high=np.radians(pitch))
    near = {"pitch": steep, "distance_mm": Uniform(low=350, high=350)}
    plan = plan_of("people-perspective", n_people=1, n_expressions=1, config=near)
    PeopleConfig.model_validate(plan.config.model_dump())
    family = draw_family(plan, 0, 0)
    for view in range(2):
        assert draw_picture(plan, family, view, draw_shot(plan, family, view)).std() > 5


def test_an_orthographic_camera_places_the_face_where_and_as_large_as_asked():
    plan = plan_of("people-large-pose", n_people=1, n_expressions=1, n_views=12)
    family = draw_family(plan, 0, 0)
    for view in range(plan.n_views):
        camera = draw_shot(plan, family, view).camera
        assert isinstance(camera, ScaledOrthographicCamera)
        points = camera.project(family.landmarks.astype(np.float64))[:, :2] / SIDE
        assert 0.415 < np.ptp(points, axis=0).max() < 0.605
        assert np.abs((points.min(axis=0) + points.max(axis=0)) / 2 - (0.5, 0.55)).max() < 0.055
        assert camera.translation_px[2] < 0


# ------------------------------------------------------------------------------------------------ drawing again


def test_any_picture_can_be_drawn_alone(folder):
    draw_person.cache_clear()
    family = draw_family(PLAN, 1, 1)
    shot = draw_shot(PLAN, family, 1)
    stem = folder / PLAN.split(1) / PLAN.stem(1, 1, 1)
    picture = draw_picture(PLAN, family, 1, shot)
    assert encode_jpeg(picture, shot.quality) == stem.with_name(stem.name + ".jpg").read_bytes()
    assert truth_of(PLAN, family, 1, shot) == read_truth(stem.with_name(stem.name + SUFFIX))


def test_the_same_plan_gives_the_same_bytes_with_any_number_of_workers(folder, tmp_path):
    heard = []
    write_people_folder(tmp_path, PLAN, workers=2, progress=lambda done, total: heard.append((done, total)))
    assert contents(tmp_path) == contents(folder)
    assert heard == [(1, 2), (2, 2)]


def test_another_seed_gives_other_people():
    one, other = (draw_person(plan_of(seed=seed), 0) for seed in (3, 4))
    assert np.abs(one.identity - other.identity).max() > 0
    assert np.abs(one.paint.albedo - other.paint.albedo).max() > 0


def test_more_views_and_people_leave_the_first_ones_as_they_are(folder):
    larger = plan_of(n_people=5, n_views=3)
    family = draw_family(larger, 0, 0)
    shot = draw_shot(larger, family, 1)
    stem = folder / larger.split(0) / larger.stem(0, 0, 1)
    again = encode_jpeg(draw_picture(larger, family, 1, shot), shot.quality)
    assert again == stem.with_name(stem.name + ".jpg").read_bytes()


def test_a_finished_folder_is_left_alone(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_people_folder(folder, PLAN)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_is_missing_is_written_and_nothing_else(folder, tmp_path):
    for path, content in contents(folder).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    os.rename(tmp_path / "people.json", tmp_path / "people.unfinished.json")
    part = PLAN.split(0)
    (tmp_path / part / f"{PLAN.stem(0, 1, 0)}.jpg").unlink()
    (tmp_path / part / f"{PLAN.stem(0, 0, 0)}.jpg.77.partial").write_bytes(b"half a pict")
    kept = tmp_path / part / f"{PLAN.stem(0, 1, 1)}.jpg"
    before = kept.stat().st_mtime_ns
    write_people_folder(tmp_path, PLAN)
    assert contents(tmp_path) == contents(folder)
    assert kept.stat().st_mtime_ns == before


def test_another_plan_is_never_mixed_in(folder):
    with pytest.raises(ValueError, match=r"describes another people.*choose another folder"):
        write_people_folder(folder, plan_of(n_people=3))


def test_a_folder_with_other_things_in_it_is_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty and no people set .thesis.tex lies in it"):
        write_people_folder(tmp_path, PLAN)
    assert contents(tmp_path).keys() == {(tmp_path / "thesis.tex").relative_to(tmp_path)}


# ------------------------------------------------------------------------------------------------ who is in which part


def test_people_are_split_whole_and_on_record(folder):
    parts = json.loads((folder / "split.json").read_text())
    assert sorted(parts["train"] + parts["validation"]) == [0, 1]
    for stem in stems(folder):
        truth = read_truth(stem.with_name(stem.name + SUFFIX))
        assert truth.split == stem.parent.name == PLAN.split(truth.person)
        assert truth.person in parts[truth.split]


def test_the_split_has_the_share_that_was_asked_for_and_grows_with_it():
    plans = [plan_of(validation_share=share) for share in (0.0, 0.2, 0.5)]
    kept = [{person for person in range(400) if plan.split(person) == "validation"} for plan in plans]
    assert kept[0] == set()
    assert 0.13 < len(kept[1]) / 400 < 0.27
    assert kept[1] < kept[2]


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_people": 0}, "0 people × 2 expressions × 2 views: each must be at least 1"),
        ({"n_views": 101}, "views and expressions number 0 to 99; draw more people"),
        ({"n_expressions": 101}, "views and expressions number 0 to 99"),
        ({"validation_share": 1.0}, "a validation share of 1 leaves no one to train on"),
    ],
)
def test_impossible_plans_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_of(**changes)


def test_truth_of_another_model_is_refused(folder):
    truth = read_truth(next(folder.rglob(f"*{SUFFIX}")))
    with pytest.raises(ValueError, match="was drawn from model built-in .* its coefficients mean nothing there"):
        truth.project(load_built_in(("skin", "mouth_cavity")))


@pytest.mark.parametrize("content", [b"{}", b"[1", b'{"format": "facefoundry fit"}'])
def test_damaged_truth_is_a_bad_sample(tmp_path, content):
    path = tmp_path / f"x{SUFFIX}"
    path.write_bytes(content)
    with pytest.raises(BadSample, match="is no truth of a rendered picture"):
        read_truth(path)


# ------------------------------------------------------------------------------------------------ distributions


def test_every_style_and_every_light_is_drawn():
    plan = plan_of(n_people=60, config={"glasses_share": 0.5, "sunglasses_share": 0.5})
    rngs = [plan.rng(102, person) for person in range(60)]
    styles = {plan.config.hair.draw(rng) for rng in rngs}
    assert styles == set(HAIR_STYLES)
    family = draw_family(plan, 0, 0)
    kinds = {type(draw_shot(plan, family, view).light).__name__ for view in range(40)}
    assert kinds == {"PhongLight", "HarmonicLight"}


def test_shots_stay_within_the_configuration():
    plan = plan_of("people-frontal", n_people=1, n_views=40)
    family, config = draw_family(plan, 0, 0), PeopleConfig.model_validate(plan.config)
    for view in range(40):
        shot = draw_shot(plan, family, view)
        yaw = np.degrees(-np.arcsin(shot.camera.rotation[0, 2]))
        assert abs(yaw) < 35
        assert config.blur_px.limits[0] <= shot.sensor.blur_px <= config.blur_px.limits[1]
        assert 70 <= shot.quality <= 95
        assert config.read_noise.limits[0] <= shot.sensor.read <= config.read_noise.limits[1]


def test_noise_grows_with_the_light():
    sensor = Sensor(blur_px=0.3, shot=0.05, read=0.0, grey=False)
    half = np.full((200, 200, 3), 0.05, np.float32)
    half[:, 100:] = 0.6
    noisy = sensor.develop(half, np.random.default_rng(0)).astype(float)
    assert noisy[:, 110:].std() > 2.5 * noisy[:, :90].std()
    grey = Sensor(0.3, 0.05, 0.01, True).develop(half * np.array([1, 0.5, 0.2], np.float32), np.random.default_rng(0))
    assert np.ptp(grey.astype(int), axis=-1).max() == 0

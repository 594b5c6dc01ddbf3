"""Fit files: what is written comes back bit for bit, and what is no fit is a sentence."""

import json

import numpy as np
import pytest

from geometry import load_model
from storage.fit_files import FitFile, read_fit_file, write_fit_file
from storage.manifest import ModelInfo


def some_fit(**changes: object) -> FitFile:
    rng = np.random.default_rng(8)
    given = rng.uniform(0, 450, (68, 2)).tolist()
    given[5] = None
    residuals = rng.uniform(0, 3, 68).tolist()
    residuals[5] = None
    content = {
        "source_id": "übung",
        "picture": "übung_0.jpg",
        "picture_size_hw": (450, 450),
        "picture_from_photograph": [[1.7, 0.0, -3.25], [0.0, 1.7, 0.1], [0.0, 0.0, 1.0]],
        "photograph_size_hw": (1080, 720),
        "model": ModelInfo(name="nobody", fingerprint="1" * 32),
        "identity": rng.normal(0, 5e5, 199).tolist(),
        "expression": rng.normal(size=29).tolist(),
        "scale_px_per_mm": 1 / 3,
        "rotation": np.linalg.qr(rng.normal(size=(3, 3)))[0].tolist(),
        "translation_px": rng.normal(size=3).tolist(),
        "scheme": "ibug-68",
        "landmark_origin": "pts",
        "landmarks_px": given,
        "fitted_px": rng.uniform(0, 450, (68, 2)).tolist(),
        "residual_px": residuals,
        "model_landmarks_px": rng.uniform(0, 450, (68, 3)).tolist(),
        "result": "converged",
        "pose_stddev_rad": (0.01, 0.02, 0.03),
        "surface_stddev_mm": 4.0,
    }
    return FitFile.model_validate({**content, **changes})


def test_a_fit_comes_back_bit_for_bit_and_the_same_fit_gives_the_same_bytes(tmp_path):
    fit = some_fit()
    write_fit_file(tmp_path / "a.fit.json", fit)
    write_fit_file(tmp_path / "b.fit.json", some_fit())
    assert read_fit_file(tmp_path / "a.fit.json") == fit
    assert (tmp_path / "a.fit.json").read_bytes() == (tmp_path / "b.fit.json").read_bytes()
    assert json.loads((tmp_path / "a.fit.json").read_text())["identity"] == list(fit.identity)


def test_missing_landmarks_are_null_in_the_file_and_nan_here():
    fit = some_fit()
    assert np.flatnonzero(np.isnan(fit.given_px).any(axis=1)).tolist() == [5]
    assert np.isnan(fit.residuals[5])
    assert fit.mean_residual_px == pytest.approx(np.nanmean(fit.residuals))
    np.testing.assert_allclose(fit.similarity.apply(np.zeros((1, 2))), [[-3.25, 0.1]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "a cake"}, "format"),
        ({"format_version": 2}, "format_version"),
        ({"surprise": 1}, "surprise"),
        ({"picture": "../x.jpg"}, "no plain file name"),
        ({"picture": "/etc/x.jpg"}, "no plain file name"),
        ({"picture": ""}, "no plain file name"),
        ({"residual_px": [1.0] * 67}, "68 landmarks have 68 fitted points and 67 residuals"),
        ({"residual_px": [None] * 68}, "no landmarks at all"),
        ({"model_landmarks_px": [[0, 0, 0]] * 67}, "67 landmarks of the model"),
        ({"identity": [float("nan")]}, "identity"),
        ({"landmark_origin": "guess"}, "landmark_origin"),
    ],
)
def test_what_is_no_fit_is_one_sentence(tmp_path, change, says):
    path = tmp_path / "x.fit.json"
    path.write_text(json.dumps({**json.loads(some_fit().model_dump_json()), **change}))
    with pytest.raises(ValueError, match="is no fit file of format 1") as raised:
        read_fit_file(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "x.fit.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.fit\.json"):
        read_fit_file(tmp_path / "x.fit.json")


def test_coefficients_of_another_model_are_refused():
    with pytest.raises(ValueError, match="it would come out as another face"):
        some_fit().check_model(load_model("built-in"))

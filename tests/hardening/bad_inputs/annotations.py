"""Annotation files: `.mat` that are none, lie about their sizes, or hold another model's numbers."""

import struct
import zlib
from collections.abc import Callable

import numpy as np

from tests.hardening.bad_inputs.lab import BAD_STEM, Lab
from tests.hardening.bad_inputs.mat_bytes import matrix, nested_cells, saved, zeros_bomb
from tests.hardening.bad_inputs.rows import (
    ROT,
    SET_ASIDE,
    other,
    quarantined,
    read_right,
    rots_after_the_plan,
    the_same_picture,
)
from tests.hardening.fuzz_targets import big_endian_mat


def plain_mat(lab: Lab, **changes: object) -> bytes:
    """The good annotation, uncompressed, with other or (None) fewer variables."""
    variables = {name: value for name, value in {**lab.good.variables, **changes}.items() if value is not None}
    return saved(variables)


@quarantined(1, "`.mat` cut in half", "bytes", bad="mat.truncated")
def _(lab: Lab) -> None:
    lab.put(mat=lab.good.mat[: len(lab.good.mat) // 2])


@quarantined(
    2, "`.mat` of 0 bytes, of a word, of zeros, of a web page", bad="file.empty", bad_1="mat.not_matlab",
    bad_2="mat.not_matlab", bad_3="mat.not_matlab",
)  # fmt: skip
def _(lab: Lab) -> None:
    contents = (b"", b"hello", bytes(1 << 20), b"<!DOCTYPE html><html><body>rate limited</body></html>" * 20)
    for number, content in enumerate(contents):
        lab.put(mat=content, stem=BAD_STEM + (f"_{number}" if number else ""))


@quarantined(3, "MATLAB 7.3 (HDF5)", "-v7", bad="mat.v73")
def _(lab: Lab) -> None:
    lab.put(mat=b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(64))


@quarantined(4, "MATLAB 4, which keeps no number types", "-v7", bad="mat.v4")
def _(lab: Lab) -> None:
    lab.put(mat=saved({name: value.astype("f8") for name, value in lab.good.variables.items()}, format="4"))


@quarantined(5, "the first variable claims 2 GB", "lacks its last", bad="mat.truncated")
def _(lab: Lab) -> None:
    plain = plain_mat(lab)
    lab.put(mat=plain[:128] + struct.pack("<II", 14, 0x7FFFFFFF) + plain[136:])


@quarantined(6, "40,000 × 40,000 numbers announced, 8 bytes there", "40000×40000", bad="mat.too_large")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + matrix("Shape_Para", (40000, 40000), bytes(8)))


@quarantined(7, "negative dimensions", "-199×1", bad="mat.shape")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + matrix("Shape_Para", (-199, 1), bytes(8)))


@quarantined(8, "cells nested 5,000 deep (SciPy's reader ends its process)", "a cell array", bad="mat.class")
def _(lab: Lab) -> None:
    packed = zlib.compress(nested_cells("Shape_Para", 5000))
    lab.put(mat=plain_mat(lab, Shape_Para=None) + struct.pack("<II", 15, len(packed)) + packed)


@quarantined(9, "numbers of type 8 (SciPy's reader ends its process)", "no number type", bad="mat.corrupt")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Exp_Para=None) + matrix("Exp_Para", (1, 1), bytes(8), kind=8))


@quarantined(
    10,
    "1 MB that inflates to 256 MB, under a name that is read and one that is not",
    bad="mat.too_large",
    bad_1="mat.missing_key",
)
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=None) + zeros_bomb("Shape_Para", 1 << 28))
    lab.put(mat=plain_mat(lab, Shape_Para=None) + zeros_bomb("x", 1 << 28), stem=BAD_STEM + "_1")


@quarantined(11, "cell or struct for `Shape_Para`", bad="mat.class", bad_1="mat.class")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Shape_Para=np.array([np.zeros(3), "x"], dtype=object)))
    lab.put(mat=plain_mat(lab, Shape_Para={"a": 1}), stem=BAD_STEM + "_1")


@quarantined(12, "complex `Exp_Para`", "imaginary", bad="mat.complex")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Exp_Para=np.zeros((29, 1)) + 1j))


@quarantined(13, "NaN or infinity in `Pose_Para`, `Shape_Para`", "nan", bad="param.nonfinite", bad_1="param.nonfinite")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab, Pose_Para=np.full((1, 7), np.nan, "f4")))
    shape = lab.good.variables["Shape_Para"].copy()
    shape[7] = np.inf
    lab.put(mat=plain_mat(lab, Shape_Para=shape), stem=BAD_STEM + "_1")


@quarantined(
    14, "arrays turned or too short: `pt2d` 68×2, `Exp_Para` 28×1, `Shape_Para` 1×199",
    bad="mat.shape", bad_1="param.count", bad_2="mat.shape",
)  # fmt: skip
def _(lab: Lab) -> None:
    good = lab.good.variables
    lab.put(mat=plain_mat(lab, pt2d=good["pt2d"].T))
    lab.put(mat=plain_mat(lab, Exp_Para=good["Exp_Para"][:28]), stem=BAD_STEM + "_1")
    lab.put(mat=plain_mat(lab, Shape_Para=good["Shape_Para"].T), stem=BAD_STEM + "_2")


@quarantined(
    15,
    "coefficients of another model: larger than a face's, or of a face elsewhere than its landmarks",
    promise=SET_ASIDE + " (beyond 15 standard deviations; landmarks off by a tenth of the face's box)",
    bad="param.range",
    AFW_7000010_1_0="landmarks.disagree",
)
def _(lab: Lab) -> None:
    good = lab.good.variables
    strange = np.zeros_like(good["Shape_Para"])
    strange[:40, 0] = 3e6 * np.random.default_rng(1).normal(size=40)
    lab.put(mat=plain_mat(lab, Shape_Para=strange))
    lab.put(mat=plain_mat(lab, pt2d=good["pt2d"] + 60), stem="AFW_7000010_1_0")


@other(16, "one bit of an uncompressed `.mat` turns while the build runs", ROT, "1")
def _(lab: Lab) -> None:
    lab.put(mat=plain_mat(lab))
    rots_after_the_plan(lab, lab.afw / f"{BAD_STEM}.mat")


@read_right(41, "`.mat` of the other byte order", "the same sample")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(mat=big_endian_mat(lab.good.variables))
    return the_same_picture


@read_right(43, "`Exp_Para` of type uint8, all zero (34 files of AFLW2000-3D)", "expression 0")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    lab.put(mat=plain_mat(lab, Exp_Para=np.zeros((29, 1), np.uint8)))

    def check(sample: dict, good: dict) -> None:
        assert not sample["expression"].any()
        np.testing.assert_array_equal(sample["identity"], good["identity"])

    return check


def _turned(lab: Lab, pose: np.ndarray) -> None:
    """The good face in another pose; its `pt2d` is left out, since it would belong to the old one."""
    lab.put(mat=plain_mat(lab, Pose_Para=pose.astype(np.float32), pt2d=None))


@read_right(44, "angles beyond 99° (31 files of AFLW2000-3D)", "the angles as they are in the file")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    pose = lab.good.variables["Pose_Para"].astype(np.float64)
    pose[0, :3] = np.radians([10, 130, -200])
    _turned(lab, pose)

    def check(sample: dict, good: dict) -> None:
        from geometry.rotation import rotation_from_euler

        np.testing.assert_allclose(
            rotation_from_euler(*sample["pose"][:3]), rotation_from_euler(*pose[0, :3]), atol=1e-6
        )
        assert np.isfinite(sample["position_map"]).all()

    return check


@read_right(45, "a negative scale (one file of AFLW2000-3D)", "the scale as it is in the file")
def _(lab: Lab) -> Callable[[dict, dict], None]:
    pose = lab.good.variables["Pose_Para"].astype(np.float64)
    pose[0, 6] *= -1
    _turned(lab, pose)

    def check(sample: dict, good: dict) -> None:
        np.testing.assert_allclose(sample["pose"][6], -good["pose"][6], rtol=1e-6)
        assert np.isfinite(sample["position_map"]).all()

    return check

"""Figures that the papers print, to stand beside ours: percents, with the table they come from.

They were measured with other training data, boxes and detectors, mostly on other subsets: beside, not against.
"""

from collections.abc import Mapping

Row = Mapping[str, float | str]

PUBLISHED: Mapping[str, Mapping[str, tuple[Row, ...]]] = {
    "AFLW2000-3D": {
        "nme_bbox 2-D": (
            {"method": "PRNet (Feng et al. 2018, table 1; 696 images)", "0-30": 2.75, "30-60": 3.51, "60-90": 4.61,
             "mean": 3.62},
            {"method": "CNN+GCN (Meng et al. 2022, table I; 915 images)", "0-30": 2.38, "30-60": 3.03, "60-90": 3.54,
             "mean": 2.98},
            {"method": "3DDFA (Zhu et al. 2016, in Feng et al., table 1)", "0-30": 3.78, "30-60": 4.54, "60-90": 7.93,
             "mean": 5.42},
        ),
        "nme_bbox 3-D, z mean taken off": (
            {"method": "CNN+GCN (Meng et al. 2022, section IV-C, loss ablation, 68 points)", "mean": 3.10},
        ),
        "reconstruction": (
            {"method": "PRNet (Feng et al. 2018, figure 8; ICP, 45 K points)", "mean": 3.9625},
        ),
    },
    "300W common": {
        "nme_interpupil": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 4.42},),
        "nme_interocular": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 3.19},),
        "nme_diagonal": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 1.35},),
    },
    "300W challenging": {
        "nme_interpupil": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 7.57},),
        "nme_interocular": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 5.24},),
        "nme_diagonal": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 2.00},),
    },
    "300W full": {
        "nme_interpupil": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 5.03},),
        "nme_interocular": (
            {"method": "DAN (Kowalski et al. 2017, tables 2, 3)", "mean": 3.59, "auc_0.08": 55.33, "failure_0.08": 1.16},
            {"method": "MDM (in Kowalski et al., tables 2, 3)", "mean": 4.05, "auc_0.08": 52.12, "failure_0.08": 4.21},
        ),
        "nme_diagonal": ({"method": "DAN (Kowalski et al. 2017, table 2)", "mean": 1.48},),
    },
    "300W private": {
        "nme_interocular": (
            {"method": "DAN (Kowalski et al. 2017, table 4)", "mean": 4.30, "auc_0.08": 47.00, "failure_0.08": 2.67},
            {"method": "DAN, one stage (table 6)", "mean": 5.02, "auc_0.08": 39.04, "failure_0.08": 6.17},
        ),
        "rms_interocular": (
            {"method": "DenseReg (Güler et al. 2017, table 2; failure at 0.1)", "auc": 36.05, "failure": 10.83},
            {"method": "DenseReg + MDM (table 2; failure at 0.1)", "auc": 52.19, "failure": 3.67},
        ),
    },
    "Menpo": {
        "nme_diagonal": (
            {"method": "DAN-Menpo (Kowalski et al. 2017, table 5; test set)", "mean": 1.38, "auc_0.03": 56.20,
             "failure_0.03": 1.74},
        ),
    },
    "3DFAW": {
        "GTE xyz": (
            {"method": "Bulat and Tzimiropoulos 2016, table 2 (test)", "mean": 4.5623},
            {"method": "the same, table 3 (validation)", "mean": 4.9408},
        ),
        "GTE xy": ({"method": "Bulat and Tzimiropoulos 2016, table 3 (validation)", "mean": 3.6263},),
        "GTE x": ({"method": "Bulat and Tzimiropoulos 2016, table 3 (validation)", "mean": 2.12},),
        "GTE y": ({"method": "Bulat and Tzimiropoulos 2016, table 3 (validation)", "mean": 2.48},),
        "GTE z": ({"method": "Bulat and Tzimiropoulos 2016, table 3 (validation)", "mean": 2.77},),
        "CVGTCE": ({"method": "Bulat and Tzimiropoulos 2016, table 2 (test)", "mean": 3.4767},),
    },
    "AFLW-LFPA": {
        "nme_bbox 2-D": (
            {"method": "PRNet (Feng et al. 2018, table 1; 34 points)", "mean": 2.93},
            {"method": "CNN+GCN (Meng et al. 2022, table I)", "mean": 2.86},
        ),
    },
    "300VW": {
        "rms_interocular": (
            {"method": "DenseReg (Güler et al. 2017, table 3)", "auc": 43.20, "failure": 8.1},
            {"method": "DenseReg + MDM (table 3)", "auc": 59.37, "failure": 4.57},
        ),
    },
    "ears": {
        "rms_box_mean_edge": (
            {"method": "DenseReg (Güler et al. 2017, table 4)", "auc": 41.50, "failure": 1.96},
            {"method": "DenseReg + MDM (table 4)", "auc": 48.42, "failure": 0.98},
        ),
    },
    "Florence": {
        "reconstruction": (
            {"method": "PRNet (Feng et al. 2018, figure 8; ICP, 19 K points)", "mean": 3.7551},
        ),
    },
    "parts": {
        "iou": (
            {"method": "DenseReg on Helen (Güler et al. 2017, table 1; mean of 8)", "mean": 71.96},
            {"method": "DeepLab-v2 on Helen (table 1)", "mean": 68.58},
        ),
    },
}  # fmt: skip

LATENCY_MS: Mapping[str, str] = {
    "prnet": "9.8 ms (GTX 1080), 160 MB (Feng et al. 2018, section 4.4)",
    "mesh_gcn": "16.0 ms (RTX 2080 Ti), 84.5 MB (Meng et al. 2022, section IV-D)",
    "dan": "22 ms one by one, 14 ms in parallel (GTX 1070; Kowalski et al. 2017, section 4: 45 and 73 pictures a second)",
    "fan3d": "not given (Bulat and Tzimiropoulos 2016); 54.7 ms for 3D-FAN in Feng et al. 2018, table 2",
    "densereg": "not given (Güler et al. 2017)",
}
"""From a cropped picture to geometry, and the model's size, as each paper says."""


def published(set_name: str, measure: str) -> tuple[Row, ...]:
    """The rows that belong beside a result; none for sets that no paper used."""
    return PUBLISHED.get(set_name, {}).get(measure, ())

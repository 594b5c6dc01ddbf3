"""The targets of DAN and 3DFAW: what is stored of a face's crop, and the pictures that readers draw from it."""

from storage.field_targets import landmark_visibility
from storage.schema import DerivedTarget, Target


def heatmap_targets() -> tuple[Target, ...]:
    """What is stored beside the landmarks."""
    return (
        landmark_visibility(None),
        Target(
            name="face_box_px",
            dtype="float32",
            sample_shape=(4,),
            unit="px",
            description="left, top, right, bottom of the 68 landmarks in the crop",
        ),
    )


def derived_heatmaps(size_hw: tuple[int, int]) -> tuple[DerivedTarget, ...]:
    """What is drawn when it is asked for by name, in the crop's own pixels."""
    return (
        DerivedTarget(
            name="dan_heatmap",
            dtype="float32",
            sample_shape=size_hw,
            description="DAN: 1 / (1 + distance to the nearest landmark) within 16 px, else 0",
            decoder="dan_heatmap",
            on_request=True,
        ),
        DerivedTarget(
            name="landmark_discs",
            dtype="bool",
            sample_shape=(*size_hw, 68),
            description="3DFAW: the pixels within a radius of each landmark, 7 px for a face 220 px high",
            decoder="landmark_discs",
            channels_first=True,
            on_request=True,
        ),
        DerivedTarget(
            name="landmark_heatmaps",
            dtype="float32",
            sample_shape=(*size_hw, 68),
            description="3DFAW: a Gaussian of σ 6 px at each landmark",
            decoder="landmark_heatmaps",
            channels_first=True,
            on_request=True,
        ),
        DerivedTarget(
            name="landmark_z",
            dtype="float32",
            sample_shape=(68,),
            unit="px",
            description="3DFAW: z of each landmark less their mean",
            decoder="landmark_z",
        ),
    )

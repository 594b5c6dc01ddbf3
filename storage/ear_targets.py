"""The targets of ear fields. What a face's field has too is stored as there (:mod:`storage.field_targets`).

A field from landmarks knows no depth, so none is stored. Beside the targets lie `landmarks_uv` f64 (55 2), `part_map` u8
(S S), and the template's surface, `atlas_uv` f64 (P 2), `atlas_triangles` i32 (T 3) and `atlas_vertices` i32 (P) into the
built-in skin's right ear.
"""

from geometry.ear import N_EAR_LANDMARKS
from render.ear_field import EAR_PARTS
from storage.codes import Utf8
from storage.field_targets import field_targets
from storage.schema import Schema, Target


def ear_field_schema(*, image_size: int, source_id_bytes: int) -> Schema:
    """Crop, field, parts, landmarks, which ear, what the spline had to give, and where it is from."""
    size_hw = (image_size, image_size)
    shared = {target.name: target for target in field_targets(size_hw, max_faces=None, n_vertices=0)}
    parts = ", ".join(f"{code} {name}" for code, name in enumerate(EAR_PARTS, 1))
    return Schema(
        targets=(
            Target(
                name="image",
                dtype="uint8",
                sample_shape=(*size_hw, 3),
                axes=("row", "column", "channel"),
                unit="sRGB",
                description="the crop of the photograph, red green blue",
                compression="lz4_bitshuffle",
                channels_first=True,
            ),
            _described(
                shared["uv"],
                "place on the template ear, in [0, 1], where label is 1; else 0. u to the nose, v upward; a left ear has "
                "the numbers of its mirror image",
            ),
            _described(shared["label"], "0: no ear; 1: ear"),
            Target(
                name="part",
                dtype="uint8",
                sample_shape=size_hw,
                axes=("row", "column"),
                description=f"0: none; {parts}",
                compression="lz4_bitshuffle",
            ),
            Target(
                name="landmarks_px",
                dtype="float32",
                sample_shape=(N_EAR_LANDMARKS, 2),
                axes=("landmark", "xy"),
                unit="px",
                description="the given landmarks in the crop; NaN: not given",
                allow_nan=True,
            ),
            Target(name="side", dtype="str", description="which ear: right or left", code=Utf8(max_bytes=8)),
            Target(
                name="smoothing",
                dtype="float32",
                description="of the spline: more than the config's where it would have folded",
            ),
            Target(
                name="residual_uv",
                dtype="float32",
                description="how far the spline leaves the landmarks from their places on the template, rms",
            ),
            Target(
                name="smallest_determinant",
                dtype="float32",
                description="of the spline's Jacobian over the affine map's: 1 no distortion, 0 a fold",
            ),
            Target(
                name="crop_from_image",
                dtype="float64",
                sample_shape=(3, 3),
                description="the similarity from pixels of the photograph to pixels of the crop",
            ),
            Target(
                name="source_id",
                dtype="str",
                description="which photograph",
                code=Utf8(max_bytes=source_id_bytes),
            ),
        )
    )


def _described(target: Target, description: str) -> Target:
    return target.model_copy(update={"description": description})

"""The targets of whole photographs with all their faces; fields and parts of them are in :mod:`storage.field_targets`."""

from storage.codes import Utf8
from storage.schema import Schema, Target


def photograph_schema(
    *, size_hw: tuple[int, int], max_faces: int, n_identity: int, n_expression: int, source_id_bytes: int
) -> Schema:
    """The photograph in the upper left of `size_hw`, and what is known of up to `max_faces` faces.

    Arrays of faces are as long in every sample; their first `n_faces` places mean something.
    """
    return Schema(
        targets=(
            Target(
                name="image",
                dtype="uint8",
                sample_shape=(*size_hw, 3),
                axes=("row", "column", "channel"),
                unit="sRGB",
                description="the whole photograph, red green blue; black beyond size_hw",
                compression="zstd_bitshuffle",
                channels_first=True,
            ),
            Target(
                name="size_hw",
                dtype="int32",
                sample_shape=(2,),
                unit="px",
                description="rows and columns of all pictures of this sample; below and to the right is padding",
            ),
            Target(
                name="picture_from_photograph",
                dtype="float64",
                sample_shape=(3, 3),
                description="the similarity from pixels of the file's photograph to pixels of this sample",
            ),
            Target(name="n_faces", dtype="int32", description="how many places of the arrays of faces mean something"),
            Target(
                name="landmarks_px",
                dtype="float32",
                sample_shape=(max_faces, 68, 3),
                axes=("face", "landmark", "xyz"),
                unit="px",
                description="the 68 landmarks of each face's model in the picture, iBUG order; NaN: no such face",
                allow_nan=True,
            ),
            Target(
                name="picture_from_model",
                dtype="float64",
                sample_shape=(max_faces, 3, 4),
                axes=("face", "picture_axis", "model_axis"),
                description="the affine map from model millimetres to pixels of the picture",
                allow_nan=True,
            ),
            Target(
                name="pose",
                dtype="float64",
                sample_shape=(max_faces, 7),
                axes=("face", "pose_parameter"),
                description="the camera: pitch, yaw, roll (rad), translation x, y, z (px of the file's photograph), "
                "scale (px/mm)",
                allow_nan=True,
            ),
            Target(
                name="identity",
                dtype="float32",
                sample_shape=(max_faces, n_identity),
                axes=("face", "identity_mode"),
                description="identity coefficients in the model file's own scaling",
                allow_nan=True,
            ),
            Target(
                name="expression",
                dtype="float32",
                sample_shape=(max_faces, n_expression),
                axes=("face", "expression_mode"),
                description="expression coefficients in the model file's own scaling",
                allow_nan=True,
            ),
            Target(
                name="landmark_residual_px",
                dtype="float32",
                sample_shape=(max_faces,),
                axes=("face",),
                unit="px",
                description="mean distance of the source's inner landmarks from the model's in the photograph; NaN: none",
                allow_nan=True,
            ),
            Target(
                name="source_id",
                dtype="str",
                description="which photograph of which source",
                code=Utf8(max_bytes=source_id_bytes),
            ),
        )
    )

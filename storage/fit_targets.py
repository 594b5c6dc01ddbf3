"""The targets of data sets of landmark fits, each declared once.

Pixels are those of the stored picture, the square around the face at 300W-LP's size; `picture_from_photograph` leads
there from the photograph.
"""

from storage.annotations import IMAGE_HEIGHT
from storage.codes import Utf8
from storage.schema import Schema, Target


def fits_schema(*, n_points: int, n_identity: int, n_expression: int, source_id_bytes: int = 128) -> Schema:
    """Picture, coefficients, pose, landmarks given and fitted, residuals, how sure, how it ended, where it is from."""
    return Schema(
        targets=(
            Target(
                name="image",
                dtype="uint8",
                sample_shape=(IMAGE_HEIGHT, IMAGE_HEIGHT, 3),
                axes=("row", "column", "channel"),
                unit="sRGB",
                description="the square of the photograph around the face, red green blue",
                compression="lz4_bitshuffle",
                channels_first=True,
            ),
            Target(
                name="identity",
                dtype="float64",
                sample_shape=(n_identity,),
                description="identity coefficients in the model file's own scaling",
            ),
            Target(
                name="expression",
                dtype="float64",
                sample_shape=(n_expression,),
                description="expression coefficients in the model file's own scaling",
            ),
            Target(
                name="pose",
                dtype="float64",
                sample_shape=(7,),
                description="the camera: pitch, yaw, roll (rad), translation x, y, z (px), scale (px/mm)",
            ),
            Target(
                name="landmarks_px",
                dtype="float32",
                sample_shape=(n_points, 2),
                axes=("point", "xy"),
                unit="px",
                description="the landmarks that were fitted, as they were given; NaN: missing",
                allow_nan=True,
            ),
            Target(
                name="fitted_px",
                dtype="float32",
                sample_shape=(n_points, 2),
                axes=("point", "xy"),
                unit="px",
                description="where the surface points fall that the fit holds against them; jaw points on the contour",
            ),
            Target(
                name="residual_px",
                dtype="float32",
                sample_shape=(n_points,),
                axes=("point",),
                unit="px",
                description="distance from each landmark to its fitted surface point; NaN: missing",
                allow_nan=True,
            ),
            Target(
                name="model_landmarks_px",
                dtype="float32",
                sample_shape=(68, 3),
                unit="px",
                description="the model's 68 landmarks as the fit places them, iBUG order, z toward the viewer",
            ),
            Target(
                name="pose_stddev",
                dtype="float32",
                sample_shape=(3,),
                unit="rad",
                description="how sure the fit is of the rotation: standard deviation about the camera's x, y, z",
            ),
            Target(
                name="surface_stddev_mm",
                dtype="float32",
                unit="mm",
                description="how sure it is of the shape: root mean square over the model's skin, pose taken out",
            ),
            Target(
                name="result",
                dtype="str",
                description="how the fit ended: converged, or step_limit",
                code=Utf8(max_bytes=32),
            ),
            Target(
                name="landmark_origin",
                dtype="str",
                description="where the landmarks come from: pts, json, mat, table or detector",
                code=Utf8(max_bytes=16),
            ),
            Target(
                name="picture_from_photograph",
                dtype="float64",
                sample_shape=(3, 3),
                description="the similarity from pixels of the photograph to pixels of the picture",
            ),
            Target(
                name="roi",
                dtype="int32",
                sample_shape=(4,),
                unit="px",
                description="the square of the photograph: left, top, right, bottom, inclusive, counted from one",
            ),
            Target(
                name="photograph_hw",
                dtype="int32",
                sample_shape=(2,),
                unit="px",
                description="height and width of the photograph in the frame that its landmarks count pixels of",
            ),
            Target(
                name="source_id",
                dtype="str",
                description="which face of which photograph",
                code=Utf8(max_bytes=source_id_bytes),
            ),
        )
    )

"""Rows of the stages between a file's bytes and a sample in memory."""

import io
import itertools
import os
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import skimage.data
import skimage.exposure
import skimage.io
import skimage.transform

from flows.face_profiles import ProfilesRecipe
from geometry.fit import FitConfig, LandmarkFitter
from render.augmentation import augment_picture
from render.augmentation_draws import AugmentationDraw
from render.correspondence import draw_fields
from render.crop import CropConfig, crop_from_landmarks, warp_image
from render.moved_labels import Move, moved_labels
from render.people_config import PRESETS
from render.profiling import MeshedPicture, turned_camera
from render.zbuffer import rasterize, rasterize_one_by_one
from storage import people
from storage.images import decode_image
from storage.jpeg import decode_jpeg, encode_jpeg
from tests.benchmarks import augmentation_speed, field_speed, fit_speed, people_speed, profiling, zbuffer_speed
from tests.benchmarks.suite.material import Material
from tests.benchmarks.suite.rows import Baseline, Contender, Goal, Row, needing
from tests.benchmarks.usual_recipe import render_colors

COMPILED_LOOP = "compiled loop"


def rows(material: Material) -> Iterator[Row]:
    """In the order in which a sample meets them."""
    yield from (make(material) for make in (decode, crop, vertices, atlas_map, z_buffer, field, fit, fit_marching))
    yield from (make(material) for make in (augment, augment_labels, turn_faces, draw_people))


def decode(material: Material) -> Row:
    jpegs = material.jpegs

    def each(work: Callable[[bytes], object]) -> Callable[[], None]:
        return lambda: [work(jpeg) for jpeg in jpegs][:0]

    def bare(jpeg: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)

    n = len(jpegs)
    return Row(
        "decode", "a JPEG of 450²",
        Contender("decode_image", each(decode_image), n),
        (
            Contender("scikit-image imread", each(lambda jpeg: skimage.io.imread(io.BytesIO(jpeg))), n),
            Contender("cv2.imdecode alone", each(bare), n),
        ),
        why="All three are libjpeg-turbo. Ours reads the header before, and hears from the decoder what a damaged file lost, "
        "which the others fill in and do not tell.",
        megabytes=450 * 450 * 3 / 1e6,
    )  # fmt: skip


def crop(material: Material) -> Row:
    landmarks = material.in_crops[0][material.model.landmark_vertices].astype(np.float64) * (450 / 256)
    similarity = crop_from_landmarks(landmarks, CropConfig())
    inverse = skimage.transform.SimilarityTransform(similarity.matrix).inverse
    photographs = material.photographs

    def usual() -> None:
        for photograph in photographs:
            warped = skimage.transform.warp(photograph / 255.0, inverse, output_shape=(256, 256))
            (warped * 255).astype(np.uint8)

    def ours() -> None:
        for photograph in photographs:
            warp_image(photograph, similarity, size_px=256)

    n = len(photographs)
    return Row(
        "crop", "a photograph of 450² to 256²",
        Contender("warp_image", ours, n),
        (Contender("scikit-image warp", usual, n),),
        why="OpenCV interpolates bytes with SIMD; scikit-image makes doubles of the whole photograph first.",
        megabytes=2 * 256 * 256 * 3 / 1e6,
        megaflops=256 * 256 * 3 * 6 / 1e6,
    )  # fmt: skip


def vertices(material: Material) -> Row:
    model, coefficients, recipe = material.model, material.coefficients, material.usual
    identity, expression = (part.astype(np.float32) for part in (coefficients.identity, coefficients.expression))
    n, values = len(identity), 3 * model.n_vertices
    modes = model.n_identity + model.n_expression

    def usual() -> None:
        for i in range(n):
            (recipe.mean + recipe.identity @ identity[i, :, None] + recipe.expression @ expression[i, :, None]).sum()

    return Row(
        "vertices", f"a face of {model.n_vertices:,} vertices, {modes} modes, {n} in a product",
        Contender("model.vertices", lambda: model.vertices(coefficients), n),
        (Contender("NumPy, a product a face", usual, n),),
        why="A face by itself reads the whole basis from memory; a batch reads it once. What is left is arithmetic, at "
        "what one BLAS thread does.",
        megabytes=4 * values * (modes / n + 1) / 1e6,
        megaflops=2 * values * modes / 1e6,
    )  # fmt: skip


def atlas_map(material: Material) -> Row:
    shapes, raster, recipe = material.shapes, material.raster, material.usual

    def usual() -> None:
        for shape in shapes:
            render_colors(recipe.texel, recipe.triangles, shape, 256)

    return Row(
        "atlas map", "a position map of 256² from vertices",
        Contender("AtlasRaster.apply", lambda: raster.apply(shapes), len(shapes)),
        (Contender(COMPILED_LOOP, usual, len(shapes)),),
        why="The atlas never changes, so which vertices a texel mixes is worked out once; a map is three gathers.",
        megabytes=(shapes[0].nbytes + 4 * 256 * 256 * 9) / 1e6,
        megaflops=256 * 256 * 3 * (5 + 6) / 1e6,
    )  # fmt: skip


def z_buffer(material: Material) -> Row:
    faces, triangles = material.in_crops, np.ascontiguousarray(material.model.triangles)
    n = len(faces)

    def with_gl() -> Contender:
        return Contender("moderngl on EGL", _gl_z_buffer(faces, triangles), n)

    def with_embree() -> Contender:
        return Contender("trimesh with embreex", _ray_z_buffer(faces[0], triangles))

    return Row(
        "z-buffer", "a face at 256²: ids, weights, depth",
        Contender("rasterize", lambda: rasterize(faces, triangles, size_hw=(256, 256)), n),
        (
            Contender(COMPILED_LOOP, lambda: zbuffer_speed.as_usual(faces, triangles, 256), n),
            Contender("our kernel for one image", lambda: rasterize_one_by_one(faces, triangles, size_hw=(256, 256)), n),
            needing("moderngl", "moderngl", with_gl, "moderngl on EGL"),
            needing("embreex", "embreex", with_embree, "trimesh with embreex"),
        ),
        why="Sixteen faces in SIMD lanes (AVX-512; narrower vectors gain less). OpenGL must send the vertices and read the "
        "buffers back, here from Mesa's software renderer; a ray a pixel needs a tree of each mesh first (of the first face "
        "alone, which is enough to see it). docs/zbuffer.md has the stages.",
        goals=(
            Goal(COMPILED_LOOP, 4.0, limit="AVX-512 and near caches without neighbours are needed"),
            Goal("our kernel", 2.0, limit="AVX-512 is needed"),
        ),
        megabytes=(2 * 20 * 256 * 256 + faces[0].nbytes + triangles.nbytes) / 1e6,
    )  # fmt: skip


def _gl_z_buffer(faces: np.ndarray, triangles: np.ndarray) -> Callable[[], None]:
    """Upload, draw, read back: the triangle's id, two weights and depth of each pixel as float32."""
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer on this one core, like the others
    import moderngl

    context = moderngl.create_standalone_context(backend="egl")
    program = context.program(
        vertex_shader="""#version 330
            in vec3 position; flat out int vertex; out vec2 weights; out float near;
            void main() {
                weights = vec2(gl_VertexID % 3 == 0, gl_VertexID % 3 == 1); near = position.z;
                gl_Position = vec4((position.xy + 0.5) / 128.0 - 1.0, -position.z / 4096.0, 1.0);
            }""",
        fragment_shader="""#version 330
            in vec2 weights; in float near; out vec4 seen;
            void main() { seen = vec4(gl_PrimitiveID, weights, near); }""",
    )
    buffer = context.buffer(reserve=triangles.size * 12)
    mesh = context.vertex_array(program, [(buffer, "3f", "position")])
    target = context.framebuffer([context.texture((256, 256), 4, dtype="f4")], context.depth_renderbuffer((256, 256)))

    def run() -> None:
        target.use()
        context.enable(moderngl.DEPTH_TEST)
        for face in faces:
            buffer.write(np.ascontiguousarray(face[triangles.reshape(-1)], dtype="f4"))
            target.clear(-1.0)
            mesh.render()
            np.frombuffer(target.read(components=4, dtype="f4"), "f4").reshape(256, 256, 4)

    return run


def _ray_z_buffer(face: np.ndarray, triangles: np.ndarray) -> Callable[[], None]:
    """A ray through each pixel of one face; trimesh builds its tree of the mesh, as of every new one."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    x, y = np.meshgrid(np.arange(256.0), np.arange(256.0))
    origins = np.stack([x.ravel(), y.ravel(), np.full(x.size, float(face[:, 2].max()) + 10)], axis=1)
    directions = np.tile([0.0, 0.0, -1.0], (len(origins), 1))

    def run() -> None:
        mesh = trimesh.Trimesh(face, triangles, process=False)
        RayMeshIntersector(mesh).intersects_first(origins, directions)

    return run


def field(material: Material) -> Row:
    model, recipe, n = material.model, material.usual, material.sizes.faces
    template = field_speed.template_of(model)
    coefficients, cameras = field_speed.people(model, n)
    identity, expression = (part.astype(np.float32) for part in (coefficients.identity, coefficients.expression))
    triangles, uv, size = np.ascontiguousarray(model.triangles), model.uv.astype(np.float32), template.part_map.shape[0]
    modes = model.n_identity + model.n_expression

    def together() -> None:
        shapes = model.vertices(coefficients)
        heads = np.stack([camera.project(shape) for camera, shape in zip(cameras, shapes, strict=True)])
        draw_fields(template, heads, size_hw=(256, 256))

    def usual() -> None:
        for i, camera in enumerate(cameras):
            shape = recipe.mean + recipe.identity @ identity[i, :, None] + recipe.expression @ expression[i, :, None]
            head = camera.project(shape.reshape(-1, 3)).astype(np.float32)
            ids, weights, _ = (each[0] for each in zbuffer_speed.as_usual(head[None], triangles, 256))
            seen = ids >= 0
            at = (uv[triangles[ids[seen]]] * weights[seen][:, :, None]).sum(axis=1)
            place = np.rint(at * (size - 1)).astype(int)
            template.part_map[size - 1 - place[:, 1], place[:, 0]]

    return Row(
        "field", f"u, v, parts and depth at 256² from coefficients, {n} at once",
        Contender("vertices and draw_fields", together, n),
        (Contender("NumPy, and the compiled loop for the z-buffer", usual, n),),
        why="Two fifths of what it gains are the vertices' one product, a quarter the z-buffer's lanes, the rest a compiled "
        "loop where the baseline interpolates with NumPy. The baseline leaves out what ours has besides: eyes and mouth "
        "closed, background, ignored boxes. docs/zbuffer.md has the stages.",
        goals=(Goal("NumPy", 0.0, seconds=0.005, limit="200 a second take a quiet core with AVX-512"),),
        megabytes=(4 * 3 * model.n_vertices * (modes / n + 2) + 2 * 20 * 256**2 + triangles.nbytes + 14 * 256**2) / 1e6,
    )  # fmt: skip


def _fitted_people(material: Material):
    """As docs/fitting.md has them: turned by up to 40°, and a pixel of noise."""
    n = material.sizes.fitted
    people = fit_speed.fit_faces.draw_people(
        material.model, n, seed=1, yaw_deg=(0.0, 40.0), pitch_deg=15.0, roll_deg=15.0
    )
    return people, np.random.default_rng(2).normal(size=(n, 68, 2))


def _in_turn(one: Callable[[int], None]) -> Callable[[], None]:
    """A face a call, the next one each time."""
    number = itertools.count()
    return lambda: one(next(number))


def _eos(material: Material, landmarks: np.ndarray, *, whole: bool, name: str) -> Baseline:
    def ready() -> Contender:
        return Contender(name, _in_turn(fit_speed.eos_fit(material.model, landmarks, whole=whole)))

    return needing("eos", "eos-py", ready, name)


def fit(material: Material) -> Row:
    model, n, size_hw = material.model, material.sizes.fitted, fit_speed.SIZE_HW
    people, noise = _fitted_people(material)
    landmarks = people.landmarks_px + noise
    fitter = LandmarkFitter.of(model, config=FitConfig(noise_px=1.0))
    plain = LandmarkFitter.of(model, config=FitConfig(noise_px=1.0, scale_estimate="joint"))
    minimiser = fit_speed.reference.reference_minimise_two_point
    small = 68 * 2
    return Row(
        "fit", f"68 landmarks, {model.n_identity + model.n_expression} modes, {n} faces in a batch",
        Contender("LandmarkFitter.fit", lambda: fitter.fit(landmarks, image_size_hw=size_hw), n),
        (
            _eos(material, landmarks, whole=True, name="eos-py"),
            _eos(material, landmarks, whole=False, name="eos-py, model cut to 68 vertices,"),
            Contender("SciPy least_squares", _in_turn(fit_speed.scipy_fit(plain, landmarks, minimiser, fit_speed.OWN))),
        ),
        why="Only the landmarks' rows of the model are touched, the coefficients are eliminated and the whole batch is one "
        "product; what is left is a Cholesky factor of 136 rows an iteration. eos evaluates its model anew in every "
        "iteration, SciPy all differences; both take one face at a time, the next one each time.",
        goals=(
            Goal("eos-py", fit_speed.TIMES_EOS, limit="a Cholesky factor of 136 rows an iteration"),
            Goal("SciPy", fit_speed.TIMES_SCIPY, limit="a Cholesky factor of 136 rows an iteration"),
        ),
        megaflops=6 * (small**3 / 3 + 2 * small**2 * 9) / 1e6,
    )  # fmt: skip


def fit_marching(material: Material) -> Row:
    people, noise = _fitted_people(material)
    n, outlined = material.sizes.fitted, people.outlined_px("evenly")[0] + noise
    fitter = LandmarkFitter.of(material.model, config=FitConfig(noise_px=1.0, contour="march"))
    return Row(
        "fit, marching", f"the same, jaw points on the visible outline, {n} faces in a batch",
        Contender("LandmarkFitter.fit", lambda: fitter.fit(outlined, image_size_hw=fit_speed.SIZE_HW), n),
        (_eos(material, people.landmarks_px + noise, whole=True, name="eos-py, points pinned,"),),
        why="The outline is sought on the present fit before every step until the steps are small. eos pins the points to "
        "vertices and gets them there, which is less work.",
        goals=(Goal("eos-py", fit_speed.TIMES_EOS_MARCHING, limit="the outline is sought before every step"),),
    )  # fmt: skip


def augment(material: Material) -> Row:
    picture = np.ascontiguousarray(material.augmented[0]["image"])
    draw = AugmentationDraw(0, augmentation_speed.GEOMETRY, augmentation_speed.COLOUR, ())
    drawn, photograph = material.photographs[0][97:353, 97:353], skimage.data.astronaut()[:256, 96:352]

    def decoding(crop: np.ndarray) -> Callable[[], object]:
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(crop[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        return lambda: cv2.imdecode(jpeg, cv2.IMREAD_COLOR)

    move = augmentation_speed.GEOMETRY.augmented_from_crop(augmentation_speed.SIZE)
    inverse = skimage.transform.SimilarityTransform(np.asarray(move.matrix) @ np.diag([-1.0, 1.0, 1.0])).inverse
    colour = augmentation_speed.COLOUR

    def usual() -> None:
        turned = skimage.transform.warp(picture / 255.0, inverse, output_shape=picture.shape[:2])
        tinted = np.clip(colour.contrast * turned * colour.channel_scale + colour.brightness, 0, 1)
        (skimage.exposure.adjust_gamma(tinted, colour.gamma) * 255).astype(np.uint8)

    return Row(
        "augment", "a picture of 256²: turned, scaled, mirrored, tinted",
        Contender("augment_picture", lambda: augment_picture(picture, draw, size_px=augmentation_speed.SIZE)),
        (
            Contender("scikit-image warp and exposure", usual),
            Contender("decoding a photograph's crop", decoding(photograph)),
            Contender("decoding a drawn, smooth crop", decoding(drawn)),
        ),
        why="Geometry is one warp of bytes in fixed point, all colour changes are one table of 256 levels a channel. "
        "Decoding is the yardstick, JPEG of quality 95: reading must not wait for augmentation. Nearly all of "
        "ours is the warp, whatever is in the picture; a smooth JPEG has fewer coefficients to decode. docs/augmentation.md "
        "has each operation.",
        goals=(Goal("decoding a photograph", 1.0, limit="one bilinear warp takes as long as a JPEG of 256² to decode"),),
        megabytes=2 * picture.nbytes / 1e6,
    )  # fmt: skip


def augment_labels(material: Material) -> Row:
    sample, atlas, _ = material.augmented
    labels = {name: value for name, value in sample.items() if name != "image"}
    size, geometry, recipe = augmentation_speed.SIZE, augmentation_speed.GEOMETRY, material.usual
    shape = material.shapes[0]

    def ours() -> None:
        moved_labels(labels, Move(geometry.augmented_from_crop(size), size, atlas))

    def usual() -> None:
        moved = shape * np.float32([-1, 1, 1])
        render_colors(recipe.texel, recipe.triangles, moved, size)

    return Row(
        "augment labels", "a map of 256² and 68 landmarks, moved and mirrored",
        Contender("moved_labels", ours),
        (Contender("compiled loop, map drawn anew", usual),),
        why="A stored map is moved by one affine map of its texels, and mirrored by a table; nothing is rasterised.",
        megabytes=2 * 4 * 3 * size * size / 1e6,
    )  # fmt: skip


def turn_faces(material: Material) -> Row:
    head = profiling.a_head()
    recipe, triangles = ProfilesRecipe(material.model), np.ascontiguousarray(material.model.triangles)
    picture = head.drawn(head.camera)
    jpeg, size, yaws = encode_jpeg(picture), picture.shape[0], np.radians(np.arange(15, 91, 5))

    def turned() -> None:
        meshed = MeshedPicture.of(decode_jpeg(jpeg), head.model, head.vertices, head.camera)
        cameras = [turned_camera(head.camera, yaw=float(yaw), pivot=meshed.pivot) for yaw in yaws]
        for view in meshed.seen_by(cameras):
            recipe.marched(head.vertices, head.coefficients, view.camera)
            encode_jpeg(view.image)

    def bare() -> None:
        for yaw in yaws:
            camera = turned_camera(head.camera, yaw=float(yaw), pivot=head.vertices.mean(axis=0))
            zbuffer_speed.as_usual(camera.project(head.vertices).astype(np.float32)[None], triangles, size)

    return Row(
        "turn faces", f"a view of {size}² from JPEG to JPEG, {len(yaws)} views of a photograph",
        Contender("MeshedPicture.seen_by", turned, len(yaws)),
        (Contender("compiled loop, z-buffer of the bare face", bare, len(yaws)),),
        why="The baseline is a fraction of the work: no background, colours, landmarks or JPEG. Ours draws sixteen views in "
        "SIMD lanes, of a mesh that covers the whole picture. docs/profiling.md has the stages.",
    )  # fmt: skip


def draw_people(material: Material) -> Row:
    n_views = 4
    plan = people.PeoplePlan(PRESETS[people_speed.BULK[0]]().model_copy(update={"side_px": 256}), 0, 1, 1, n_views, 0.1)
    faces, triangles = material.in_crops[:1], np.ascontiguousarray(material.model.triangles)

    def drawn() -> None:
        family = people.draw_family(plan, 0, 0)
        for view in range(n_views):
            people.draw_picture(plan, family, view, people.draw_shot(plan, family, view))

    return Row(
        "draw people", f"a picture of 256² with hair, light, background and noise, {n_views} of a family",
        Contender("draw_picture", drawn, n_views),
        (Contender("compiled loop, the bare face unlit", lambda: zbuffer_speed.as_usual(faces, triangles, 256)),),
        why="The baseline is a fifth of the work: one z-buffer of the skin alone. A person's colours are drawn once and "
        "not counted. docs/rendered-people.md has the stages.",
        goals=(Goal(COMPILED_LOOP, 0.0, seconds=0.04, limit="anti-aliased edges are drawn at twice the side"),),
    )  # fmt: skip

"""What is fuzzed: valid files of every kind that this program reads, and the reader of each.

A reader returns a digest of what it understood. It may also refuse, by an error of this project's own or a ValueError that this
project raised; anything else it does is a find (:mod:`tests.hardening.fuzz`).
"""

import hashlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import scipy.io
from pydantic import ValidationError

if TYPE_CHECKING:
    from geometry.morphable_model import DenseModel

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid file, and who reads it.

    `read(bytes)` gives a digest of the content. With `checksummed` no changed byte may give other content.
    """

    name: str
    data: bytes
    read: Callable[[bytes], str]
    checksummed: bool = False
    is_text: bool = False
    family: str = ""
    """Seeds of one family are spliced."""


def digest(*parts: object) -> str:
    """Of arrays with dtype and shape, and of plain values."""
    running = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            running.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            running.update(repr(part).encode())
    return running.hexdigest()


# ---------------------------------------------------------------------------------------------------- annotations


def annotation_variables(rng: np.random.Generator, *, aflw: bool = False) -> dict[str, np.ndarray]:
    """A file's arrays, of the types and sizes of the releases."""
    points = rng.uniform(100, 350, (2, 21 if aflw else 68))
    variables = {
        "pt2d": points,
        "roi": np.array([[80, 90, 380, 390]], np.int16),
        "Illum_Para": rng.uniform(0, 1, (1, 10)),
        "Color_Para": rng.uniform(0, 1, (1, 7)).astype(np.float32),
        "Tex_Para": rng.normal(size=(199, 1)),
        "Shape_Para": rng.normal(0, 1e5, (199, 1)),
        "Exp_Para": np.zeros((29, 1), np.uint8) if aflw else rng.normal(size=(29, 1)),
        "Pose_Para": np.array([[0.1, -0.4, 0.05, 220, 230, 0, 9e-4]], np.float32),
    }
    return variables | ({"pt3d_68": rng.uniform(100, 350, (3, 68)).astype(np.float32)} if aflw else {})


def _saved(variables: Mapping[str, np.ndarray], **how: object) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, dict(variables), **how)
    return b"MATLAB 5.0 MAT-file, written for a test".ljust(116) + stream.getvalue()[116:]


def big_endian_mat(variables: Mapping[str, np.ndarray]) -> bytes:
    """As MATLAB wrote on machines of the other byte order; SciPy writes none."""
    types = {"f8": 9, "f4": 7, "i2": 3, "u1": 2}
    classes = {"f8": 6, "f4": 7, "i2": 10, "u1": 9}

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = b"MATLAB 5.0 MAT-file, of the other byte order".ljust(124) + b"\x01\x00MI"
    for name, array in variables.items():
        code = array.dtype.str[1:]
        body = element(6, struct.pack(">II", classes[code], 0)) + element(5, struct.pack(">ii", *array.shape))
        body += element(1, name.encode())
        body += element(types[code], np.ascontiguousarray(array.T).astype(f">{code}").tobytes())
        content += element(14, body)
    return content


def annotations(folder: Path) -> list[Seed]:
    """300W-LP's and AFLW2000-3D's files, compressed and not, of either byte order."""
    from storage.annotations import annotations_from_variables
    from storage.bad_sample import BadSample
    from storage.file_names import ViewName
    from storage.mat_reader import MatReader

    reader = MatReader()
    view = ViewName("AFW_1", False, 0)

    def read(data: bytes) -> str:
        (variables,) = reader.read_many([data])
        if isinstance(variables, BadSample):
            if variables.code in ("mat.crash", "mat.timeout", "mat.memory"):
                raise AssertionError(f"the reading process failed: {variables}")
            raise variables
        (found,) = annotations_from_variables([variables], views=[view])
        if isinstance(found, BadSample):
            raise found
        pose = (found.camera.rotation, found.camera.translation_px, np.array(found.camera.scale))
        if not all(
            np.isfinite(part).all() for part in (*pose, found.coefficients.identity, found.coefficients.expression)
        ):
            raise AssertionError("numbers that are not finite came through")
        # By names: that a variable is there at all is in its tag, which has no checksum.
        return " ".join(f"{name}={digest(value)[:16]}" for name, value in sorted(variables.items()))

    rng = np.random.default_rng(1)
    plain, aflw = annotation_variables(rng), annotation_variables(rng, aflw=True)
    return [
        Seed("300W-LP, compressed", _saved(plain, do_compression=True), read, checksummed=True),
        Seed("300W-LP", _saved(plain, do_compression=False), read),
        Seed("AFLW2000-3D, compressed", _saved(aflw, do_compression=True), read, checksummed=True),
        Seed("AFLW2000-3D", _saved(aflw, do_compression=False), read),
        Seed("of the other byte order", big_endian_mat(plain), read),
        Seed("MATLAB 4", _saved({k: v.astype("f8") for k, v in plain.items()}, format="4"), read),
    ]


# --------------------------------------------------------------------------------------------------------- images


def images(folder: Path) -> list[Seed]:
    """JPEG and PNG of the kinds that occur."""
    from storage.images import PictureRoom, decode_image, decode_photograph, decode_rgba, stored_size

    room = PictureRoom()
    row, column = np.mgrid[:37, :53]
    picture = np.stack([4 * row, 4 * column, (row * column) % 255], axis=-1).astype(np.uint8)

    def read(data: bytes) -> str:
        pixels = decode_image(data)
        turned = decode_photograph(data)
        if pixels.shape[:2] != stored_size(data) or sorted(turned.shape) != sorted(pixels.shape):
            raise AssertionError(f"{pixels.shape} {turned.shape}, but {stored_size(data)} by the header")
        if not np.array_equal(decode_rgba(data, room=room)[..., :3], pixels):
            raise AssertionError("with a fourth channel it is another picture")
        return digest(pixels)

    def jpeg(*options: int, pixels: np.ndarray = picture) -> bytes:
        return cv2.imencode(".jpg", pixels, options)[1].tobytes()

    def png(pixels: np.ndarray, *options: int) -> bytes:
        return cv2.imencode(".png", pixels, options)[1].tobytes()

    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    jpegs = {
        "baseline": jpeg(),
        "progressive": jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restarts": jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        "full colour": jpeg(*sampling),
        "grey": jpeg(pixels=picture[..., 0]),
    }
    sixteen = (picture.astype(np.uint16) * 257) + 3
    opaque = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    several = png_of_rows(picture)
    pngs = {
        "eight bits": png(picture),
        "grey": png(picture[..., 0]),
        "sixteen bits": png(sixteen),
        "opaque": png(opaque),
        "one bit": png(picture[..., 0] // 128 * 255, cv2.IMWRITE_PNG_BILEVEL, 1),
        "several data chunks and a text": several,
    }
    return [Seed(f"JPEG, {name}", data, read, family="jpeg") for name, data in jpegs.items()] + [
        Seed(f"PNG, {name}", data, read, checksummed=True, family="png") for name, data in pngs.items()
    ]


def png_chunk(name: bytes, data: bytes) -> bytes:
    """With its length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_rows(picture: np.ndarray) -> bytes:
    """RGB with its data in four chunks, behind a compressed text and a time."""
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in picture))
    quarter = -(-len(packed) // 4)
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a face")),
        png_chunk(b"tIME", bytes(7)),
    ]
    chunks += [png_chunk(b"IDAT", packed[start : start + quarter]) for start in range(0, len(packed), quarter)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------------------ manifests


def manifests(folder: Path) -> list[Seed]:
    """Every object of a small data set, each changed in its place; and manifests whose digest somebody made right again."""
    from storage.dataset import open_dataset
    from storage.local_store import LocalStore
    from storage.manifest import digest_of
    from storage.store import DamagedObject
    from storage.verify import verify
    from tests.small_faces import build

    dataset = build(folder / "faces", holes=(2, 7))
    place, version = folder / "faces" / "faces", dataset.manifest.version
    names = tuple(dataset.schema.names)

    def read_all() -> str:
        opened = open_dataset(place)
        n = len(opened)
        if n > 10_000:
            raise AssertionError(f"{n} samples")
        everything = opened.read(range(n))
        tables = [opened.table(name) for name in sorted(opened.manifest.plan.tables)]
        holes = [(hole.index, hole.source_id, hole.code) for hole in opened.manifest.rejected]
        return digest(n, holes, *(everything[name] for name in names if name in everything), *tables)

    right = read_all()
    originals = {
        path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file() and path.name != ".lock"
    }

    def reader_of(path: Path) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            path.write_bytes(data)
            try:
                try:
                    found = verify(LocalStore(place / version))
                except DamagedObject:
                    found = [None]
                if not found and path.name not in ("latest",) and data != originals[path]:
                    raise AssertionError("verify finds nothing")
                value = read_all()
                if value != right:
                    raise AssertionError("what is read is not what was written")
                return value
            finally:
                path.write_bytes(originals[path])

        return read

    def reader_of_lies(data: bytes) -> str:
        """A manifest by somebody who can compute its digest too."""
        try:
            content = json.loads(data)
            if isinstance(content, dict):
                content.pop("manifest_sha256", None)
                content["manifest_sha256"] = digest_of(content)
            data = json.dumps(content).encode()
        except (ValueError, RecursionError):
            pass
        path = place / version / "manifest.json"
        path.write_bytes(data)
        try:
            opened = open_dataset(place)
            verify(LocalStore(place / version))
            n = len(opened)
            for index in range(0, min(n, 30), 3):
                opened[index]
            return digest(n)
        finally:
            path.write_bytes(originals[path])

    seeds = []
    for path, data in originals.items():
        key = path.relative_to(place).as_posix().replace(version, "VERSION")
        is_json = data[:1] == b"{"
        seeds.append(Seed(key, data, reader_of(path), is_text=is_json, family="json" if is_json else key))
    manifest = originals[place / version / "manifest.json"]
    lies = Seed("manifest.json, its digest made right", manifest, reader_of_lies, is_text=True, family="json")
    return seeds + [lies] * 6  # as often as all others together would be dull


# -------------------------------------------------------------------------------------------------------- configs


def configs(folder: Path) -> list[Seed]:
    """What people and other programs write as text: landmarks, tables, boxes, sidecars, configs, deployments."""
    from flows.config import DenseRegConfig, FitsConfig, PosmapConfig
    from flows.config_file import read_tables
    from flows.deploy import PREFECT_FILE
    from flows.evaluations import read_scheme
    from flows.plain_yaml import read_document
    from render.augmentation_presets import augmentation_from_text
    from storage.annotations import read_sidecar
    from storage.bad_sample import BadSample
    from storage.drawn_folder import drawn_record
    from storage.evaluation_boxes import read_boxes
    from storage.face_boxes import parse_face_boxes
    from storage.fit_files import folder_record
    from storage.landmark_files import landmarks_from_files
    from storage.landmark_tables import parse_landmark_table
    from storage.mat_reader import MatReader

    reader = MatReader()

    def landmarks(name: str) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            (found,) = landmarks_from_files([name], [data], n_points=5, reader=reader)
            if isinstance(found, BadSample):
                raise found
            return digest(found)

        return read

    def table(name: str) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            rows = parse_landmark_table(data, name=name, n_points=5)
            return digest(*((row.path, row.face, str(row.landmarks_px)) for row in rows))

        return read

    def file(name: str, parse: Callable[[Path], object]) -> Callable[[bytes], str]:
        path = folder / name.replace("*", "changed")
        path.parent.mkdir(parents=True, exist_ok=True)

        def read(data: bytes) -> str:
            path.write_bytes(data)
            return digest(parse(path))

        return read

    def boxes(name: str) -> Callable[[bytes], str]:
        return lambda data: digest(parse_face_boxes(data, name=name))

    def config(kind: type) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            try:
                return digest(kind.model_validate_json(data))
            except ValidationError as error:  # what the command line makes a sentence of
                raise ValueError(error.errors()[0]["msg"]) from None

        return read

    points = [[10.5, 20.25], [30, 40], None, [50.125, 60], [70, 80]]
    pts = (
        "version: 1\nn_points: 5\n{\n"
        + "".join(f"{x} {y}\n" for x, y in [(1, 2), (3.5, 4), (5, 6), (7, 8.25), (9, 10)])
        + "}\n"
    )
    wide = "path,face," + ",".join(f"{a}{i}" for i in range(5) for a in "xy") + "\n"
    wide += "".join(f"a/{r}.jpg,{r}," + ",".join(str(7.5 * k + r) for k in range(10)) + "\n" for r in range(3))
    long = "path,point,x,y\n" + "".join(f"a/b.jpg,{i},{10 + i},{20.5 + i}\n" for i in range(5))
    fits = {"version": "0123456789abcdef", "licence": "toy terms", "landmark_origins": ["a.pts"], "faces": 3}
    sidecar = {
        "model": "built-in",
        "fingerprint": "0" * 32,
        "n_identity": 199,
        "n_expression": 29,
        "scaling": "as stored",
    }
    drawn = {"seed": 7, "n_identities": 2, "model_fingerprint": "0" * 32, "views": [0, 1, 2]}
    toml = '[build-300wlp-posmaps]\nmax_bad = 1e-2\nsource = "300W_LP"\nshape = [1, 2.5, {a = true}]\n\n[rebuild]\nkeep = 3\n'
    texts: list[tuple[str, str, Callable[[bytes], str]]] = [
        ("points.pts", pts, landmarks("points.pts")),
        ("points.json", json.dumps({"landmarks_px": points}), landmarks("points.json")),
        ("wide.csv", wide, table("wide.csv")),
        ("long.csv", long, table("long.csv")),
        ("table.json", json.dumps([{"path": "a/b.jpg", "face": 1, "landmarks_px": points}] * 2), table("table.json")),
        ("x.faces.json", '{"boxes": [[1, 2, 30.5, 40], [5, 6, 70, 80]]}', boxes("x.faces.json")),
        ("x.faces.csv", "left,top,right,bottom\n1,2,30.5,40\n5,6,70,80\n", boxes("x.faces.csv")),
        ("boxes.csv", "path,left,top,right,bottom\na.jpg,1,2,30,40\nb.jpg,5,6,70,80\n", file("boxes.csv", read_boxes)),
        ("model.json", json.dumps(sidecar, indent=2), file("sidecar/model.json", lambda p: read_sidecar(p.parent))),
        ("sample.json", json.dumps(drawn, indent=1), file("drawn/sample.json", lambda p: drawn_record(p.parent))),
        ("fits.json", json.dumps(fits, indent=1), file("fits/fits.json", lambda p: folder_record(p.parent))),
        ("scheme.json", "[[17], [26], [36, 39], [42, 45], [30]]", file("scheme.json", lambda p: read_scheme(str(p)))),
        ("prefect.yaml", (ROOT / "infra" / PREFECT_FILE).read_text(), file(PREFECT_FILE, read_document)),
        ("facefoundry.toml", toml, file("facefoundry.toml", read_tables)),
        ("config of maps", PosmapConfig(copies=3, augment="prnet").model_dump_json(), config(PosmapConfig)),
        ("config of fields", DenseRegConfig().model_dump_json(), config(DenseRegConfig)),
        ("config of fits", FitsConfig().model_dump_json(), config(FitsConfig)),
        ("--augment", "prnet:2+dan", lambda d: digest(augmentation_from_text(d.decode(errors="replace")))),
    ]  # fmt: skip
    return [Seed(name, text.encode(), read, is_text=True, family="text") for name, text, read in texts]


# ---------------------------------------------------------------------------------------------------- checkpoints


def small_states(folder: Path) -> list[dict[str, object]]:
    """What checkpoints of two small networks hold; `folder` is for the data set that they would be trained on."""
    import torch

    from storage.dataset import open_dataset
    from tests.small_faces import build
    from train import dan, fan3d
    from train.training_data import describe_data

    build(folder / "learnt")
    dataset = open_dataset(folder / "learnt" / "faces")
    torch.manual_seed(0)
    narrow = {"size_px": 32, "hourglass_channels": 4, "hourglass_depth": 1, "width": 2}
    systems = [
        fan3d.Fan3d.for_dataset(fan3d.tiny().model_copy(update=narrow), dataset),
        dan.DAN.for_dataset(dan.tiny().model_copy(update={"size_px": 32, "widths": (2, 2), "hidden": 2}), dataset),
    ]
    return [
        {
            "system": system.name,
            "config": system.config.model_dump(mode="json"),
            "system_state": system.state(),
            "network": system.network.state_dict(),
            "dataset": describe_data(dataset),
            "total_steps": 3,
        }
        for system in systems
    ]


def small_checkpoint(path: Path, work: Path) -> None:
    """A whole file of a small network."""
    from train.checkpoint import save_checkpoint

    save_checkpoint(path, small_states(work)[1])


def checkpoints(folder: Path) -> list[Seed]:
    """Small trained systems in whole files."""
    from train.checkpoint import save_checkpoint
    from train.restore import restore

    path = folder / "checkpoint.pt"

    def read(data: bytes) -> str:
        path.write_bytes(data)
        restored = restore(path)
        weights = restored.system.network.state_dict()
        return digest(
            *sorted(weights), *(weights[name].numpy() for name in sorted(weights)), restored.data.mean_landmarks
        )

    def liar(state: dict[str, object]) -> Callable[[bytes], str]:
        def read_lie(text: bytes) -> str:
            """A checkpoint whose bytes are whole, and say something else."""
            try:
                changed = json.loads(text)
            except (ValueError, RecursionError):
                raise ValueError("no example") from None
            if not isinstance(changed, dict):
                raise ValueError("no example")
            dataset_entry = changed.get("dataset")
            described: dict[str, object] = state["dataset"]  # type: ignore[assignment]
            tensors = {key: value for key, value in described.items() if not _is_plain(value)}
            entries = {"system_state": state["system_state"], "network": state["network"], **changed}
            if isinstance(dataset_entry, dict):
                entries["dataset"] = tensors | dataset_entry
            try:
                save_checkpoint(path, entries)
            except RecursionError:  # nested too deep to be written
                raise ValueError("no example") from None
            return read(path.read_bytes())

        return read_lie

    seeds: list[Seed] = []
    for state in small_states(folder):
        name, described = str(state["system"]), state["dataset"]
        assert isinstance(described, dict)
        save_checkpoint(path, state)
        seeds.append(Seed(name, path.read_bytes(), read, checksummed=True))
        plain = {key: state[key] for key in ("system", "config", "total_steps")}
        plain["dataset"] = {key: value for key, value in described.items() if _is_plain(value)}
        lies = Seed(f"{name}, its plain values changed", json.dumps(plain).encode(), liar(state), is_text=True)
        seeds += [lies] * 2
    return seeds


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | list)


# --------------------------------------------------------------------------------------------------------- models


def small_model() -> "DenseModel":
    """A model of 120 vertices that is no face."""
    from geometry.morphable_model import DenseModel

    rng = np.random.default_rng(4)
    n = 120
    return DenseModel(
        name="small", licence="none", mean=rng.normal(size=(n, 3)).astype(np.float32),
        identity_basis=rng.normal(size=(2, 3 * n)).astype(np.float32), expression_basis=np.zeros((1, 3 * n), np.float32),
        identity_stddevs=np.ones(2), expression_stddevs=np.ones(1),
        triangles=np.stack([np.arange(n - 2), np.arange(1, n - 1), np.arange(2, n)], axis=1).astype(np.int32),
        landmark_vertices=np.arange(68, dtype=np.int32), regions=np.zeros(n, np.uint8),
    )  # fmt: skip


def small_basel(folder: Path) -> dict[str, Path]:
    """Model files of a face of some hundred vertices, in every format; most lack what a real one has, and are refused."""
    import h5py

    rng = np.random.default_rng(2)
    n, k = 400, 3
    mean = rng.uniform(-9e4, 9e4, (n, 3))
    basis, _ = np.linalg.qr(rng.normal(size=(3 * n, k)))
    faces = np.stack([np.arange(n - 2), np.arange(1, n - 1), np.arange(2, n)]) + 1.0
    part = {"mu": mean.reshape(-1, 1), "pc": basis, "ev": np.full((k, 1), 5e5)}
    keypoints = np.arange(1, 69)[None].astype(float)
    lp = {"mu_shape": part["mu"], "w": basis, "sigma": part["ev"], "tri": faces, "keypoints": keypoints}
    face3d = {"shapeMU": part["mu"], "shapePC": basis, "shapeEV": part["ev"], "expMU": part["mu"], "expPC": basis,
              "expEV": part["ev"], "tri": faces, "kpt_ind": keypoints}  # fmt: skip
    paths = {name: folder / name for name in ("shape.mat", "plain.mat", "BFM.mat", "bfm2017.h5")}
    scipy.io.savemat(paths["shape.mat"], lp, do_compression=True)
    scipy.io.savemat(paths["plain.mat"], lp)
    scipy.io.savemat(paths["BFM.mat"], {"model": face3d})
    with h5py.File(paths["bfm2017.h5"], "w") as file:
        for group in ("shape", "expression"):
            file[f"{group}/model/mean"] = mean.ravel() / 1000
            file[f"{group}/model/pcaBasis"] = basis
            file[f"{group}/model/pcaVariance"] = np.full(k, 1e4)
        file["shape/representer/cells"] = (faces - 1).astype(np.int32)
        file["metadata/landmarks/json"] = json.dumps([{"id": "center.nose.tip", "coordinates": [0.0, 1.0, 2.0]}])
    return paths


def models(folder: Path) -> list[Seed]:
    """Morphable models, meshes, atlases and caches."""
    import trimesh

    from geometry import load_model, save_model
    from geometry.atlas_files import open_atlas, save_atlas
    from geometry.hierarchy import build_hierarchy, cached_hierarchy
    from geometry.mesh import Mesh
    from geometry.mesh_files import load_mesh
    from geometry.morphable_model import DenseModel
    from geometry.uv import UVAtlas
    from storage.mesh_colors import file_colors

    rng = np.random.default_rng(3)
    ball = trimesh.creation.icosphere(subdivisions=2, radius=90.0)
    vertices, triangles = np.array(ball.vertices), np.array(ball.faces, dtype=np.int32)
    n = len(vertices)
    small = DenseModel(
        name="ball", licence="none", mean=vertices.astype(np.float32),
        identity_basis=rng.normal(size=(3, 3 * n)).astype(np.float32),
        expression_basis=rng.normal(size=(2, 3 * n)).astype(np.float32),
        identity_stddevs=np.ones(3), expression_stddevs=np.ones(2), triangles=triangles,
        landmark_vertices=np.arange(68, dtype=np.int32), regions=np.zeros(n, np.uint8),
    )  # fmt: skip

    def in_file(name: str, parse: Callable[[Path], str]) -> Callable[[bytes], str]:
        path = folder / name

        def read(data: bytes) -> str:
            path.write_bytes(data)
            return parse(path)

        return read

    def of_model(path: Path) -> str:
        from geometry.model_archive import SUFFIX, open_model

        loaded = open_model(path, verify=True) if path.name.endswith(SUFFIX) else load_model(path)
        return digest(loaded.fingerprint, loaded.mean_shape)

    def of_mesh(path: Path) -> str:
        read = load_mesh(path)
        colors = file_colors(path)
        return digest(read.mesh.vertices, read.mesh.triangles, None if colors is None else colors)

    def of_atlas(path: Path) -> str:
        atlas = open_atlas(path)
        return digest(atlas.uv, atlas.triangles)

    mesh, levels = Mesh(vertices, triangles), (20, 60)

    def of_hierarchy(path: Path) -> str:
        found = cached_hierarchy(mesh, cache_folder=path.parent, levels=levels)
        return digest(*(one.triangles for one in found.meshes), *(up.toarray() for up in found.up), found.n_turned)

    seeds = []
    save_model(small, folder / "ball.ffmodel.npz")
    archive = folder / "ball.ffmodel.npz"
    seeds.append(Seed("archive", archive.read_bytes(), in_file("changed.ffmodel.npz", of_model), checksummed=True))
    basel = small_basel(folder)
    for name, path in basel.items():
        kind = path.suffix
        seeds.append(Seed(name, path.read_bytes(), in_file(f"changed{kind}", of_model), family=kind))
    save_atlas(folder / "ball.npz", UVAtlas(rng.uniform(size=(n, 2)), triangles), mesh, file_vertices=np.arange(n))
    seeds.append(Seed("atlas", (folder / "ball.npz").read_bytes(), in_file("changed.npz", of_atlas), checksummed=True))
    colours = np.tile(np.array([[200, 100, 50, 255]], np.uint8), (n, 1))
    coloured = trimesh.Trimesh(vertices, triangles, vertex_colors=colours, process=False)
    for kind, options in (
        ("obj", {}),
        ("ply", {"encoding": "ascii"}),
        ("ply", {}),
        ("stl", {}),
        ("glb", {}),
        ("off", {}),
    ):
        exported = coloured.export(file_type=kind, **options)
        data = exported.encode() if isinstance(exported, str) else exported
        is_text = kind in ("obj", "off") or bool(options)
        name = f"{kind}{', text' if is_text else ''}"
        seeds.append(Seed(name, data, in_file(f"changed.{kind}", of_mesh), is_text=is_text, family=name))
    cached_hierarchy(mesh, cache_folder=folder / "cache", levels=levels)
    (cached,) = (folder / "cache").glob("*.npz")
    assert build_hierarchy(mesh, levels=levels).fingerprint in cached.name
    seeds.append(
        Seed("hierarchy's cache", cached.read_bytes(), in_file(f"cache/{cached.name}", of_hierarchy), checksummed=True)
    )
    return seeds


TARGETS: Mapping[str, Callable[[Path], Sequence[Seed]]] = {
    "annotations": annotations,
    "images": images,
    "manifests": manifests,
    "configs": configs,
    "checkpoints": checkpoints,
    "models": models,
}
"""By name: a function that makes the seeds, given a folder of its own."""


def fresh_seeds(target: str, folder: Path) -> Sequence[Seed]:
    """The seeds of a target, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return TARGETS[target](folder)

"""The z-buffer, position maps, masks, crops, light and previews: from meshes to pictures and maps.

==================================================  ================================================================
zbuffer, zbuffer_*, face_buffers*, visibility*      what is seen at each pixel, and of whom
atlas_*, position_map, landmark_texels, masks,      maps of the UV atlas
texture_map, mirrored_atlas
correspondence*, quantization, parts, field_fit,    fields: the place on the template at each pixel, and back
field_landmarks, surface_lookup*, surface_maps,
ear_field, heatmaps
crop, crop_kernel, paper_crops, windows, warp,      pictures cut and moved
warp_kernel, face_square, places, sampling
augmentation, augmentation_*, photometric,          augmentation: draws, pictures, and how labels move
moved_labels, occlusion, occluder_shapes,
surface_occluders, hashed_noise, spreads
shading, portrait, backgrounds                      the sample's pictures, in 300W-LP's own light
dressed_head, hair, glasses, clothes, lit_surface,  rendered people
surface_shading_kernel, harmonic_light, scenes,
physical_view, sensor, people_config
profiling, profiling_*, vertex_colors               photographs turned to the side
preview, fit_view, ear_view, checkerboard,          pictures for people
shaded_view, pose_grid
==================================================  ================================================================

The names below are imported when first used, so that ``import render`` costs nothing and a process that crops a picture
does not load compiled kernels. None of them is also the name of a module here: importing that would hide it.
"""

from geometry.lazy_names import lazy_names  # importing geometry finds a place for compiled kernels

_HOME = {
    "AtlasRaster": "render.atlas_raster",
    "CorrespondenceField": "render.correspondence",
    "CropConfig": "render.crop",
    "FaceBuffers": "render.face_buffers",
    "FieldFitter": "render.field_fit",
    "FieldTemplate": "render.correspondence",
    "MeshedPicture": "render.profiling",
    "PositionMap": "render.position_map",
    "ProfilingModel": "render.profiling_texture",
    "RasterBuffers": "render.zbuffer",
    "TexelSampler": "render.atlas_raster",
    "contact_sheet": "render.preview",
    "correspondence_field": "render.correspondence",
    "crop_from_landmarks": "render.crop",
    "crop_from_model": "render.position_map",
    "decode_position_maps": "render.position_map",
    "dequantize": "render.quantization",
    "draw_faces": "render.face_buffers",
    "draw_field": "render.correspondence",
    "draw_fields": "render.correspondence",
    "encode_png": "render.preview",
    "face_mask": "render.masks",
    "fit_field": "render.field_fit",
    "interpolate": "render.zbuffer",
    "landmark_sampler": "render.landmark_texels",
    "landmarks_of_field": "render.field_landmarks",
    "nearest_texels": "render.atlas_raster",
    "quantize": "render.quantization",
    "rasterize": "render.zbuffer",
    "sample_sheet": "render.preview",
    "warp_image": "render.crop",
    "weight_mask": "render.masks",
}

__all__ = sorted(_HOME)
__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__

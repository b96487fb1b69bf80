"""The decoder applies one set of rules to all files, and returns OpenCV's pixels for intact images."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from image_cases import accepted, animation, encode, flip_byte, noise, png_chunk, refused, with_exif
from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imaging import decode
from resnet50_pipeline.imaging.decode import MAX_BYTES, decode_image, describe_decoders, describe_image

# OpenCV 4.6 cannot decode GIF. Newer versions apply the orientation of a PNG, as this project does, but 4.6 does not.
NOT_IN_OPENCV = ("GIF", "PNG, EXIF", "PNG, animated", "WebP, EXIF", "WebP, animated")


def decode_with_opencv(data: bytes) -> np.ndarray:
    """Return the pixels of PaddleClas' `DecodeImage`."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("name", [name for name in accepted() if not name.startswith(NOT_IN_OPENCV)])
def test_intact_images_have_the_pixels_of_opencv(name: str):
    """The pixels are bit-identical to `cv2.imdecode(data, 1)` for JPEG, PNG, BMP and WebP."""
    np.testing.assert_array_equal(decode_image(accepted()[name]), decode_with_opencv(accepted()[name]))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_every_format(image_format: str, orientation: int):
    """Each orientation is applied to a JPEG, PNG or WebP file in the same way as OpenCV applies it to a JPEG."""
    upright = decode_image(encode(None, image_format))
    turned = decode_image(encode(None, image_format, exif=with_exif(orientation)))
    expected = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright),
    }[orientation]
    np.testing.assert_array_equal(turned, expected)
    assert describe_image(encode(None, image_format, exif=with_exif(orientation))).exif_orientation == orientation


@pytest.mark.parametrize("name", ["JPEG, XMP orientation", "WebP, XMP orientation", "PNG, EXIF in text"])
def test_other_orientations_are_not_applied_but_reported(name: str):
    """An orientation outside EXIF data is not applied, but the description mentions it."""
    assert decode_image(accepted()[name]).shape == (40, 48, 3)
    assert "orientation 6" in describe_image(accepted()[name]).ignored
    assert describe_image(accepted()[name]).exif_orientation == 1


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "GIF"])
def test_animation_gives_its_first_frame(image_format: str):
    """The first frame is decoded, and the description counts the others."""
    found = decode_image(animation(image_format)).astype(int)
    expected = decode_image(encode(noise(), image_format)).astype(int)
    assert np.abs(found - expected).mean() < 10
    assert describe_image(animation(image_format)).ignored == "2 of 3 frames"


def test_upper_bits_of_16_are_used():
    """A 16-bit PNG is decoded to its upper 8 bits, and the description says that the lower ones are ignored."""
    pixels = decode_image(accepted()["PNG, 16 bits"])
    assert pixels.max() == 255
    assert describe_image(accepted()["PNG, 16 bits"]).ignored == "8 of 16 bits per channel"


@pytest.mark.parametrize("name", refused())
def test_damaged_and_other_files_are_refused(name: str, capfd):
    """Every file in the table is rejected with a message and a remedy, and no decoder writes to the terminal."""
    with pytest.raises(ImageDecodeError) as caught:
        decode_image(refused()[name])
    assert str(caught.value)
    assert caught.value.remedy
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in refused() if "bomb" in name or "strip" in name or "scans" in name])
def test_bombs_are_refused_before_decoding(name: str):
    """Files that claim too many pixels are rejected before memory is allocated for them."""
    decode_image(encode())
    tracemalloc.start()
    with pytest.raises(ImageDecodeError):
        decode_image(refused()[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_file_over_the_limit_is_refused():
    """A file larger than 64 MiB is rejected before its format is detected."""
    with pytest.raises(ImageDecodeError, match="over the limit"):
        decode_image(encode() + bytes(MAX_BYTES))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "WEBP", "GIF"])
@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_no_prefix_of_an_image_decodes(image_format: str, fraction: float):
    """A file that ends early is rejected, no matter where it ends."""
    whole = encode(noise("P") if image_format == "GIF" else None, image_format)
    with pytest.raises(ImageDecodeError):
        decode_image(whole[: int(len(whole) * fraction)])


@given(position=st.integers(8, 5000))
@settings(max_examples=60, deadline=None)
def test_any_flipped_byte_of_a_png_is_found(position: int):
    """Each byte of a PNG is covered by a checksum, a length or the chunk order."""
    png = accepted()["PNG"]
    with pytest.raises(ImageDecodeError):
        decode_image(flip_byte(png, position % len(png)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("scan", [1, 2, 5])
def test_progressive_jpeg_without_its_last_scans_is_refused(mode: str, scan: int):
    """Missing scans, which leave a blurred image and no warning from libjpeg, are detected."""
    whole = encode(noise(mode), progressive=True)
    start = whole.rindex(b"\xff\xda")
    for _ in range(scan - 1):
        start = whole.rindex(b"\xff\xda", 0, start)
    with pytest.raises(ImageDecodeError, match=r"truncated: .*scans"):
        decode_image(whole[:start] + b"\xff\xd9")
    with pytest.raises(ImageDecodeError, match=r"truncated: .*scans"):
        describe_image(whole[:start] + b"\xff\xd9")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_tiff_is_accepted_only_on_request(compression: str | None):
    """A TIFF file is rejected by default, and decoded to its pixels with `tiff=True`."""
    data = encode(None, "TIFF", compression=compression)
    with pytest.raises(ImageDecodeError, match=r"TIFF") as caught:
        decode_image(data)
    assert "dataset.tiff" in caught.value.remedy
    assert decode_image(data, tiff=True).shape == (40, 48, 3)
    with pytest.raises(ImageDecodeError):
        decode_image(data[: len(data) // 2], tiff=True)


def test_tiff_orientation_pages_and_bits_follow_the_same_rules():
    """A TIFF is rotated according to its tag, its first page is used, and 16 bits are reduced to 8."""
    turned = encode(None, "TIFF", tiffinfo={0x0112: 6})
    assert decode_image(turned, tiff=True).shape == (48, 40, 3)
    assert describe_image(turned, tiff=True).exif_orientation == 6
    pages = encode(noise(), "TIFF", save_all=True, append_images=[noise(seed=1)])
    np.testing.assert_array_equal(decode_image(pages, tiff=True), decode_image(encode(None, "PNG")))
    assert describe_image(pages, tiff=True).ignored == "1 of 2 frames"
    deep = Image.fromarray(np.linspace(0, 65535, 1920).reshape(40, 48).astype(np.uint16))
    assert decode_image(encode(deep, "TIFF"), tiff=True).max() == 255
    dark = Image.fromarray(np.full((40, 48), 200, np.uint16))
    for image in (dark, Image.new("F", (16, 16), 0.5), Image.new("I", (16, 16), 70_000)):
        with pytest.raises(ImageDecodeError):
            decode_image(encode(image, "TIFF"), tiff=True)


def test_invalid_color_profile_is_ignored_silently(capfd):
    """An invalid color profile does not change the pixels and causes no warning, unlike in OpenCV's libpng."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[64:68] = b"\0\0\0\x07"  # an unknown rendering intent
    data = encode(None, "PNG", icc_profile=bytes(profile))
    np.testing.assert_array_equal(decode_image(data)[..., ::-1], np.asarray(noise()))
    assert capfd.readouterr().err == ""


def test_large_text_in_a_png_is_not_decompressed():
    """A text chunk that would expand to gigabytes is harmless, because only the pixels are read."""
    whole = encode(None, "PNG")
    file = io.BytesIO()
    file.write(whole[:33] + _compressed_text(200_000_000) + whole[33:])
    tracemalloc.start()
    assert decode_image(file.getvalue()).shape == (40, 48, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def _compressed_text(size: int) -> bytes:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)) + packer.flush()
    return png_chunk(b"zTXt", b"Raw profile type exif\0\0" + packed)


def test_decoders_are_named_with_their_versions():
    """The description names the libraries that actually decode images."""
    assert describe_decoders().startswith("simplejpeg ")
    assert f"Pillow {Image.__version__}" in describe_decoders()
    assert "cv2" not in vars(decode)

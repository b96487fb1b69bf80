"""Decoding notices what OpenCV does not: a file that was cut off, and one that would fill the memory."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.inspection import MAX_PIXELS as MAX_PIXELS_OF_SCAN
from resnet50_pipeline.imaging.decode import MAX_PIXELS, decode_image


def encoded(suffix: str, height: int = 64, width: int = 48) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1])


def with_thumbnail(data: bytes) -> bytes:
    """Return a JPEG that carries another one, with an end-of-image marker of its own, in an application segment."""
    thumbnail = encoded(".jpg", 8, 8)
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_image_that_was_cut_off_is_refused(suffix: str, part: float):
    """Wherever a JPEG or PNG ends too early, it is refused; OpenCV makes pixels of such a JPEG without a word."""
    data = encoded(suffix)
    cut = data[: int(len(data) * part)]
    if suffix == ".jpg":
        assert cv2.imdecode(np.frombuffer(cut, np.uint8), 1) is not None
    with pytest.raises(ImageDecodeError, match="cut off"):
        decode_image(cut)


def test_end_of_a_thumbnail_is_not_the_images():
    """A JPEG with a whole thumbnail in it that is cut off, or filled up with zeros as a crash leaves it, is refused."""
    data = with_thumbnail(encoded(".jpg"))
    assert decode_image(data).shape == (64, 48, 3)
    with pytest.raises(ImageDecodeError, match="cut off"):
        decode_image(data[:-400])
    with pytest.raises(ImageDecodeError, match="cut off"):
        decode_image(data[:-400] + bytes(400))


def test_bytes_behind_the_end_do_no_harm():
    """Something appended to a JPEG or PNG, as some cameras and downloads do, changes nothing."""
    for suffix in (".jpg", ".png"):
        np.testing.assert_array_equal(decode_image(encoded(suffix) + bytes(100)), decode_image(encoded(suffix)))


def claiming_png(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it is so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def claiming_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def claiming_gif(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("P", (8, 8)).save(content, "GIF")
    data = bytearray(content.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def test_an_empty_file_is_called_empty():
    """Not by the assertion of OpenCV's that it breaks."""
    with pytest.raises(ImageDecodeError, match=r"^a.jpg: is empty, 0 bytes; replace"):
        decode_image(b"", "a.jpg")


@pytest.mark.parametrize("claiming", [claiming_png, claiming_jpeg, claiming_gif])
def test_bomb_is_refused_by_its_header(claiming, monkeypatch):
    """More pixels than the bound are refused before OpenCV is asked to decode one."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageDecodeError, match=r"^a\.png: .*decoded; replace it by a smaller one"):
        decode_image(claiming(60000, 60000), "a.png")


def test_bound_is_that_of_the_scan():
    """What the scan accepts, training and serving decode."""
    assert MAX_PIXELS == MAX_PIXELS_OF_SCAN


def test_a_strange_colour_profile_is_passed_over_in_silence(capfd):
    """OpenCV's libpng complains of a profile that OpenCV does not apply; here the same pixels come without a word."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[64:68] = b"\0\0\0\x07"  # a rendering intent that there is not
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=bytes(profile))
    seen = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert "libpng warning: iCCP" in capfd.readouterr().err
    np.testing.assert_array_equal(decode_image(file.getvalue()), seen)
    np.testing.assert_array_equal(seen[..., ::-1], pixels)
    assert capfd.readouterr().err == ""

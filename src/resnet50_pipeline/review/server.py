"""Serves the review page on 127.0.0.1.

The address contains a random token, as in Jupyter, so that other users of the machine cannot open the page. Requests
with a foreign Host or Origin header are rejected, so that no website can reach the server through a name that resolves
to 127.0.0.1 (DNS rebinding). Images are addressed by the number of their candidate, so no other files can be requested.
"""

from __future__ import annotations

import functools
import json
import logging
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import cv2
from pydantic import ConfigDict

from resnet50_pipeline.exceptions import ImageDecodeError, ParameterError
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.imaging.decode import decode_reduced
from resnet50_pipeline.review.candidates import Decisions

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
THUMBNAIL_SIDE, LARGE_SIDE = 160, 640
_FILES = {"": "review.html", "review.js": "review.js", "review.css": "review.css"}
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
# Encoding a WebP file takes 30 times as long as a JPEG.
_JPEG_QUALITY = 90
# Compression artifacts would dominate small images.
_SIDE_KEPT_LOSSLESS = 64
_MAX_BODY_BYTES = 1000
_CACHED_IMAGES = 4000
_POLICY = "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; connect-src 'self'"


class _Decision(FrozenModel):
    """The body of a request to save a decision."""

    model_config = ConfigDict(strict=True)

    index: int
    action: str | None
    label: int | None


class ReviewServer(ThreadingHTTPServer):
    """A server for one review.

    Attributes:
        token: random string with which every path starts.
        url: address of the page.
    """

    daemon_threads = True

    def __init__(
        self,
        port: int,
        describe: Callable[[], object],
        decisions: Decisions,
        read: Callable[[int], bytes],
        *,
        tiff: bool = False,
    ) -> None:
        """Listen on a port.

        Args:
            port: port to listen on, or 0 for a free one.
            describe: returns the data for the page.
            decisions: saves the decisions.
            read: returns the bytes of a candidate's image. It raises IndexError if there is no such candidate.
            tiff: whether to decode TIFF files.

        Raises:
            ParameterError: if the port is in use or needs more privileges.
        """
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ParameterError(
                f"{HOST}:{port}: the server cannot listen there ({error.strerror}) → choose another --port"
            ) from error
        self.token = secrets.token_urlsafe(24)
        self.describe, self.decisions = describe, decisions
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.url = f"http://{HOST}:{self.server_port}/{self.token}/"
        # One cache per server, shared by its threads.
        self.encode = functools.lru_cache(_CACHED_IMAGES)(functools.partial(encode_image, read, tiff=tiff))

    def handle_error(self, request: object, client_address: object) -> None:
        """Print the traceback of an error, unless a browser canceled the request for an image that scrolled away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class EncodedImage(NamedTuple):
    """An encoded image and its media type."""

    media_type: str
    data: bytes


def encode_image(read: Callable[[int], bytes], index: int, side: int, *, tiff: bool = False) -> EncodedImage:
    """Encode an image with sides of at most `side` pixels: small images as PNG, others as JPEG.

    Images within this limit are not resized.

    Raises:
        IndexError: if there is no such image.
        OSError: if the file cannot be read.
        ImageDecodeError: if the file is not an image.
    """
    pixels = decode_reduced(read(index), side, tiff=tiff)
    height, width = pixels.shape[:2]
    if max(height, width) <= _SIDE_KEPT_LOSSLESS:
        return EncodedImage("image/png", cv2.imencode(".png", pixels)[1].tobytes())
    if (scale := side / max(height, width)) < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return EncodedImage("image/jpeg", data)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._authorize()
        if path is None:
            return
        if path in _FILES:
            file = Path(__file__).parent / "templates" / _FILES[path]
            self._send(HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix])
        elif path == "data":
            self._send(HTTPStatus.OK, json.dumps(self.server.describe()).encode(), "application/json")
        else:
            self._send_image(path)

    def do_POST(self) -> None:
        path = self._authorize()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        is_json = self.headers.get_content_type() == "application/json"  # a form on another website cannot send JSON
        if path != "decide" or not is_json or not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST, "not a decision")
            return
        try:
            decision = _Decision.model_validate_json(self.rfile.read(int(length)))
            self.server.decisions.decide(decision.index, decision.action, decision.label)
        except ValueError as error:  # pydantic's ValidationError is a ValueError
            self._refuse(HTTPStatus.BAD_REQUEST, f"invalid decision: {error}")
        except OSError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{self.server.decisions.path}: {error.strerror}")
        else:
            self._send(HTTPStatus.OK, json.dumps({"decided": len(self.server.decisions)}).encode(), "application/json")

    def _authorize(self) -> str | None:
        """Return the path after the token, or None if the request was rejected."""
        origin = self.headers.get("Origin")
        is_own_origin = origin is None or origin in {f"http://{host}" for host in self.server.hosts}
        if self.headers.get("Host") not in self.server.hosts or not is_own_origin:
            self._refuse(HTTPStatus.FORBIDDEN, "the Host or Origin header is not allowed")
            return None
        _, _, rest = self.path.partition("?")[0].partition("/")
        token, separator, path = rest.partition("/")
        if not separator or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address printed by the command")
            return None
        return path

    def _send_image(self, path: str) -> None:
        kind, _, number = path.partition("/")
        side = {"thumbnail": THUMBNAIL_SIDE, "large": LARGE_SIDE}.get(kind)
        if side is None or not (number.isascii() and number.isdigit()):
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        try:
            image = self.server.encode(int(number), side)
        except IndexError:
            self._refuse(HTTPStatus.NOT_FOUND, "no such image")
        except (OSError, ImageDecodeError) as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        else:
            self._send(HTTPStatus.OK, image.data, image.media_type, cache="private, max-age=3600")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        # The body of a rejected request is not read, so the connection cannot be reused.
        self.close_connection = True
        self._send(status, message.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, data: bytes, content_type: str, *, cache: str = "no-store") -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(data)),
            "Cache-Control": cache,
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug("%s", format % args)

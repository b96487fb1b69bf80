"""Reads the structure of image files without decoding them: format, frames, checksums, orientation and end.

    identify        detects the format from the content
    orientation     reads the orientation in EXIF and XMP data
    png, webp, gif, bmp
                    read one container format each; see `imaging.jpeg_stream` for JPEG

Every reader raises `DamagedImageError` for a truncated or inconsistent file.
"""

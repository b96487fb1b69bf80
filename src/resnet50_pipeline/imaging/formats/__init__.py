"""Reads the structure of image files without decoding them: format, frames, checksums, orientation, and the end.

    identify        detects the format from the content, and explains why a format is not accepted
    orientation     reads the orientation in EXIF and XMP data
    png, webp, gif, bmp
                    one module per container; JPEG has `imaging.jpeg_stream`

Every reader raises `DamagedImageError` for a truncated or inconsistent file.
"""

"""Serves a local page for reviewing the images in a fix list or in the findings of Data Docs."""

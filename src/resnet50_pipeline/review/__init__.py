"""A local page on which a person decides what to do with the images of a fix list or of findings."""

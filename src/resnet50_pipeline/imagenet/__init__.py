"""The files and classes of an ImageNet folder: where they are, what is in them, whether they are whole."""

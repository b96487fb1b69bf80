"""Names the 15 corruptions of ImageNet-C and their categories."""

CATEGORIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CATEGORY_OF = {name: category for category, names in CATEGORIES.items() for name in names}
CORRUPTIONS = tuple(CATEGORY_OF)
SEVERITIES = (1, 2, 3, 4, 5)
NOTES = {"frost": "generated texture instead of photographs"}
"""Corruptions that differ from ImageNet-C in more than individual pixels."""

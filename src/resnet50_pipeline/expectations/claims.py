"""Defines the human-readable claims about a dataset, keyed by name, and the claims in each suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from resnet50_pipeline.exceptions import ParameterError

SuiteName = Literal["imagenet_layout", "ilsvrc2012"]

# Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", table 2: 732-1300 images per class
# in train/, 50 in val/.
TRAIN_IMAGES, VAL_IMAGES, CLASSES = 1_281_167, 50_000, 1_000
MIN_TRAIN_IMAGES_PER_CLASS, MAX_TRAIN_IMAGES_PER_CLASS, VAL_IMAGES_PER_CLASS = 732, 1_300, 50


@dataclass(frozen=True)
class Claim:
    """Text that describes one expectation.

    Attributes:
        name: name used in `data_validation.blocking` and in the reports.
        description: the claim, as a sentence.
        reason: why the claim matters, as one or two sentences.
        reads: part of the dataset that the scan must read to check the claim (only the folders, the image headers, or
            the full content).
    """

    name: str
    description: str
    reason: str
    reads: Literal["folders", "header", "content"] = "folders"


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "train_is_not_empty",
            "The train list contains at least one image.",
            "If a list is empty, every check of its images passes.",
        ),
        Claim(
            "val_is_not_empty",
            "The val list contains at least one image.",
            "If a list is empty, every check of its images passes.",
        ),
        Claim(
            "images_exist",
            "Every listed image exists.",
            "If an image is missing, PaddleClas silently trains on a different one.",
        ),
        Claim(
            "images_are_files",
            "Every listed image is a readable regular file.",
            "Reading from a FIFO or a device never ends, and a folder is not an image.",
        ),
        Claim(
            "images_stay_in_root",
            "No symbolic link points to an image outside the dataset root.",
            "Files outside the root are neither versioned nor copied with the dataset.",
        ),
        Claim(
            "images_decode",
            "Every pixel of every image can be decoded.",
            "Decoders invent pixels for damaged files and only warn. Training and serving reject such files.",
            reads="content",
        ),
        Claim(
            "labels_in_range",
            "Every label is in 0..class_num-1.",
            "The loss is undefined for any other label.",
        ),
        Claim(
            "labels_follow_folders",
            "All images in a class folder have the same label in every list, and no other folder uses that label.",
            "If the val labels are permuted, even a good model appears to have learned nothing.",
        ),
        Claim(
            "paths_are_unique",
            "No image is listed twice.",
            "An image with two labels is ambiguous, and a repeated image carries more weight than other images.",
        ),
        Claim(
            "copies_have_one_label",
            "Images with the same content have the same label.",
            "An image in two classes teaches the model contradictory labels. At most one of them is correct.",
            reads="content",
        ),
        Claim(
            "splits_share_no_image",
            "No image has the same content as an image in another split.",
            "Accuracy on training images does not show how well the model generalizes.",
            reads="content",
        ),
        Claim(
            "splits_share_no_near_duplicates",
            "No image looks nearly the same as an image in another split.",
            "A copy of a training image is easy to recognize, so it raises the measured accuracy.",
            reads="content",
        ),
        Claim(
            "near_duplicates_have_one_label",
            "Images that look nearly the same have the same label.",
            "The model is taught two labels for the same picture, and usually at least one of them is wrong.",
            reads="content",
        ),
        Claim(
            "every_class_has_train_images",
            "Every label in 0..class_num-1 has images in the train list.",
            "The model cannot learn a class without images. Usual causes: a wrong class_num or an incomplete copy.",
        ),
        Claim(
            "val_has_the_classes_of_train",
            "The train and val lists contain images of the same classes.",
            "The accuracy of a class without val images cannot be measured.",
        ),
        Claim(
            "no_unlisted_images",
            "Every image in the dataset folder is in a list.",
            "Unlisted images are not used. The list may be out of date.",
        ),
        Claim(
            "no_other_files",
            "Every file in the dataset folder is in a list or has an image suffix.",
            "Images without a recognized suffix, such as .jfif or .heic files, are used only if a list contains them.",
        ),
        Claim(
            "images_are_unique",
            "No two images in the same split have the same content.",
            "Duplicates carry more weight than other images. ImageNet itself contains some duplicates.",
            reads="content",
        ),
        Claim(
            "images_are_not_blank",
            "No image consists of a single color.",
            "A blank image does not show its class. It may be a placeholder or the result of a failed download.",
            reads="content",
        ),
        Claim(
            "images_are_not_dark",
            "No image is much darker than the rest of the dataset.",
            "An underexposed image may not show its class.",
            reads="content",
        ),
        Claim(
            "images_are_not_bright",
            "No image is much brighter than the rest of the dataset.",
            "An overexposed image may not show its class.",
            reads="content",
        ),
        Claim(
            "images_are_not_blurred",
            "No image is much less sharp than the rest of the dataset.",
            "A blurred image lacks the details that distinguish similar classes.",
            reads="content",
        ),
        Claim(
            "images_have_detail",
            "No image has much less detail than the rest of the dataset.",
            "An image with few gray values is often an icon, a scan or a screenshot rather than a photograph.",
            reads="content",
        ),
        Claim(
            "aspect_ratios_are_usual",
            "No image has an unusual aspect ratio.",
            "Training and evaluation crops show only a small part of a very wide or tall image.",
            reads="header",
        ),
        Claim(
            "sizes_fit_their_class",
            "No image is much smaller or larger than the other images of its class.",
            "These images often come from a different source (for example, thumbnails) or have a wrong label.",
            reads="header",
        ),
        Claim(
            "images_are_as_they_were",
            "Every image that is also in data_validation.reference_manifest still has the same digest.",
            "A flipped bit may leave an image decodable. Only a comparison with an earlier digest reveals the damage.",
            reads="content",
        ),
        Claim(
            "nothing_stands_behind_images",
            "No image file has data after the end of the image.",
            "Decoders ignore such data. It may be a fragment of another file or hidden content.",
            reads="header",
        ),
        Claim(
            "images_are_used_in_full",
            "Each image has one frame, 8 bits per channel, and no orientation outside EXIF data.",
            "Decoding returns only the first frame and the upper 8 bits of each sample. It applies the EXIF "
            "orientation, but ignores orientation stored anywhere else.",
            reads="header",
        ),
        Claim(
            "images_are_jpeg",
            "Every image contains JPEG data, except for the one known PNG in ILSVRC2012.",
            "Other formats can be used for training, but they show that the dataset was modified.",
            reads="header",
        ),
        Claim(
            "images_are_rgb_or_grey",
            "Every image is RGB or grayscale, except for the 22 known CMYK images in ILSVRC2012.",
            "Other images are converted during decoding, which changes colors or drops transparency.",
            reads="header",
        ),
        Claim(
            "images_are_upright",
            "No image is rotated by its EXIF orientation, and all EXIF data is readable.",
            "This project rotates such images in training, evaluation and serving; other programs may not.",
            reads="header",
        ),
        Claim(
            "names_end_in_jpeg",
            "Every file name ends in .JPEG.",
            "All ImageNet files have this suffix. Files that end in .jpg or .png come from a different source.",
        ),
    )
}

ILSVRC2012_CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "train_has_1281167_images",
            "The train list contains the 1,281,167 images of ILSVRC2012.",
            "If images are missing, an archive was not fully unpacked. Published accuracies are based on all images.",
        ),
        Claim(
            "val_has_50000_images",
            "The val list contains the 50,000 images of ILSVRC2012.",
            "Accuracy on a subset cannot be compared with published results.",
        ),
        Claim(
            "train_has_1000_classes",
            "train/ contains images of 1000 classes.",
            "ILSVRC2012 has 1000 classes.",
        ),
        Claim(
            "synsets_are_those_of_ilsvrc2012",
            "The class folders in train/ are the 1000 synsets of ILSVRC2012.",
            "A model for other synsets, such as those of an earlier year, solves a different task.",
        ),
        Claim(
            "labels_follow_sorted_synsets",
            "The label of each class is the 0-based position of its synset in the sorted list of synsets.",
            "Published weights and lists use this order. The development kit's ILSVRC2012_ID uses a different order "
            "and starts at 1.",
        ),
        Claim(
            "train_classes_have_732_to_1300_images",
            "Each class has 732 to 1300 images in train/.",
            "A class with fewer images was not fully unpacked, and one with more contains images of another class.",
        ),
        Claim(
            "val_classes_have_50_images",
            "Each class has 50 images in val/.",
            "If val labels are assigned incorrectly, this count is usually wrong.",
        ),
        Claim(
            "known_png_is_there",
            "The only PNG in ILSVRC2012, n02105855_2933.JPEG, is present and still a PNG.",
            "If this image is missing or is a JPEG, the images were converted or come from a different copy.",
            reads="header",
        ),
        Claim(
            "known_cmyk_are_there",
            "The 22 CMYK images in ILSVRC2012 are present and still CMYK.",
            "If any of these images are missing or RGB, the images were converted or come from a different copy.",
            reads="header",
        ),
    )
}

SUITES: Mapping[SuiteName, Mapping[str, Claim]] = {
    "imagenet_layout": CLAIMS,
    "ilsvrc2012": {**CLAIMS, **ILSVRC2012_CLAIMS},
}


def require_known_names(names: Iterable[str], suite: SuiteName = "imagenet_layout") -> None:
    """Raise an error if a name is not an expectation in `suite`.

    Raises:
        ParameterError: if a name is unknown or belongs to another suite. The message lists these names.
    """
    names = set(names)
    if unknown := sorted(names - set(SUITES["ilsvrc2012"])):
        raise ParameterError(
            f"data_validation.blocking contains unknown expectations: {', '.join(unknown)} → "
            f"choose from {', '.join(SUITES[suite])}"
        )
    if foreign := sorted(names - set(SUITES[suite])):
        raise ParameterError(
            f"data_validation.blocking contains expectations that are not in the {suite} suite: {', '.join(foreign)} → "
            "remove these expectations, or set data_validation.suite: ilsvrc2012"
        )

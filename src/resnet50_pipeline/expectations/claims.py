"""What is expected of a data set, as people read it: the claims by name, and which suite makes which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from resnet50_pipeline.exceptions import ParameterError

SuiteName = Literal["imagenet_layout", "ilsvrc2012"]

# Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge", table 2: 732-1300 images a class in
# train/, 50 in val/.
TRAIN_IMAGES, VAL_IMAGES, CLASSES = 1_281_167, 50_000, 1_000
MIN_TRAIN_IMAGES_PER_CLASS, MAX_TRAIN_IMAGES_PER_CLASS, VAL_IMAGES_PER_CLASS = 732, 1_300, 50


@dataclass(frozen=True)
class Claim:
    """What an expectation says to a person.

    Attributes:
        name: as `data_validation.blocking` and the reports name it.
        description: the claim, a sentence.
        reason: why it matters, a sentence.
        reads: what a scan must have read of the images for the claim to be checked at all: nothing but the folders,
            the headers of the images, or their whole content.
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
            "The list of train/ names at least one image.",
            "Every claim about images holds for none at all.",
        ),
        Claim(
            "val_is_not_empty",
            "The list of val/ names at least one image.",
            "Every claim about images holds for none at all.",
        ),
        Claim(
            "images_exist",
            "Every image that a list names is there.",
            "PaddleClas trains on another image in place of one that is missing.",
        ),
        Claim(
            "images_are_files",
            "Every image that a list names is a regular file that can be read.",
            "Reading a FIFO or a device never ends; a folder is no image.",
        ),
        Claim(
            "images_stay_in_root",
            "No image lies outside the dataset root by way of a symbolic link.",
            "What lies outside is neither versioned nor copied along.",
        ),
        Claim(
            "images_decode",
            "Every pixel of every image can be decoded.",
            "OpenCV decodes a file that was cut off without a word and makes up the rest.",
            reads="content",
        ),
        Claim(
            "labels_in_range",
            "Every label is one of 0..class_num-1.",
            "The loss of any other label is not defined.",
        ),
        Claim(
            "labels_follow_folders",
            "All images of a class folder have one label, in train/ and in val/, and no other folder has it.",
            "A val list with permuted labels looks like a model that learns nothing.",
        ),
        Claim(
            "paths_are_unique",
            "No image is named twice.",
            "An image with two labels contradicts itself, one that is repeated counts more than others.",
        ),
        Claim(
            "splits_share_no_image",
            "No image of val/ has the content of one of train/.",
            "Accuracy on images that were trained on says nothing.",
            reads="content",
        ),
        Claim(
            "every_class_has_train_images",
            "Each of the labels 0..class_num-1 has images in train/.",
            "A class without images cannot be learned; usually class_num is wrong, or folders were not copied.",
        ),
        Claim(
            "val_has_the_classes_of_train",
            "val/ has images of the very classes that train/ has.",
            "The accuracy of a class without val images is unknown.",
        ),
        Claim(
            "no_unlisted_images",
            "Every image below train/ and val/ is named by a list.",
            "Images that no list names are not trained on; perhaps a list is out of date.",
        ),
        Claim(
            "images_are_unique",
            "No two images of a split have the same content.",
            "Copies weigh more than other images. ImageNet itself has some.",
            reads="content",
        ),
        Claim(
            "images_are_as_they_were",
            "Every image that data_validation.reference_manifest has as well still has the digest that it has there.",
            "A bit that flipped on the disk may decode; only a digest that was taken before tells.",
            reads="content",
        ),
        Claim(
            "nothing_stands_behind_images",
            "No image file goes on behind the end of its image.",
            "What a decoder never looks at may be a part of another file, or something that was hidden.",
            reads="header",
        ),
        Claim(
            "images_are_jpeg",
            "Every image is a JPEG file by content, the known PNG of ILSVRC2012 aside.",
            "Others train just as well, but show that the folder is not what it was.",
            reads="header",
        ),
        Claim(
            "images_are_rgb_or_grey",
            "Every image is RGB or grey, the 22 known CMYK images of ILSVRC2012 aside.",
            "Others are converted while decoding, which changes colours or drops transparency.",
            reads="header",
        ),
        Claim(
            "images_are_upright",
            "No image needs to be turned by an EXIF orientation, and all EXIF data can be read.",
            "Training, evaluation and serving here turn such images alike; other programs may not.",
            reads="header",
        ),
        Claim(
            "names_end_in_jpeg",
            "Every image's name ends in .JPEG.",
            "ImageNet's do; .jpg or .png beside them come from somewhere else.",
        ),
    )
}

ILSVRC2012_CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "train_has_1281167_images",
            "The list of train/ names the 1,281,167 images of ILSVRC2012.",
            "With fewer, an archive was not unpacked to its end; the accuracy of the field is that of all of them.",
        ),
        Claim(
            "val_has_50000_images",
            "The list of val/ names the 50,000 images of ILSVRC2012.",
            "Accuracy on a part of them cannot be compared with what others report.",
        ),
        Claim(
            "train_has_1000_classes",
            "train/ has images of 1000 labels.",
            "ILSVRC2012 has 1000 classes.",
        ),
        Claim(
            "synsets_are_those_of_ilsvrc2012",
            "The class folders of train/ are the thousand synsets of ILSVRC2012.",
            "Another thousand (those of the years before, say) is another task.",
        ),
        Claim(
            "labels_follow_sorted_synsets",
            "The label of a class is the place of its synset among the sorted synsets, from 0.",
            "Published weights and lists count so. The development kit's ILSVRC2012_ID counts otherwise, from 1.",
        ),
        Claim(
            "train_classes_have_732_to_1300_images",
            "Each class has 732 to 1300 images in train/.",
            "A class with fewer was not unpacked to its end, one with more has images of another.",
        ),
        Claim(
            "val_classes_have_50_images",
            "Each class has 50 images in val/.",
            "A val list whose labels were assigned wrongly shows here first.",
        ),
        Claim(
            "known_png_is_there",
            "The one PNG of ILSVRC2012, n02105855_2933.JPEG, is there, and is one.",
            "Where it is missing or a JPEG, the images were converted or come from another copy.",
            reads="header",
        ),
        Claim(
            "known_cmyk_are_there",
            "The 22 CMYK images of ILSVRC2012 are there, and are CMYK.",
            "Where they are missing or RGB, the images were converted or come from another copy.",
            reads="header",
        ),
    )
}

SUITES: Mapping[SuiteName, Mapping[str, Claim]] = {
    "imagenet_layout": CLAIMS,
    "ilsvrc2012": {**CLAIMS, **ILSVRC2012_CLAIMS},
}


def check_names(names: Iterable[str], suite: SuiteName = "imagenet_layout") -> None:
    """Make sure that all `names` are names of expectations of `suite`.

    Raises:
        ParameterError: with those that are not.
    """
    names = set(names)
    if unknown := sorted(names - set(SUITES["ilsvrc2012"])):
        raise ParameterError(
            f"data_validation.blocking names expectations that do not exist: {', '.join(unknown)} → "
            f"choose from {', '.join(SUITES[suite])}"
        )
    if foreign := sorted(names - set(SUITES[suite])):
        raise ParameterError(
            f"data_validation.blocking names expectations that the suite {suite} does not have: {', '.join(foreign)} → "
            "set data_validation.suite: ilsvrc2012, or take them out"
        )

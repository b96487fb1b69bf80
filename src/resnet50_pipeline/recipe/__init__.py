"""Models for training recipes, which define both `params:training` and the PaddleClas YAML file.

    Global:
      device: gpu
      epochs: 120
      …
    Arch: {name: ResNet50, class_num: 1000, pretrained: false}

The file has the same keys as `ppcls/configs/ImageNet/ResNet/ResNet50.yaml` (release/2.6). Keys that are not declared
here are rejected. The description of a key starts with *native* if upstream ignores it and only the native trainer
reads it.

Models without the `Config` suffix contain the settings in `params:training`. Models with the suffix add the keys that
only the YAML file has.

Import from the individual modules: `data_loader` and `document` import OpenCV, but the modules for the parameters do
not.
"""

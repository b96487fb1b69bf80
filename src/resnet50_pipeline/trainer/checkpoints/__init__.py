"""Saves and loads checkpoint sets, and resumes from them.

`resnet50_pipeline/checkpoint_set.py` defines the format on disk. The modules in this package use it in the ranks:

    host_copies     copies tensors to host memory that all sets share
    saver           writes a set in a thread while training continues
    resume          finds the step at which a resumed run continues
    compatibility   rejects a set that was trained with a different recipe or different data
    weights         loads a set's weights into the network
    pretrained      loads pretrained weights from a file, with or without the classifier head
"""

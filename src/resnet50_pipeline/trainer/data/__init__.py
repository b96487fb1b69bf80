"""A rank's input pipeline, from list files to batches on the device.

Each module imports only modules above it in this list:

    sampling    assigns images to ranks and steps, based on the seed, the epoch and the rank
    dataset     reads, decodes and augments an image
    batches     builds a batch in host memory, with mixup or CutMix
    buffers     provides reusable memory that the rank shares with worker processes
    workers     loads batches in worker processes, ahead of the training step
    on_device   copies batches to the device, and normalizes and mixes them there
    loader      combines these modules as an iterator of batches
    dali        provides the same iterator with NVIDIA DALI as the decoder
"""

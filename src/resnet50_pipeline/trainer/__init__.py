"""The program that each rank runs. It trains, evaluates or exports the network described by a PaddleClas YAML file.

`python -m paddle.distributed.launch` starts `__main__.py` once per device. The main modules and packages are:

    training            the training loop, with starting_point, checkpointing and validation
    evaluation          predictions for all images of a list
    export              export of the inference model
    step                one optimizer step, and the state that a checkpoint set contains
    optimization        optimizer, schedule, losses, mixed precision, averaged weights
    checkpoints         saving, resuming, pretrained weights
    data                the input pipeline, from list files to batches on the device
    ranks               collective operations
    heartbeat, stopping signals to and from the supervisor
    probes              programs that inspect Paddle and its devices

Ranks exchange only files with the rest of the project. They read the YAML file and the list files, and write
`events.jsonl`, heartbeats, predictions and checkpoint sets. Nothing here imports Kedro, MLflow, pandas or Great
Expectations.
"""

"""Freezes layers for the whole run (`Arch.freeze`), or only until a given epoch (`Arch.thaw_epoch`).

Neither the weights nor the BatchNorm statistics of frozen layers change. BatchNorm normalizes with its running
statistics, because the frozen weights were trained with these statistics. `Layer.train` does not undo this, because
`_use_global_stats` is not part of a layer's mode.
"""

from __future__ import annotations

import fnmatch

import paddle

from resnet50_pipeline.exceptions import TrainingConfigError


def freeze_layers(network: paddle.nn.Layer, patterns: tuple[str, ...]) -> None:
    """Freeze the layers that match the patterns for the whole run. Their parameters receive no gradients.

    Raises:
        TrainingConfigError: if a pattern matches no layer, or all parameters are frozen.
    """
    for layer in find_layers(network, patterns):
        for parameter in layer.parameters(include_sublayers=False):
            parameter.stop_gradient = True
        if hasattr(layer, "_use_global_stats"):
            layer._use_global_stats = True


class ThawingLayers:
    """Layers that are frozen until a given epoch.

    Their gradients are computed from the start and removed by `drop_gradients`, because DataParallel shares gradients
    only for parameters that are trainable when the run starts.
    """

    def __init__(self, network: paddle.nn.Layer, patterns: tuple[str, ...], thaw_epoch: int) -> None:
        """Freeze the layers.

        Args:
            network: network with the layers.
            patterns: glob patterns for layer names.
            thaw_epoch: first epoch (1-based) in which the layers are trained.

        Raises:
            TrainingConfigError: if a pattern matches no layer, or all parameters are frozen.
        """
        layers = find_layers(network, patterns)
        frozen = {id(p) for layer in layers for p in layer.parameters(include_sublayers=False)}
        self._parameters = {name: p for name, p in network.named_parameters() if id(p) in frozen}
        self._norms = [(layer, layer._use_global_stats) for layer in layers if hasattr(layer, "_use_global_stats")]
        self._thaw_epoch = thaw_epoch
        self.start_epoch(1)

    def start_epoch(self, epoch: int) -> None:
        """Freeze or thaw the layers for an epoch (1-based)."""
        self._are_frozen = epoch < self._thaw_epoch
        for norm, as_built in self._norms:
            norm._use_global_stats = True if self._are_frozen else as_built

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters that are frozen in the current epoch."""
        return frozenset(self._parameters) if self._are_frozen else frozenset()

    def drop_gradients(self) -> None:
        """Remove the gradients of frozen parameters, so that the optimizer skips these parameters.

        Call this method before each step.
        """
        for name in self.frozen:
            # A zero gradient is not enough, because weight decay and momentum would still change the weights.
            self._parameters[name].clear_gradient(False)


def find_layers(network: paddle.nn.Layer, patterns: tuple[str, ...]) -> list[paddle.nn.Layer]:
    """Return the layers whose names match a pattern, and all layers inside them, without duplicates.

    Raises:
        TrainingConfigError: if a pattern matches no layer, or the layers contain all parameters of the network.
    """
    found: dict[int, paddle.nn.Layer] = {}
    for pattern in patterns:
        matched = [layer for name, layer in network.named_sublayers() if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            known = ", ".join(name for name, _ in network.named_children())
            raise TrainingConfigError(
                f"Arch.freeze: {pattern} matches no layer of {type(network).__name__}; choose from its top-level "
                f"layers ({known}) or their sublayers, such as blocks.0"
            )
        found |= {id(inner): inner for layer in matched for inner in layer.sublayers(include_self=True)}
    parameters = sum(len(layer.parameters(include_sublayers=False)) for layer in found.values())
    if parameters == len(network.parameters()):
        raise TrainingConfigError(f"Arch.freeze: {list(patterns)} freezes all parameters; keep at least the head (fc)")
    return list(found.values())

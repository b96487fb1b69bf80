"""Environment variables for a deterministic run, and the operators that remain nondeterministic."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXHAUSTIVE_SEARCH = "FLAGS_cudnn_exhaustive_search"
_DETERMINISTIC = "FLAGS_cudnn_deterministic"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
# The values listed in cuBLAS' documentation.
_REPRODUCIBLE_WORKSPACES = (":4096:8", ":16:8")
# - Paddle: algorithms for the gradients of convolutions and of max pooling (conv_grad_kernel.cu, pool_grad_kernel.cu).
#   Paddle rejects this flag in combination with exhaustive search.
# - cuBLAS: one workspace per stream (cuBLAS documentation, "Results Reproducibility").
# - NCCL: the same algorithm in every run. By default, NCCL chooses an algorithm based on size and topology.
_ENVIRONMENT = MappingProxyType(
    {
        _DETERMINISTIC: "True",
        EXHAUSTIVE_SEARCH: "False",
        _WORKSPACE: _REPRODUCIBLE_WORKSPACES[0],
        "NCCL_ALGO": "Ring",
    }
)
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


def add_deterministic_flags(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the ranks' variables, including those that make the operators on NVIDIA GPUs deterministic.

    Raises:
        ValueError: if a variable in `environment` contradicts them.
    """
    if environment.get(EXHAUSTIVE_SEARCH, "").lower() in _TRUE:
        raise ValueError(
            f"deterministic is true, but launch.environment.{EXHAUSTIVE_SEARCH} is "
            f"{environment[EXHAUSTIVE_SEARCH]!r}, so each run may choose different algorithms; set the variable to "
            '"False", or set deterministic to false'
        )
    if _DETERMINISTIC in environment and environment[_DETERMINISTIC].lower() not in _TRUE:
        raise ValueError(
            f"deterministic is true, but launch.environment.{_DETERMINISTIC} is {environment[_DETERMINISTIC]!r}; "
            "remove the variable, or set deterministic to false"
        )
    if environment.get(_WORKSPACE, _REPRODUCIBLE_WORKSPACES[0]) not in _REPRODUCIBLE_WORKSPACES:
        raise ValueError(
            f"deterministic is true, but launch.environment.{_WORKSPACE} is {environment[_WORKSPACE]!r}; set it to "
            f"{' or '.join(_REPRODUCIBLE_WORKSPACES)}, or set deterministic to false"
        )
    return {**_ENVIRONMENT, **environment}


def list_nondeterministic_operators(*, ranks: int, has_fixed_reduction: bool, use_dali: bool) -> list[str]:
    """Return the operators in a training step that have no deterministic version on NVIDIA GPUs, each with its remedy.

    In Paddle 2.6, the gradients of convolution and max pooling are the only operators in the step that can add values
    in a random order, and the flags make them deterministic. All other kernels in the step (BatchNorm, ReLU, addition,
    average pooling, matrix product, cross-entropy, check_finite_and_unscale, Momentum, AdamW) use a fixed order.

    Args:
        ranks: number of ranks.
        has_fixed_reduction: whether gradients are added in the order of the virtual ranks.
        use_dali: whether DALI decodes images.
    """
    found = []
    if ranks > 2 and not has_fixed_reduction:
        found.append(
            "all_reduce over more than two ranks (NCCL keeps the order only if the topology is the same; set "
            "training.virtual_ranks)"
        )
    if use_dali:
        found.append("DALI's image decoder (nvJPEG gives no guarantee; set training.loader.use_dali: false)")
    return found

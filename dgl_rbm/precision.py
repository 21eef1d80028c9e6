"""Mixed precision of training steps.

With ``precision: bf16`` the matrix products of a training step's forward pass run in bfloat16 under `torch.autocast`.
bfloat16 has the exponent range of float32, so no loss scaling is needed. These stay in float32:

- parameters, their gradients, the optimiser's state, and everything that is saved;
- routing (scores, gates and their softmax): eight bits of mantissa turn near-equal scores into ties, and the row would
  be routed differently in serving;
- memories, k-means, losses and penalties, and the teacher's logits, which are targets;
- sums over neighbours, which lose small terms beside large sums, and products with sparse matrices, which torch does
  not compute in bfloat16 on CPUs;
- everything outside of training steps: the validated model is the saved and served model.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from dgl_rbm.errors import ConfigError

__all__ = ["FIRST_BF16_CAPABILITY", "Precision", "autocast_inputs", "check_precision", "in_float32", "mixed_precision"]

Precision = Literal["float32", "bf16"]

# Older GPUs emulate bfloat16, which is slower than float32.
FIRST_BF16_CAPABILITY = (8, 0)
# The functions with a device argument came with torch 2.4, which deprecates the function for CPUs.
_BY_DEVICE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def check_precision(
    precision: Precision, device: torch.device, *, where: str, capability: tuple[int, int] | None = None
) -> None:
    """Raise an error if `device` does not support training in this precision.

    Parameters
    ----------
    precision : {"float32", "bf16"}
    device : torch.device
        Device of the training. Every CPU supports bfloat16, though few are fast at it.
    where : str
        Path of the option, for the message.
    capability : (int, int), optional
        Compute capability of the GPU; torch's value by default.

    Raises
    ------
    ConfigError
        If the GPU's compute capability is below 8.0.
    """
    if precision == "float32" or device.type != "cuda":
        return
    if capability is None:
        capability = torch.cuda.get_device_capability(device)
    if capability < FIRST_BF16_CAPABILITY:
        found, needed = (".".join(map(str, version)) for version in (capability, FIRST_BF16_CAPABILITY))
        raise ConfigError(
            f"{where} is 'bf16', but the GPU {device} has compute capability {found}; bfloat16 needs {needed}.",
            hint=f"Use --set {where}=float32.",
        )


def mixed_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a context that runs forward passes on `device` in this precision."""
    if precision == "float32":
        return nullcontext()
    # The cache of converted weights ends with the outermost context, which may be a caller's: later steps would use the
    # weights of the first one.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that keeps the dtype of inputs of operations on `device`, even under autocast."""
    # Entering costs microseconds, a noticeable part of the prediction of a single row.
    return torch.autocast(device.type, enabled=False) if autocast_enabled(device) else nullcontext()


def autocast_inputs(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast the tensors to autocast's dtype on their device; return them unchanged if autocast is off.

    For functions that autocast does not cover; gradients pass through.
    """
    device = tensors[0].device
    if not autocast_enabled(device):
        return tensors
    if _BY_DEVICE:
        dtype = torch.get_autocast_dtype(device.type)
    else:
        dtype = torch.get_autocast_cpu_dtype() if device.type == "cpu" else torch.get_autocast_gpu_dtype()
    return tuple(tensor.to(dtype) for tensor in tensors)


def autocast_enabled(device: torch.device) -> bool:
    """Whether autocast is on for `device`."""
    if _BY_DEVICE:
        return torch.is_autocast_enabled(device.type)
    return torch.is_autocast_cpu_enabled() if device.type == "cpu" else torch.is_autocast_enabled()

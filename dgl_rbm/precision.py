"""Mixed precision: which part of a training step may run in bfloat16, and which may not.

With ``precision: bf16`` the matrix products of a training step's forward pass run in bfloat16 under
`torch.autocast`; bfloat16 has the exponents of float32, so that no loss scaling is needed. These stay in float32:

- parameters, their gradients, the optimiser's state, and all that is saved;
- routing (cosines, gates and their softmax): eight bits of mantissa make ties out of near cosines, and a row
  would go to another expert than it does when it is served;
- memories, k-means, losses and penalties, and the teacher's logits, which are targets;
- sums over neighbours, which lose small terms beside large sums, and products with sparse matrices, for which
  torch has no bfloat16 on CPUs;
- everything outside of training steps: what is validated and selected is what is saved and served.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from dgl_rbm.errors import ConfigError

__all__ = ["FIRST_BF16_CAPABILITY", "Precision", "check_precision", "in_float32", "lowered", "mixed_precision"]

Precision = Literal["float32", "bf16"]

# Older GPUs only emulate bfloat16, slower than float32.
FIRST_BF16_CAPABILITY = (8, 0)
# Since torch 2.4; the function for CPUs alone is deprecated from there on.
_ASKS_BY_DEVICE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def check_precision(
    precision: Precision, device: torch.device, *, where: str, capability: tuple[int, int] | None = None
) -> None:
    """Raise an error where `device` cannot train in this precision.

    Parameters
    ----------
    precision : {"float32", "bf16"}
    device : torch.device
        Where the training takes place. Every CPU computes in bfloat16, though few do so quickly.
    where : str
        The option's path, for the message.
    capability : (int, int), optional
        The GPU's compute capability; asked of torch by default.

    Raises
    ------
    ConfigError
        Where the GPU is older than NVIDIA's compute capability 8.0.
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
    """Return a context in which forward passes on `device` run in this precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations on `device` keep the dtype of their inputs, also under autocast."""
    # Entering costs microseconds, which the prediction of a single row would feel.
    return torch.autocast(device.type, enabled=False) if autocasts(device) else nullcontext()


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in the type that autocast computes in on their device; as they are where it is off.

    For functions that autocast knows nothing of; gradients flow through.
    """
    device = tensors[0].device
    if not autocasts(device):
        return tensors
    if _ASKS_BY_DEVICE:
        dtype = torch.get_autocast_dtype(device.type)
    else:
        dtype = torch.get_autocast_cpu_dtype() if device.type == "cpu" else torch.get_autocast_gpu_dtype()
    return tuple(tensor.to(dtype) for tensor in tensors)


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for `device`."""
    if _ASKS_BY_DEVICE:
        return torch.is_autocast_enabled(device.type)
    return torch.is_autocast_cpu_enabled() if device.type == "cpu" else torch.is_autocast_enabled()

"""Resolution of device names."""

from __future__ import annotations

import torch

from dgl_rbm.errors import ConfigError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; ``"auto"`` is a GPU if torch finds one, else the CPU.

    Raises
    ------
    ConfigError
        If the name is invalid, or torch finds no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"There is no device '{name}'.", hint="Choices: auto, cpu, cuda, cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"The device '{name}' is not supported.", hint="Choices: auto, cpu, cuda, cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"The device '{name}' is not available: torch finds {torch.cuda.device_count()} GPUs.",
            hint="Use --device cpu, or see `dgl-rbm doctor`.",
        )
    # With its index: 'cuda' and 'cuda:0' are not equal, and torch 2.2 does not accept the former everywhere.
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device

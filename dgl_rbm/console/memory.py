"""Explanation of out-of-memory errors, for which torch has no exception of its own on a CPU, nor has DGL."""

from __future__ import annotations

import re

__all__ = ["explain_out_of_memory"]

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
_SIZE = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", re.IGNORECASE)

_HINT = (
    "Each of these needs less memory: --set teacher.training.sampler=neighbor (a smaller teacher.training.batch_size "
    "less still), --set training.batch_size=1024, --set student.hidden_dim=64, --regularizer none"
)
_GPU_HINT = (
    ", and on a GPU --set training.precision=bf16 --set teacher.training.precision=bf16, or --device cpu if the "
    "computer has more memory than the GPU"
)


def explain_out_of_memory(error: Exception) -> tuple[str, str] | None:
    """Return a message and a hint if `error` is an out-of-memory error, else None."""
    text = str(error)
    if not isinstance(error, MemoryError) and not any(sign in text.lower() for sign in _SIGNS):
        return None
    on_gpu = "CUDA" in text or "GPU" in text
    size = _SIZE.search(text)
    excess = f": {_readable(*size.groups())} more did not fit" if size else ""
    return (
        f"There is not enough memory{' on the GPU' if on_gpu else ''}{excess}.",
        f"{_HINT}{_GPU_HINT if on_gpu else ''}.",
    )


def _readable(count: str, unit: str) -> str:
    if unit != "bytes":
        return f"{count} {unit}"
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"

"""What a recording takes: bytes before it starts, and whether so many are free."""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from vitlab.attention.view import View
from vitlab.encoder import Attention

MUCH = 500_000_000  # bytes; a recording that takes more says so before it starts


def viewed_bytes(view: View, numbers: list[int], rows: str, images: int, tokens: int) -> int:
    """Bytes of the weights of a view's layers, and of its pooling, in fp32."""
    heads = sum(view.heads[number] for number in numbers)
    patches = tokens - view.num_prefix_tokens
    pooling = sum(rows_of_it * (patches + others) for rows_of_it, others in view.pooling)
    return 4 * images * (heads * tokens * (tokens if rows == "all" else 1) + pooling)


def bytes_of(attentions: list[Attention], names: Iterable[str], rows: str, images: int, tokens: int) -> int:
    """Bytes of the named intermediates of some layers in fp32."""
    numbers = 0
    for attention in attentions:
        square = attention.num_heads * tokens * (tokens if rows == "all" else 1)
        each = tokens * attention.qkv.out_features // 3  # queries, keys or values of all heads
        sizes = dict(weights=square, scores=square, queries=each, keys=each, values=each)
        numbers += sum(sizes.get(name, tokens * attention.qkv.in_features) for name in names)
    return 4 * images * numbers


def check_memory(
    passes: dict[str, list[list[Tensor]]],
    needed: int,
    layers: int,
    images: int,
    tokens: int,
    device: torch.device,
    limit: float | None,
) -> None:
    """Refuse a forward pass's recording that does not fit, with ValueError; warn of one that is much."""
    taken = sum(tensor.nbytes for layers in passes.values() for layer in layers for tensor in layer)
    free = free_memory(device) if limit is None else limit - taken
    words = (
        f"recording {', '.join(passes)} in {layers} layers for {images} images of {tokens} "
        f"tokens takes {needed / 1e9:.2f} GB"
    )
    less = "Fewer images, fewer layers (layers=[-1]) or the class token's row alone (rows='class') take less"
    if needed > free:
        raise ValueError(f"{words}, and {max(free, 0) / 1e9:.2f} GB are left. {less}")
    if needed > MUCH and device.type != "meta":
        warnings.warn(f"{words}. {less}", stacklevel=2)


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device; infinity where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024 if device.type == "cpu" else float("inf")
    except (OSError, KeyError):
        return float("inf")

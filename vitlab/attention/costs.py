"""What one attention layer costs as patches get smaller, measured on this machine (lesson 01)."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitlab.embeddings import PatchEmbed
from vitlab.encoder import MLP, Attention

SECONDS, CALLS = 0.2, 5  # that one measurement takes at least


@torch.no_grad()
def patch_costs(image: Tensor, patch_sizes: Sequence[int], embed_dim: int = 96) -> dict[str, Tensor]:
    """Time and memory of one layer on an image (1, C, H, W), for each patch size: five vectors, fp64.

    `N`, then the seconds of attention (4 heads) and of the linear layers beside it (`qkv`, `proj` and the
    MLP), and the bytes of the attention weights (1, 4, N, N) and of the tokens (1, N, D). On a CPU one thread
    works: what is compared is the work, not how well it is shared out.

    >>> patch_costs(torch.zeros(1, 3, 8, 8), [4, 2])["weight_bytes"].tolist()  # 4 heads · N² · 4 bytes
    [256.0, 4096.0]
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [_costs_of_one(image, patch_size, embed_dim) for patch_size in patch_sizes]
    finally:
        torch.set_num_threads(threads)
    names = "N", "attention_seconds", "linear_seconds", "weight_bytes", "token_bytes"
    return dict(zip(names, torch.tensor(rows, dtype=torch.float64).T, strict=True))


def ratios(measured: dict[str, Tensor], patch_sizes: Sequence[int]) -> str:
    """What `patch_costs` measured as multiples of what the first patch size took, a line a size.

    >>> image, sizes = torch.zeros(1, 3, 8, 8), [4, 2]
    >>> ratios(patch_costs(image, sizes), sizes).splitlines()[-1].split()[-4:]
    ['16', '×', '4', '×']
    """
    lines = ["   P       N   attention: time   linear layers: time   attention: weights     tokens"]
    count, *columns = measured.values()
    shares = (column / column[0] for column in columns)
    for size, n, attention, linear, weights, tokens in zip(patch_sizes, count, *shares, strict=True):
        times = f"{size:>4} {n:>7,.0f} {attention:>15,.1f} × {linear:>19,.1f} ×"
        lines.append(f"{times} {weights:>18,.0f} × {tokens:>8,.0f} ×")
    return "\n".join(lines)


def power(x: Tensor, y: Tensor, above: float = 0) -> float:
    """The power of `x` with which `y` grows where x > `above`: the slope of a line through their logarithms.

    >>> power(torch.tensor([1.0, 2, 4]), torch.tensor([3.0, 12, 48]))
    2.0
    """
    x, y = x[x > above].log(), y[x > above].log()
    x = x - x.mean()
    return ((x * (y - y.mean())).sum() / (x**2).sum()).item()


def _costs_of_one(image, patch_size, embed_dim) -> tuple[float, ...]:
    device, channels = image.device, image.shape[1]
    tokens = PatchEmbed(patch_size, channels, embed_dim).to(device)(image)  # (1, N, D)
    attention, mlp = Attention(embed_dim, num_heads=4).to(device), MLP(embed_dim, 2 * embed_dim).to(device)
    sizes = []
    attention.observers.append(lambda weights: sizes.append(weights.nbytes))
    of_attention = _seconds(lambda: attention(tokens))
    of_linear = _seconds(lambda: mlp(attention.proj(attention.qkv(tokens)[..., :embed_dim])))
    return tokens.shape[1], of_attention, of_linear, sizes[0], tokens.nbytes


def _seconds(compute: Callable[[], Tensor]) -> float:
    """Seconds of one call, the least of several. On a CPU the clock stands still while other programs run."""
    first = compute()  # it also fetches memory
    clock = time.process_time if first.device.type == "cpu" else time.perf_counter
    took: list[float] = []
    while len(took) < CALLS or sum(took) < SECONDS:
        begin = clock()
        compute()[0, 0, 0].item()  # reading a number makes a GPU finish first
        took.append(clock() - begin)
    return min(took)

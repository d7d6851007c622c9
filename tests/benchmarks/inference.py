"""Attention without gradients on a CPU, PyTorch's own or `CPUAttention`: which makes a ViT faster?

    python tests/benchmarks/inference.py

The two take turns in one process, on one thread, timed by the processor's clock; the ratio is that of a
turn's two. `vitlab.encoder.is_for_cpu_attention` follows what this prints.
"""

import statistics
import time

import torch
from peers import CASES
from torch import Tensor

from vitlab import ViT, encoder

ROUNDS = 9


def seconds(model: ViT, images: Tensor, few_tokens: int) -> float:
    """Processor seconds of a forward pass where fewer than `few_tokens` tokens are for `CPUAttention`."""
    encoder.FEW_TOKENS = few_tokens
    begin = time.process_time()
    model(images)
    return time.process_time() - begin


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    for precision in (torch.bfloat16, torch.float32):
        for name, (config, batch_size) in CASES.items():
            model = ViT(config).eval()
            images = torch.randn(batch_size, config.in_chans, config.image_size, config.image_size)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                ratios = []
                for number in range(ROUNDS + 1):  # the first is not counted: kernels are chosen
                    turns = (10**9, 0) if number % 2 else (0, 10**9)
                    taken = {few: seconds(model, images, few) for few in turns}
                    ratios.append(taken[10**9] / taken[0])
            low, median, high = statistics.quantiles(ratios[1:], n=4)
            print(
                f"case {name}, {config.num_tokens} tokens, {str(precision)[6:]}: with PyTorch's own "
                f"{median:.2f} times as fast (quartiles {low:.2f}, {high:.2f})"
            )


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# torch.optim.AdamW(fused=True) on a CPU goes through the memory of parameter, gradient and state side by side,
# without a look at their strides. Where these differ, moments of one weight are used for another, and no error or
# warning says so. They differ after a state dict was saved row by row (as safetensors writes every tensor) and
# loaded for a channels_last model: load_state_dict does not give the state its parameter's strides. fused=False
# does the same right.
#
# Who is hit: whoever resumes the training of a channels_last model (convolutions, a ViT's patch projection) on a
# CPU with a fused optimizer. Seen with PyTorch 2.14.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
import torch

print("torch", torch.__version__)


def trained(fused: bool, resumed: bool) -> torch.Tensor:
    """A kernel after four steps; in the middle the optimizer may be made anew from its own saved state."""
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    gradients = torch.randn(4, 4, 3, 2, 2)
    optimizer = torch.optim.AdamW([kernel], lr=0.1, fused=fused)
    for step, gradient in enumerate(gradients):
        if step == 2 and resumed:
            state = {name: value.contiguous() for name, value in optimizer.state[kernel].items()}
            optimizer = torch.optim.AdamW([kernel], lr=0.1, fused=fused)
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": {0: state}, "param_groups": groups})
        kernel.grad = torch.empty_like(kernel).copy_(gradient)
        optimizer.step()
    return kernel.detach()


off = {fused: (trained(fused, True) - trained(fused, False)).abs().max().item() for fused in (False, True)}
for fused, difference in off.items():
    print(f"fused={fused}: after resuming, weights differ by at most {difference:.3g}")
assert off[False] == 0
assert off[True] > 0.01, "the fused optimizer minds strides now"
P

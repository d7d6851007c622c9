#!/usr/bin/env bash
# PyTorch counts how often each tensor was changed in place (Tensor._version), and a backward pass stops with an
# error where a value that it needs is no longer what it was in the forward pass. The fused optimizers on a CPU
# (SGD, Adam, AdamW, Adagrad with fused=True) change the parameters and do not count it. So a step between forward
# and backward, which is an error with fused=False, gives gradients that mix old values with new ones, without a
# word; and whatever keeps something made from a parameter for as long as its count stays the same (a cast or
# folded copy of the weights, say) goes on with the values from before the step.
#
# Who is hit: whoever steps between a forward and a backward pass that shares parameters with the step (two losses,
# two optimizers, as in adversarial training), which people find by that very error; and authors of such caches.
# Seen with PyTorch 2.14.1 on a CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
import torch

print("torch", torch.__version__)


def step_between(kind, fused: bool) -> tuple[int, str | float]:
    """How many changes a step counts, and the gradient of w·x for x = 1, w = 1 that comes after it: w, so 1."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = kind([weight], lr=0.1, fused=fused)
    x = torch.ones(1, requires_grad=True)
    product = (weight * x).sum()
    weight.grad, before = torch.ones(1), weight._version
    optimizer.step()
    try:
        product.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return weight._version - before, "an error"
    return weight._version - before, round(x.grad.item(), 4)


for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
    for fused in (False, True):
        counted, gradient = step_between(kind, fused)
        print(f"{kind.__name__}, fused={fused}: changes counted {counted}, gradient after the step: {gradient}")
        if fused:
            assert counted == 0, "a fused step is counted now"
            assert gradient != 1, "the gradient is that of the forward pass now"
        else:
            assert counted > 0 and gradient == "an error"
P

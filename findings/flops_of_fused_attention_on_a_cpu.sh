#!/usr/bin/env bash
# PyTorch's FlopCounterMode counts nothing for F.scaled_dot_product_attention on a CPU, and says nothing of it: there
# the call becomes an operator of its own, which the counter's table does not have (those of GPUs it has). The same
# attention by two matrix products and a softmax is counted. So a ViT of timm, which attends by that function, has
# fewer FLOPs on a CPU with its fused attention than without it, by all that grows with the square of its tokens.
#
# Who is hit: whoever compares models or resolutions by FLOPs counted on a CPU, a fused one with one that is not
# most of all; the larger the image, the more is missing. Seen with PyTorch 2.14.1 and timm 1.0.31.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 timm==1.0.31
"$folder/venv/bin/python" - <<'P'
import timm
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__, "timm", timm.__version__)


def counted(function):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return counter.get_total_flops()


q = k = v = torch.randn(1, 3, 197, 64)
fused = counted(lambda: F.scaled_dot_product_attention(q, k, v))
with sdpa_kernel(SDPBackend.MATH):
    plain = counted(lambda: F.scaled_dot_product_attention(q, k, v))
print(f"attention of 197 tokens, 3 heads 64 wide: {fused:,} FLOPs fused, {plain:,} as matrix products")
assert plain == 2 * 2 * 3 * 197 * 197 * 64, "the matrix products are counted otherwise now"
assert fused == 0, "the counter knows the fused attention of a CPU now"

for size in (224, 448):
    model = timm.create_model("deit_tiny_patch16_224", img_size=size, depth=2).eval()
    image = torch.randn(1, 3, size, size)
    seen = counted(lambda: model(image))
    with sdpa_kernel(SDPBackend.MATH):
        whole = counted(lambda: model(image))
    print(f"timm's ViT-Ti/16 of two layers at {size} px: {seen / 1e6:,.0f} million FLOPs, {whole / 1e6:,.0f} with all")
    assert seen < whole, "timm's model is counted whole now"
P

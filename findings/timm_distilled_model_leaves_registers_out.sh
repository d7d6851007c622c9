#!/usr/bin/env bash
# timm's create_model("deit_tiny_distilled_patch16_224", reg_tokens=4) makes a model with four registers among its
# parameters, in its state dict and in the count of its numbers, and never reads them: the sequence is class token,
# distillation token and patches, `num_prefix_tokens` is 2, and no gradient reaches them. No error or warning says
# so. timm's plain ViTs read theirs with the same argument.
#
# Who is hit: whoever adds registers (arXiv 2309.16588) to a distilled DeiT, and compares it with one without, which
# is the same model; whoever counts parameters or tokens of it, or loads its weights elsewhere, where the registers
# are read. Seen with timm 1.0.31 and PyTorch 2.14.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 timm==1.0.31
"$folder/venv/bin/python" - <<'P'
import timm
import torch

print("timm", timm.__version__, "torch", torch.__version__)
images, sizes = torch.randn(2, 3, 32, 32), dict(img_size=32, patch_size=8, depth=2, num_classes=5)
for name in ("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"):
    torch.manual_seed(0)
    model = timm.create_model(name, reg_tokens=4, **sizes).eval()
    torch.nn.init.normal_(model.head.weight)
    tokens, before = model.forward_features(images).shape[1], model(images)
    before.sum().backward()
    with torch.no_grad():
        model.reg_token.add_(torch.randn_like(model.reg_token))
        moved = (model(images) - before).abs().max().item()
    gradient = model.reg_token.grad
    print(f"{name}: {tuple(model.reg_token.shape)} registers, {tokens} tokens for 16 patches, "
          f"num_prefix_tokens {model.num_prefix_tokens}; other registers change the logits by {moved:.2g}; "
          f"their gradient is {'none' if gradient is None else 'there'}")
    if "distilled" in name:
        assert tokens == 2 + 16 and model.num_prefix_tokens == 2, "the distilled model counts its registers now"
        assert moved == 0 and gradient is None, "the distilled model reads its registers now"
    else:
        assert tokens == 1 + 4 + 16 and moved > 0, "the plain model leaves its registers out now"
P

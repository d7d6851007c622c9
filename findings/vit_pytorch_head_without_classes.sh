#!/usr/bin/env bash
# vit-pytorch's SimpleViT with QK-norm takes num_classes and gives features instead of logits.
#
# The package's kinds of SimpleViT are called alike, SimpleViT(num_classes=…), and give one logit a class. Of the one in
# simple_vit_with_qk_norm the head, `linear_head`, is a LayerNorm of the model's width: num_classes is not used at all,
# and the output is (images, dim), normalised. Nothing says so: as `dim` is nearly always larger than the number of
# classes, F.cross_entropy takes these for logits without an error, and argmax can name classes that there are not.
# Hit is who trains or compares kinds of vit-pytorch by their classes. Remedy: model.linear_head = nn.Linear(dim, classes).
#
# Versions below. Exits non-zero once the output has as many numbers as classes were asked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 vit-pytorch==1.26.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
from importlib.metadata import version

import torch
from vit_pytorch import simple_vit, simple_vit_with_qk_norm

print("torch", torch.__version__, "vit-pytorch", version("vit-pytorch"))
sizes = dict(image_size=32, patch_size=8, num_classes=5, dim=24, depth=1, heads=2, mlp_dim=24)
images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
torch.manual_seed(0)
plain, normed = simple_vit.SimpleViT(**sizes), simple_vit_with_qk_norm.SimpleViT(**sizes)
with torch.no_grad():
    logits, output = plain(images), normed(images)
print("num_classes=5: simple_vit gives", tuple(logits.shape), "and simple_vit_with_qk_norm", tuple(output.shape))
print("its head:", normed.linear_head)
print(f"mean and deviation of an output: {output[0].mean():.2f}, {output[0].std(correction=0):.2f}")
print(f"cross-entropy with classes 0 to 3: {torch.nn.functional.cross_entropy(output, labels):.2f}, without an error")
assert logits.shape == (4, 5)
assert output.shape == (4, 24), "there is one number a class now"
P

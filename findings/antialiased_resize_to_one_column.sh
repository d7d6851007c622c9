#!/usr/bin/env bash
# torch.nn.functional.interpolate(..., antialias=True) on a CPU, bilinear or bicubic, leaves the rows out where the
# result is one column wide: every row of the result is the first one, as if the height were not resized. No error
# or warning says so. The same numbers lying on their side, a result of one row, are resized right, and so they are
# without antialiasing.
#
# Who is hit: whoever resizes tall strips in that way, such as the position embeddings of a ViT for images one patch
# wide (timm's resample_abs_pos_embed, and all that build on it), or heatmaps and spectrograms of one column. Seen
# with PyTorch 2.14.1 and timm 1.0.31.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 timm==1.0.31
"$folder/venv/bin/python" - <<'P'
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed

print("torch", torch.__version__, "timm", timm.__version__)
column = torch.arange(4.0).view(1, 1, 4, 1)
for mode in ("bilinear", "bicubic"):
    upright = F.interpolate(column, size=(8, 1), mode=mode, antialias=True).flatten()
    lying = F.interpolate(column.mT, size=(1, 8), mode=mode, antialias=True).flatten()
    print(f"{mode}, a column: {[round(x, 3) for x in upright.tolist()]}")
    print(f"{mode}, a row:    {[round(x, 3) for x in lying.tolist()]}")
    assert lying.diff().min() > 0.1
    assert upright.diff().abs().max() == 0, "a column is resized as a row is now"

plain = F.interpolate(column, size=(8, 1), mode="bilinear").flatten()
print(f"bilinear without antialiasing, a column: {[round(x, 3) for x in plain.tolist()]}")
assert plain.diff().max() > 0.1

table = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 6)  # positions of 4 x 1 patches
resized = resample_abs_pos_embed(table, new_size=[8, 1], old_size=[4, 1], num_prefix_tokens=0)[0, :, 0]
print(f"timm, positions of 4 x 1 patches for 8 x 1: {[round(x, 3) for x in resized.tolist()]}")
assert resized.diff().abs().max() == 0, "timm's positions of a column are resized now"
P

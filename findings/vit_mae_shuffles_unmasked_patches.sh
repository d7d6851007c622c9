#!/usr/bin/env bash
# ViT-MAE of transformers gives its patches in another order at every call, even where it hides none.
#
# ViTMAEModel is the encoder of a masked autoencoder. For features or attention maps of a whole picture one turns the
# masking off, as the configuration allows: mask_ratio=0.0. One expects what every other ViT gives, in evaluation mode:
# token 1 + i is patch i, and two calls agree. But the patches that are kept (now: all) are chosen by sorting random
# numbers, and they stay in that order. So `last_hidden_state` and `attentions` hold every patch once, each time at other
# places; nothing warns, `mask` is all zeros, and only the class token is as expected. The order is in `ids_restore`.
# A call with rising `noise` keeps the reading order.
# Hit is who draws attention maps or feature maps, compares patches with masks, or distils patch features.
#
# Versions below. Exits non-zero once two calls agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.23.0 numpy==2.4.6
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'P'
import torch
import transformers

print("torch", torch.__version__, "transformers", transformers.__version__)
torch.manual_seed(0)
config = transformers.ViTMAEConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    image_size=32, patch_size=8, mask_ratio=0.0,
)
model, images = transformers.ViTMAEModel(config).eval(), torch.randn(1, 3, 32, 32)
with torch.no_grad():
    first, second = model(images), model(images)
    rising = torch.arange(16.0)[None]
    kept, again = model(images, noise=rising), model(images, noise=rising)


def apart(one, other):
    return float((one - other).abs().max())


def in_order(made):
    """The patches' tokens, put back by `ids_restore`."""
    return made.last_hidden_state[0, 1:][made.ids_restore[0]]


print("hidden patches:", int(first.mask.sum()))
print("order of the first call: ", first.ids_restore[0].tolist())
print("order of the second call:", second.ids_restore[0].tolist())
moved = apart(first.last_hidden_state[:, 1:], second.last_hidden_state[:, 1:])
print(f"patch tokens of two calls differ by {moved:.2f}")
print(f"class tokens differ by {apart(first.last_hidden_state[:, 0], second.last_hidden_state[:, 0]):.0e}")
print(f"patch tokens put back by ids_restore differ by {apart(in_order(first), in_order(second)):.0e}")
print(f"patch tokens with rising noise differ by {apart(kept.last_hidden_state, again.last_hidden_state):.0e}")
assert first.mask.sum() == 0 and moved > 0.1, "two calls agree now"
assert apart(in_order(first), in_order(second)) < 1e-4
assert kept.ids_restore[0].tolist() == list(range(16))
P

#!/usr/bin/env bash
# In one library, DINOv2 with registers and DINOv2 without them resize the same position embeddings to different numbers.
#
# Both models of transformers are published for 518 pixels and nearly always used at 224, so that their 37 x 37 positions
# are resized to 16 x 16 at every call. The sister models share sizes, names and the bicubic rule; but Dinov2Model
# resizes without antialiasing and Dinov2WithRegistersModel with it. From 37 to 16 that is no rounding: a table of random
# numbers comes out different by most of its spread (a trained one, which is smoother, by less). Hit is who compares the two at 224 pixels (is it the registers, or the positions?),
# who ports one model's code to the other's weights, and who converts weights once for a fixed size: the rule has to be
# chosen by the kind of model. At 518 pixels nothing is resized, and nothing differs.
#
# Versions below. Exits non-zero once both give the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.23.0 numpy==2.4.6
cat > "$folder/positions.py" <<'P'
import torch
import transformers

torch.manual_seed(0)
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=518, patch_size=14)
plain = transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).eval()
registers = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**sizes)).eval()
table = torch.randn(1, 1 + 37 * 37, 32)
found = {}
with torch.no_grad():
    for model in (plain, registers):
        model.embeddings.position_embeddings.copy_(table)
    for pixels in (518, 224):
        tokens = torch.zeros(1, 1 + (pixels // 14) ** 2, 32)
        one, other = (m.embeddings.interpolate_pos_encoding(tokens, pixels, pixels) for m in (plain, registers))
        assert one.shape == other.shape
        found[pixels] = ((one - other)[:, 1:].std() / one[:, 1:].std()).item()
print("torch", torch.__version__, "transformers", transformers.__version__)
for pixels, share in found.items():
    print(f"{pixels} pixels: the two tables differ by {share:.2f} of the spread of Dinov2Model's")
assert found[518] == 0 and found[224] > 0.2
P
"$folder/venv/bin/python" "$folder/positions.py"

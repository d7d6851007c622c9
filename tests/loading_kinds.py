"""The kinds of weights that `load_checkpoint` takes, small and random, each with its own library's logits.

A kind writes its weights into the working directory, as a file or a folder, and gives images and what the
library makes of them: Google's models in float64 by hand (tests compare that with JAX), the others by
themselves.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
import torchvision
import transformers
import vit_pytorch
from test_checkpoints_hybrids import google_stem, hybrid_arrays, timms
from test_checkpoints_kinds import POSITIONS, big_vision_arrays, big_vision_forward, big_vision_sincos
from test_checkpoints_layer_scale import in_folder
from test_checkpoints_layer_scale import small as small_timm
from test_checkpoints_published import (
    as_npz,
    as_safetensors,
    google_arrays,
    google_forward,
    hf_config,
    lucid,
    pictures,
    stirred,
    timm_model,
)
from torch import Tensor, nn

import vitlab

SMALL = "32 px / 8, D 48, 2 layers"
HYBRIDS = (  # bottlenecks in each stage, pixels, features a patch, name
    ((1, 2, 1), 48, 1, "hybrid, three stages (as R50+B/16)"),
    ((1, 1, 1, 1), 64, 1, "hybrid, four stages (as R26+S/32)"),
    ((), 32, 2, "hybrid, no stages (as R+Ti/16)"),
)


def hybrid_size(blocks: tuple[int, ...], size: int) -> str:
    return f"{size} px, bottlenecks {blocks}, D 24, 2 layers"


class Kind(NamedTuple):
    """One row of the table. `build` writes the weights; it gives their path, images and the logits."""

    library: str
    name: str
    tried: str
    build: Callable[[], tuple[Path, Tensor, Tensor]]
    given: dict = {}  # the keywords without which the file does not load, or not as this model
    at: dict = {}  # the sizes at which the model is then asked, if they are not its own

    @property
    def id(self) -> str:
        return f"{self.library}: {self.name}"


def by_hand(arrays: dict, forward=google_forward, stem=lambda _, images: images, size=(16, 16), **instead):
    """A model of Google's. `instead` has arrays that only the reference sees."""

    def build():
        images = np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)
        logits, _ = forward(arrays | instead, stem(arrays, images))
        return as_npz(arrays), torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(logits)

    return build


def by_itself(make: Callable[[], nn.Module], size=(32, 32), channels=3, write=None, read=lambda out: out):
    """A model of a library: written, as a lone file unless told otherwise, and run."""

    def build():
        model, images = make(), pictures(size, channels)
        path = write(model) if write else as_safetensors(model.state_dict())
        return path, images, read(model(images))

    return build


def as_hugging_face(model: nn.Module) -> Path:
    model.save_pretrained("folder")
    return Path("folder")


def as_timm(model: nn.Module) -> Path:
    """A folder as timm writes it; its config.json says the size of images and how many heads there are."""
    file = as_safetensors(model.state_dict(), Path("folder/model.safetensors"))
    arguments = dict(num_heads=model.blocks[0].attn.num_heads, img_size=list(model.patch_embed.img_size))
    config = dict(architecture="vit", global_pool=model.global_pool, model_args=arguments)
    file.with_name("config.json").write_text(
        json.dumps(config | dict(pretrained_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3)))
    )
    return file.parent


def google() -> Iterator[Kind]:
    sizes, library = "16 px / 4, D 24, 2 layers", "Google (.npz)"
    yield Kind(library, "ViT, names of the released files", sizes, by_hand(google_arrays()))
    yield Kind(library, "ViT, names of today's code", sizes, by_hand(google_arrays(released=False)))
    yield Kind(library, "ViT with the hidden layer of pre-training", sizes, by_hand(google_arrays(hidden=7)))
    yield Kind(library, "ViT, mean over patches", sizes, by_hand(google_arrays(token=False)))
    for blocks, size, patch, name in HYBRIDS:
        side = patch * vitlab.resnet.stem_stride(blocks)
        arrays = hybrid_arrays(blocks, grid=(size // side, size // side), patch=patch)
        build = by_hand(arrays, stem=google_stem, size=(size, size))
        yield Kind(library, name, hybrid_size(blocks, size), build)
    vit, flexi, simple = big_vision_arrays(), big_vision_arrays(token=True), big_vision_arrays()
    del simple["pos_embedding"]
    sincos = {POSITIONS: big_vision_sincos(4, 4, 24)}
    library, given = "big_vision (.npz)", dict(image_size=16)
    yield Kind(library, "ViT, mean over patches", sizes, by_hand(vit, big_vision_forward))
    yield Kind(library, "FlexiViT", sizes, by_hand(flexi, big_vision_forward), given)
    yield Kind(library, "SimpleViT", sizes, by_hand(simple, **sincos), given)


def of_timm() -> Iterator[Kind]:
    heads = dict(num_heads=4)

    def kind(
        label: str, given: dict = heads, make=timm_model, size=(32, 32), write=None, **arguments
    ) -> Kind:
        shown = f"{arguments['name']}, made small" if "name" in arguments else SMALL
        return Kind("timm", label, shown, by_itself(partial(make, **arguments), size, write=write), given)

    yield kind("ViT")
    yield kind("ViT, a folder with config.json", {}, write=as_timm)
    yield kind("ViT, mean, norm after it", global_pool="avg")
    yield kind("ViT, mean beside a class token", heads | dict(pool="mean"), global_pool="avg", fc_norm=False)
    yield kind("ViT, mean, no class token", global_pool="avg", class_token=False, fc_norm=False)
    yield kind("ViT without biases of q, k and v", qkv_bias=False)
    yield kind("ViT with a tanh GELU", heads | dict(gelu="tanh"), act_layer="gelu_tanh")
    wide = dict(image_size=(24, 40))
    yield kind("ViT, images of 24 × 40 px", heads | wide, size=(24, 40), img_size=(24, 40))
    yield Kind("timm", "ViT with a hidden layer (before 0.8)", SMALL, with_hidden_layer, heads)
    for what, name, given in (
        ("DeiT", "deit_tiny_patch16_224", {}),
        ("FlexiViT", "flexivit_small", dict(image_size=32)),
        ("SigLIP, mean", "vit_base_patch16_siglip_gap_224", dict(pool="mean")),
        ("ViT with layer scale, mean", "vit_medium_patch16_gap_240", {}),
    ):
        yield kind(what, heads | given, small_timm, name=name)
    for label, name, arguments, lone in TIMMS_SINCE:
        yield kind(label, heads | lone, small_timm, name=name, **arguments)
        there = partial(resized_by_timm, name, (48, 40), **arguments)
        asked, shown = f"{label}, a folder, asked at 48 × 40 px", f"{name}, made small"
        yield Kind("timm", asked, shown, there, dict(image_size=(48, 40)))
    for patch_size, image_size in ((4, 32), (16, 48)):
        sizes = dict(patch_size=patch_size, image_size=image_size, method="timm")
        name = f"FlexiViT, 32 px / 8 asked at {image_size} px / {patch_size}"
        build = partial(at_another_size, "flexivit_small", patch_size, image_size)
        given = heads | dict(image_size=32)
        yield Kind("timm", name, "flexivit_small, made small", build, given, sizes)
    for blocks, size, patch, name in HYBRIDS:
        make = partial(stirred_hybrid, blocks, size, patch)
        yield Kind("timm", name, hybrid_size(blocks, size), by_itself(make, (size, size)), dict(num_heads=3))


TIMMS_SINCE = (  # label, architecture, what else makes it, and what a lone file needs beside the heads
    ("DeiT, distilled", "deit_tiny_distilled_patch16_224", {}, {}),
    ("DeiT-III", "deit3_small_patch16_224", {}, dict(image_size=32)),
    ("DINOv2", "vit_small_patch14_dinov2", {}, {}),
    ("DINOv2 with registers", "vit_small_patch14_reg4_dinov2", {}, {}),
    ("MAE, the encoder", "vit_base_patch16_224.mae", dict(num_classes=0), {}),
)


def resized_by_timm(name: str, size: tuple[int, int], **arguments):
    """timm makes a model for images of another size, and resizes the positions as it loads them."""
    own, other = small_timm(name, **arguments), small_timm(name, img_size=size, **arguments)
    weights, images = own.state_dict(), pictures(size)
    other.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(weights, other))
    return in_folder(own, name.partition(".")[0]), images, other(images)


def at_another_size(name: str, patch_size: int, image_size: int):
    """timm makes a model of the other size, and resizes the weights as it loads them."""
    weights, images = small_timm(name).state_dict(), pictures((image_size, image_size))
    other = small_timm(name, patch_size=patch_size, img_size=image_size)
    other.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(weights, other))
    return as_safetensors(weights), images, other(images)


def stirred_hybrid(blocks: tuple[int, ...], size: int, patch: int) -> nn.Module:
    return stirred(timms(blocks, (size, size), patch))


def with_hidden_layer():
    """timm no longer has this layer, of which older files are: it is put between its model and its head."""
    model, images = timm_model(num_classes=0), pictures((32, 32))
    hidden, head = nn.Linear(48, 7), nn.Linear(7, 5)
    arrays = model.state_dict()
    arrays |= {f"pre_logits.fc.{name}": array for name, array in hidden.state_dict().items()}
    arrays |= {f"head.{name}": array for name, array in head.state_dict().items()}
    return as_safetensors(arrays), images, head(hidden(model(images)).tanh())


def of_hugging_face() -> Iterator[Kind]:
    def classifier():
        return stirred(transformers.ViTForImageClassification(hf_config(transformers)))

    def alone(**arguments):
        return stirred(transformers.ViTModel(hf_config(transformers), **arguments))

    for name, make, read in (
        ("ViTForImageClassification", classifier, logits),
        ("ViTModel with a pooler", alone, pooled),
        ("ViTModel without a pooler", partial(alone, add_pooling_layer=False), token),
        ("ViTMSNModel", partial(like_vit, "ViTMSNModel"), token),
        ("ViTMSNForImageClassification", partial(like_vit, "ViTMSNForImageClassification"), logits),
    ):
        yield Kind("Hugging Face", name, SMALL, by_itself(make, write=as_hugging_face, read=read))
    for name, (make, read) in hugging_faces_since().items():
        for size in ((32, 32), (48, 40)):
            asked = size != (32, 32)
            label = name + (", asked at 48 × 40 px" if asked else "")
            given = dict(image_size=size) if asked else {}
            build = partial(resized_by_hugging_face, make, size, read)
            yield Kind("Hugging Face", label, SMALL, build, given)
    wrapped = by_itself(within_transformers, write=as_wrapper, read=logits)
    yield Kind("Hugging Face", "TimmWrapperForImageClassification", SMALL, wrapped)
    lone = by_itself(classifier, read=logits)
    yield Kind("Hugging Face", "ViTForImageClassification, a lone file", SMALL, lone, dict(num_heads=4))


def logits(out):
    return out.logits


def pooled(out):
    return out.pooler_output


def token(out):
    return out.last_hidden_state[:, 0]


def like_vit(model: str, **fields) -> nn.Module:
    """A small model of transformers, by its class."""
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    sizes |= dict(mlp_ratio=2) if model.startswith("Dinov2") else dict(intermediate_size=80)
    make = getattr(transformers, model)
    return stirred(make(make.config_class(**sizes | dict(attn_implementation="eager") | fields)))


def hugging_faces_since() -> dict[str, tuple[Callable[[], nn.Module], Callable]]:
    """transformers' models from after the paper: how each is made, and what is compared of its output."""
    reads = {
        "DeiTModel": pooled,
        "DeiTForImageClassification": logits,
        "DeiTForImageClassificationWithTeacher": logits,
        "Dinov2Model": pooled,
        "Dinov2ForImageClassification": logits,
        "Dinov2WithRegistersModel": pooled,
        "Dinov2WithRegistersForImageClassification": logits,
    }
    kinds = {name: (partial(like_vit, name), read) for name, read in reads.items()}
    for name in ("ViTMAEModel", "ViTMAEForPreTraining"):
        label = f"{name}, {'the encoder, ' if 'For' in name else ''}nothing masked"
        kinds[label] = partial(like_vit, name, mask_ratio=0.0), token
    return kinds


def asked_of_hugging_face(model: nn.Module, images: Tensor, read: Callable) -> Tensor:
    """What is read of a model's output at any size. An MAE is given the order of its patches."""
    model = getattr(model, "vit", model) if hasattr(model, "decoder") else model
    given = {}
    if model.config.model_type in ("deit", "vit_mae"):
        given["interpolate_pos_encoding"] = True
    if model.config.model_type == "vit_mae":
        patches = images.shape[2] * images.shape[3] // model.config.patch_size**2
        given["noise"] = torch.arange(float(patches)).expand(len(images), -1)
    return read(model(images, **given))


def resized_by_hugging_face(make: Callable[[], nn.Module], size: tuple[int, int], read: Callable):
    model, images = make(), pictures(size)
    return as_hugging_face(model), images, asked_of_hugging_face(model, images, read)


def within_transformers() -> nn.Module:
    """A model of timm's in transformers' wrapper."""
    sizes = dict(img_size=32, patch_size=8, depth=2, embed_dim=48, num_heads=4)
    config = dict(architecture="vit_tiny_patch16_224", model_args=sizes, num_labels=5)
    return stirred(transformers.TimmWrapperForImageClassification(transformers.TimmWrapperConfig(**config)))


def as_wrapper(model: nn.Module) -> Path:
    """Its folder, with the preparation of images that timm writes."""
    file = as_hugging_face(model) / "config.json"
    config = json.loads(file.read_text()) | dict(pretrained_cfg=dict(mean=0.5, std=0.5))
    file.write_text(json.dumps(config))
    return file.parent


def of_vit_pytorch() -> Iterator[Kind]:
    def kind(name: str, given: dict, **arguments) -> Kind:
        return Kind("vit-pytorch", name, SMALL, by_itself(partial(lucid, vit_pytorch, **arguments)), given)

    def simple():
        sizes = dict(patch_size=8, num_classes=5, dim=48, depth=2, heads=4, mlp_dim=80, dim_head=12)
        return stirred(vit_pytorch.SimpleViT(image_size=32, **sizes))

    heads = dict(num_heads=4)
    yield kind("ViT, heads 64 wide (its default)", {}, dim_head=64)
    yield kind("ViT, heads of another width", heads)
    yield kind("ViT, mean", heads, pool="mean")
    yield kind("ViT, one head without output projection", {}, heads=1, dim_head=48)
    yield Kind("vit-pytorch", "SimpleViT", SMALL, by_itself(simple), heads | dict(image_size=32))


def of_torchvision() -> Iterator[Kind]:
    def make(*sizes, **arguments):
        return stirred(torchvision.models.VisionTransformer(*sizes, num_classes=5, **arguments))

    for name, patch, width, heads in (
        ("vit_b_16", 16, 768, 12),
        ("vit_b_32", 32, 768, 12),
        ("vit_l_16", 16, 1024, 16),
        ("vit_l_32", 32, 1024, 16),
        ("vit_h_14", 14, 1280, 16),
    ):
        size = 2 * patch
        one = partial(make, size, patch, 1, heads, width, 64)
        tried = f"{size} px / {patch}, D {width}, 1 layer"
        yield Kind("torchvision", name, tried, by_itself(one, (size, size)))
    hidden = partial(make, 32, 8, 2, 4, 48, 80, representation_size=7)
    yield Kind("torchvision", "with representation_size", SMALL, by_itself(hidden), dict(num_heads=4))


def all_kinds() -> list[Kind]:
    return [*google(), *of_timm(), *of_hugging_face(), *of_vit_pytorch(), *of_torchvision()]

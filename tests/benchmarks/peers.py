"""The same Vision Transformer from every library: what `bench.py` and `time_to_accuracy.py` compare."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from vitlab import ViT, ViTConfig, count_parameters


class Case(NamedTuple):
    """Sizes at which the libraries are compared, and the number of images in a batch."""

    config: ViTConfig
    batch_size: int

    def __str__(self) -> str:
        c = self.config
        return (
            f"{c.image_size} px, patch {c.patch_size}, {c.in_chans} channels, D {c.embed_dim}, L {c.depth}, "
            f"{c.num_heads} heads, MLP {c.mlp_dim}, batches of {self.batch_size}"
        )


CASES = {
    "a": Case(ViTConfig(patch_size=4, embed_dim=96, depth=4, num_heads=4, mlp_dim=192), 128),
    "b": Case(ViTConfig(patch_size=7, embed_dim=128, depth=4, num_heads=4, mlp_dim=256), 128),
    "c": Case(ViTConfig(32, 4, in_chans=3, embed_dim=192, depth=6, num_heads=3, mlp_dim=768), 64),
    "d": Case(ViTConfig.from_name("Ti/16"), 16),
}


class Logits(nn.Module):
    """Hugging Face's model answers with a record; this takes the logits out of it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


def timm(c: ViTConfig, eager: bool = False) -> nn.Module:
    from timm.layers import set_fused_attn
    from timm.models.vision_transformer import VisionTransformer

    set_fused_attn(not eager)  # read by each layer as it is made
    return VisionTransformer(
        img_size=c.image_size,
        patch_size=c.patch_size,
        in_chans=c.in_chans,
        num_classes=c.num_classes,
        embed_dim=c.embed_dim,
        depth=c.depth,
        num_heads=c.num_heads,
        mlp_ratio=c.mlp_dim / c.embed_dim,
    )


def vit_pytorch(c: ViTConfig) -> nn.Module:
    from vit_pytorch import ViT as PeerViT

    return PeerViT(
        image_size=c.image_size,
        patch_size=c.patch_size,
        channels=c.in_chans,
        num_classes=c.num_classes,
        dim=c.embed_dim,
        depth=c.depth,
        heads=c.num_heads,
        dim_head=c.embed_dim // c.num_heads,
        mlp_dim=c.mlp_dim,
    )


def hugging_face(c: ViTConfig, eager: bool = False) -> nn.Module:
    from transformers import ViTConfig as PeerConfig
    from transformers import ViTForImageClassification

    config = PeerConfig(
        image_size=c.image_size,
        patch_size=c.patch_size,
        num_channels=c.in_chans,
        num_labels=c.num_classes,
        hidden_size=c.embed_dim,
        num_hidden_layers=c.depth,
        num_attention_heads=c.num_heads,
        intermediate_size=c.mlp_dim,
        attn_implementation="eager" if eager else "sdpa",
    )
    return Logits(ViTForImageClassification(config))


def torchvision(c: ViTConfig) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=c.image_size,
        patch_size=c.patch_size,
        num_classes=c.num_classes,
        hidden_dim=c.embed_dim,
        num_layers=c.depth,
        num_heads=c.num_heads,
        mlp_dim=c.mlp_dim,
    )


PEERS: dict[str, Callable[..., nn.Module]] = {
    "timm": timm,
    "vit-pytorch": vit_pytorch,
    "hugging face": hugging_face,
    "torchvision": torchvision,
}
EAGER = ("timm", "hugging face")  # they use PyTorch's fused attention unless told not to
RGB_ONLY = ("torchvision",)

# Where a peer has other parameters than ours at equal sizes.
DIFFERENCES = {
    "vit-pytorch": "no biases of queries, keys and values (-3DL); a norm before and one after the projection "
    "of the patches (+2P²C + 2D)",
}


def peers_of(config: ViTConfig) -> list[str]:
    """The libraries that can make a model of these sizes."""
    return [name for name in PEERS if config.in_chans == 3 or name not in RGB_ONLY]


def differences(config: ViTConfig) -> list[str]:
    """A line for each library whose parameter count is not ours, with the reason.

    Raises AssertionError where it is more than 1 % from ours, as speeds could not be compared then.
    """
    ours, lines = count_parameters(ViT(config)), []
    for name in peers_of(config):
        count = count_parameters(PEERS[name](config))
        assert abs(count / ours - 1) < 0.01, f"{name} has {count:,} parameters, ours {ours:,}: not equal"
        if count != ours:
            share = f"{count / ours - 1:+.2%}"
            lines.append(f"{name}: {count:,} parameters, ours {ours:,} ({share}): {DIFFERENCES[name]}")
    return lines

"""ViT's encoder beside BERT's: PyTorch's own text layer, and deep models with the norm after the sum."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import vitlab
from vitlab.data import Dataset
from vitlab.pretraining import PostNormBlock, beside_bert, deep_vit, first_steps, text_layer


def disturbed(kind) -> nn.Module:
    torch.manual_seed(0)
    block = kind(embed_dim=12, num_heads=3, mlp_dim=20).requires_grad_(False).double()
    for parameter in block.parameters():
        parameter += 0.3 * torch.randn(parameter.shape)
    return block


@pytest.mark.parametrize(("kind", "norm_first"), [(vitlab.Block, True), (PostNormBlock, False)])
def test_pytorchs_text_layer_is_our_block(kind, norm_first):
    block, x = disturbed(kind), torch.randn(2, 5, 12, dtype=torch.float64)
    layer, other = (text_layer(block, first).double() for first in (norm_first, not norm_first))
    torch.testing.assert_close(layer(x), block(x), rtol=1e-9, atol=1e-9)
    assert (other(x) - block(x)).abs().max() > 0.1
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_a_block_with_rotary_positions_is_no_text_layer():
    config = vitlab.ViTConfig(pos_embed="rope2d", depth=1, embed_dim=16, num_heads=2, mlp_dim=20)
    with pytest.raises(ValueError, match="turns no queries and keys by their places"):
        text_layer(vitlab.ViT(config).blocks[0])


def test_deep_models_start_alike_and_their_head_lets_gradients_through():
    state = torch.get_rng_state()
    one, other = deep_vit(vitlab.Block, 3, depth=2), deep_vit(PostNormBlock, 3, depth=2)
    assert torch.get_rng_state().equal(state)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert one.head.weight.abs().max() > 0
    assert not deep_vit(vitlab.Block, 4, depth=2).head.weight.equal(one.head.weight)


def test_first_steps_report_gradients_and_losses():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 1, 28, 28), generator=generator, dtype=torch.uint8)
    data = Dataset(images, torch.arange(64) % 10, list("abcdefghij"))
    run = vitlab.start(device="cpu", precision="fp32")
    found = first_steps(vitlab.Block, data, run, steps=3, seed=5, depth=2)
    model = deep_vit(vitlab.Block, 5, depth=2)
    loss = F.cross_entropy(model(images / 127.5 - 1), data.labels)
    loss.backward()
    wanted = [block.mlp.fc1.weight.grad.norm() for block in model.blocks]
    torch.testing.assert_close(found.before, torch.stack(wanted), rtol=1e-4, atol=1e-6)
    assert found.losses.shape == (3,)
    assert found.after.shape == (2,)
    assert (found.after - found.before).abs().min() > 0


def test_bert_is_counted_as_transformers_counts_it():
    with torch.device("meta"):
        vit = vitlab.ViT(vitlab.ViTConfig.from_name("B/16"))
        bert = transformers.BertModel(transformers.BertConfig())  # its defaults are BERT-Base's sizes
    found, c = beside_bert(vit), bert.config
    sizes = ("layers", "embed_dim", "mlp_dim", "num_heads")
    wanted = (c.num_hidden_layers, c.hidden_size, c.intermediate_size, c.num_attention_heads)
    assert tuple(found[key] for key in sizes) == tuple((number, number) for number in wanted)
    assert found["all, counted"] == (bert.num_parameters(), 86_567_656)
    assert found["12 blocks"][0] == sum(parameter.numel() for parameter in bert.encoder.parameters())
    assert found["words, or patches, to D"][0] == bert.embeddings.word_embeddings.weight.numel()
    assert found["words, or patches, to D"][1] == 16 * 16 * 3 * 768
    assert found["millions, printed"] == (110, 86)


def test_another_vit_than_base_is_not_set_beside_bert_base():
    with pytest.raises(ValueError, match="ViT-Base has layers 12, .*; got layers 4, embed_dim 96"):
        beside_bert(vitlab.ViT(vitlab.ViTConfig()))

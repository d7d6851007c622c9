"""A model of the learner's own parts: right ones give the shipped model, wrong ones cost accuracy."""

import copy
import math
import time

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

import vitlab
from vitlab import checks
from vitlab.checkpoints import bundled, load_checkpoint
from vitlab.checks import kept
from vitlab.checks.assembling import COURSE, MODEL, AssembledViT, PartFailed


def patchify(images, patch_size):
    return F.unfold(images.float(), patch_size, stride=patch_size).mT.contiguous()


def project(images, weight, bias):
    return F.conv2d(images, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)


def to_sequence(patches, cls_token, pos_embed):
    return torch.cat([cls_token.repeat(len(patches), 1, 1), patches], dim=1) + pos_embed


def attention_weights(queries, keys):
    scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
    parts = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def many_heads(qkv, num_heads):
    q, k, v = rearrange(qkv, "b t (three h d) -> three b h t d", three=3, h=num_heads)
    return rearrange((q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v, "b h t d -> b t (h d)")


def encoder_block(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


RIGHT = dict(
    patchify=patchify,
    project=project,
    to_sequence=to_sequence,
    attention_weights=attention_weights,
    many_heads=many_heads,
    encoder_block=encoder_block,
)
WRONG = {  # each part, broken in a known way
    "patchify": lambda images, p: rearrange(images, "b c (h p) (w q) -> b (w h) (c p q)", p=p, q=p),
    "project": lambda images, weight, bias: project(images, weight.flip(-1), bias),
    "to_sequence": lambda patches, cls, pos: torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1),
    "attention_weights": lambda q, k: (q @ k.mT).softmax(dim=-2),
    "many_heads": lambda qkv, heads: many_heads(
        rearrange(qkv, "b t (h three d) -> b t (three h d)", three=3, h=heads), heads
    ),
    "encoder_block": lambda x, norm1, attention, norm2, mlp: mlp(norm2(attention(norm1(x)))),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_session", {})
    return tmp_path


@pytest.fixture(scope="module")
def shipped():
    return load_checkpoint(bundled("fashion_mnist_vit")).requires_grad_(False)


@pytest.fixture(scope="module")
def garments():
    return vitlab.data.fashion_mnist("test").subset(1000)


def accuracy(model, garments) -> float:
    with torch.no_grad():
        found = model(vitlab.data.normalise(garments.images)).argmax(dim=1)
    return (found == garments.labels).float().mean().item()


def write_all(capsys, **answers):
    for name, answer in answers.items():
        checks.check(MODEL[name], answer)
    printed = capsys.readouterr().out
    assert printed.count(": correct") == len(answers), printed


def test_with_all_parts_of_theirs_it_is_the_shipped_model(shipped, garments, capsys):
    """Against the shipped model, and against PyTorch's own encoder layers with the same weights."""
    write_all(capsys, **RIGHT)
    model = checks.assemble()
    names = "patchify, project, to_sequence, attention_weights, many_heads, encoder_block"
    assert capsys.readouterr().out == f"yours: 6 of 6 ({names})\n"
    images = vitlab.data.normalise(garments.images)
    begin = time.process_time()
    with torch.no_grad():
        logits = model(images)
        assert time.process_time() - begin < 20  # seconds of the CPU; a few are usual
        torch.testing.assert_close(logits, shipped(images), atol=1e-4, rtol=0)
        torch.testing.assert_close(logits[:50], by_pytorch(shipped, images[:50]), atol=1e-4, rtol=0)
    assert accuracy(model, garments) == accuracy(shipped, garments) >= 0.9
    assert list(model.state_dict()) == list(shipped.state_dict())


def by_pytorch(model, images):
    """The model's logits by torch.nn.TransformerEncoderLayer."""
    c, w = model.config, model.state_dict()
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=c.patch_size)
    x = torch.cat([w["cls_token"].repeat(len(x), 1, 1), x.flatten(2).mT], dim=1) + w["pos_embed"]
    for i in range(c.depth):
        layer = torch.nn.TransformerEncoderLayer(
            c.embed_dim, c.num_heads, c.mlp_dim, 0.0, F.gelu, c.norm_eps, batch_first=True, norm_first=True
        ).eval()
        names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj": "self_attn.out_proj"}
        names |= {"mlp.fc1": "linear1", "mlp.fc2": "linear2"}
        own = {}
        for key, value in w.items():
            if key.startswith(f"blocks.{i}."):
                key = key.removeprefix(f"blocks.{i}.")
                for ours, theirs in names.items():
                    key = key.replace(ours, theirs)
                own[key] = value
        layer.load_state_dict(own)
        x = layer(x)
    x = F.layer_norm(x, (c.embed_dim,), w["norm.weight"], w["norm.bias"], c.norm_eps)
    return x[:, 0] @ w["head.weight"].T + w["head.bias"]


def test_parts_that_return_another_precision_give_the_shipped_model_too(shipped, garments, capsys):
    write_all(capsys, **{name: lambda *a, right=right: right(*a).double() for name, right in RIGHT.items()})
    images = vitlab.data.normalise(garments.images[:50])
    with torch.no_grad():
        logits = checks.assemble()(images)
    assert "yours: 6 of 6" in capsys.readouterr().out
    torch.testing.assert_close(logits, shipped(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODEL)
def test_a_wrong_part_costs_accuracy_when_it_is_insisted_on(name, shipped, garments, capsys):
    write_all(capsys, **RIGHT)
    model = checks.assemble(**{name: WRONG[name]})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("yours: 6 of 6 (")
    assert second.startswith(f"{name} is used as you gave it. Exercise {MODEL[name]}: not yet. ")
    few = garments.subset(300)
    assert accuracy(model, few) < accuracy(shipped, few) - 0.02


@pytest.mark.parametrize("name", MODEL)
def test_each_part_is_used(name, shipped, capsys):
    """A part that returns zeros must change the logits: none is there for show."""
    zeros = copy.copy(COURSE)
    zeros[name] = lambda *a: 0 * RIGHT[name](*a)
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        assert not torch.allclose(AssembledViT(shipped, zeros)(images), shipped(images), atol=1e-2)


def test_missing_parts_are_the_courses(shipped, garments, capsys):
    write_all(capsys, patchify=patchify, many_heads=many_heads)
    checks.check("3.3", lambda x, norm1, attention, norm2, mlp: x + attention(norm1(x)))  # not yet
    capsys.readouterr()
    model = checks.assemble()
    line = "yours: 2 of 6 (patchify, many_heads); the course's: project, to_sequence, attention_weights, "
    assert capsys.readouterr().out == f"{line}encoder_block\n"
    images = vitlab.data.normalise(garments.images[:100])
    torch.testing.assert_close(model(images), shipped(images), atol=1e-4, rtol=0)


def test_parts_are_found_in_another_session(shipped, garments, capsys, monkeypatch):
    write_all(capsys, **RIGHT)
    monkeypatch.setattr(kept, "_session", {})
    model = checks.assemble()
    assert capsys.readouterr().out.startswith("yours: 6 of 6 (patchify, project,")
    assert model.parts["patchify"] is not patchify
    images = vitlab.data.normalise(garments.images[:100])
    torch.testing.assert_close(model(images), shipped(images), atol=1e-4, rtol=0)
    checks.remove_parts()
    capsys.readouterr()
    checks.assemble()
    assert capsys.readouterr().out.startswith("yours: 0 of 6; the course's: patchify, project,")


def stops(images, patch_size):
    return images.permuted(0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (stops, "your patchify stopped with AttributeError: 'Tensor' object has no attribute 'permuted'"),
        (
            lambda x, p: patchify(x, p).mT,
            "your patchify returned (2, 16, 49) float32 where (2, 49, 16) is needed",
        ),
        (lambda x, p: None, "your patchify returned None where (2, 49, 16) is needed"),
        (lambda x: x, "your patchify stopped with TypeError"),
    ],
)
def test_a_part_that_stops_is_told_in_a_sentence_and_the_courses_taken(wrong, words, shipped, capsys):
    model = checks.assemble(patchify=wrong)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("yours: 0 of 6; the course's: patchify, ")
    assert lines[1].startswith(words)
    assert lines[1].endswith("; so the course's is used.")
    assert len(lines) == 2
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model(images), shipped(images), atol=1e-4, rtol=0)


def test_a_part_without_end_is_ended(capsys, monkeypatch):
    monkeypatch.setattr("vitlab.checks.engine.limits.SECONDS", 1)

    def endless(x, norm1, attention, norm2, mlp):
        while True:
            x = x + 1

    checks.assemble(encoder_block=endless)
    assert "your encoder_block did not end within 1 seconds" in capsys.readouterr().out


def test_a_part_that_stops_later_is_named(capsys):
    def only_two(images, patch_size):
        if len(images) != 2:
            raise IndexError("not two")
        return patchify(images, patch_size)

    model = checks.assemble(patchify=only_two)
    assert "yours: 1 of 6 (patchify)" in capsys.readouterr().out
    with pytest.raises(
        PartFailed, match="your patchify stopped with IndexError: not two, in your line `raise"
    ):
        model(torch.rand(3, 1, 28, 28))


def test_its_attention_is_made_by_their_weights(capsys):
    scenes = load_checkpoint(bundled("scenes_vit")).requires_grad_(False)
    model = checks.assemble(scenes, attention_weights=attention_weights)
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    with vitlab.record_attention(scenes) as wanted, vitlab.record_attention(model) as record:
        torch.testing.assert_close(model(images), scenes(images), atol=1e-4, rtol=0)
    torch.testing.assert_close(record.weights, wanted.weights, atol=1e-5, rtol=0)
    even = checks.assemble(scenes, attention_weights=lambda q, k: torch.full((len(q), 145, 145), 1 / 145))
    with vitlab.record_attention(even) as record:
        even(images)
    assert record.weights.unique().numel() == 1


def test_in_colour_the_order_inside_a_patch_matters(capsys):
    scenes = load_checkpoint(bundled("scenes_vit")).requires_grad_(False)
    tested = vitlab.data.scenes(60, 0, 48, split="test").dataset

    def channels_last(images, p):
        return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)

    right, wrong = checks.assemble(scenes), checks.assemble(scenes, patchify=channels_last)
    assert accuracy(right, tested) == accuracy(scenes, tested)
    assert accuracy(wrong, tested) < accuracy(scenes, tested) - 0.2


def test_their_loop_and_their_schedule_train_their_model(capsys, garments):
    write_all(capsys, **RIGHT)
    torch.manual_seed(0)
    fresh = vitlab.ViT(vitlab.ViTConfig(patch_size=7, embed_dim=32, mlp_dim=64, depth=2))
    before = copy.deepcopy(fresh.state_dict())
    model = checks.assemble(fresh)
    step, rate = checks.mine("train_step", "learning_rate")
    assert "yours: 0 of 2; the course's: train_step, learning_rate" in capsys.readouterr().out
    images, labels = vitlab.data.normalise(garments.images[:64]), garments.labels[:64]
    optimizer = torch.optim.AdamW(model.parameters())
    losses = []
    for i in range(25):
        optimizer.param_groups[0]["lr"] = rate(i, 25, 5, 1e-2)
        losses.append(step(model, optimizer, images, labels, 1.0))
    assert losses[0] == pytest.approx(math.log(10), abs=1e-5)
    assert losses[-1] < 1.0
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


def test_gradients_are_those_of_the_librarys_model(shipped, garments, capsys):
    model = checks.assemble(shipped, **RIGHT).requires_grad_()
    same = copy.deepcopy(shipped).requires_grad_()
    images, labels = vitlab.data.normalise(garments.images[:4]), garments.labels[:4]
    for each in (model, same):
        F.cross_entropy(each(images), labels).backward()
    for (name, one), other in zip(model.named_parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_a_picture_of_ones_own_is_classified(shipped, capsys):
    picture = vitlab.data.photos()["cat"]
    image = vitlab.data.normalise(vitlab.data.fit_picture(picture, 28, 1)[None])
    model = checks.assemble(**RIGHT)
    torch.testing.assert_close(model(image), shipped(image), atol=1e-4, rtol=0)


def test_what_is_no_part_or_no_model_is_refused():
    with pytest.raises(ValueError, match="there is no part 'heads' here; there are patchify, project"):
        checks.assemble(heads=many_heads)
    with pytest.raises(ValueError, match="many_heads is given as a function of yours; got"):
        checks.assemble(many_heads=torch.zeros(3))
    with pytest.raises(ValueError, match="there is no part 'class_row'; there are"):
        checks.mine("class_row")
    with pytest.raises(ValueError, match="mine takes the names of parts"):
        checks.mine()
    with pytest.raises(ValueError, match="pool='token'; got 'mean'"):
        checks.assemble(vitlab.ViT(vitlab.ViTConfig(pool="mean")))
    with pytest.raises(ValueError, match="the name of a checkpoint or a ViT; got a Linear"):
        checks.assemble(torch.nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match="fashion_mnist_vit"):
        checks.assemble("fashion_mnist")


def test_others_answers_are_handed_over(capsys):
    def rollout(weights):
        fused = weights.amax(dim=2)
        eye = torch.eye(fused.shape[-1], dtype=fused.dtype)
        steps = (fused + eye) / (fused + eye).sum(dim=-1, keepdim=True)
        result = steps[0]
        for each in steps[1:]:
            result = each @ result
        return result

    weights = torch.rand(3, 2, 4, 5, 5).softmax(dim=-1)
    wanted = vitlab.attention_rollout(weights, head_fusion="max")
    torch.testing.assert_close(checks.mine("rollout")(weights), wanted)
    checks.check("6.2", rollout)
    assert checks.mine("rollout") is rollout
    assert checks.mine("rollout", rollout=len) is len
    printed = capsys.readouterr().out
    assert "yours: 1 of 1 (rollout)\nrollout is used as you gave it. Exercise 6.2: not yet" in printed
    torch.testing.assert_close(rollout(weights), wanted)

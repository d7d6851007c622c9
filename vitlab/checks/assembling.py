"""The learner's own code at work: a ViT made of what they wrote in lessons 01 to 03, and their other answers.

What an exercise asks for is a part. A part is the learner's where a check in this session found it right, or
where mine.py has it; code from that file is run only here, and judged by the same check before it is used.
Where there is none, the course's own stands in.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.attention import attention_rollout
from vitlab.checks import engine
from vitlab.checks.engine.comparing import describe
from vitlab.checks.engine.limits import LimitPassed, limited
from vitlab.checks.engine.source import error_words, learners_line
from vitlab.checks.kept import Part, kept_in_session, parts
from vitlab.checks.sources import load
from vitlab.encoder import Attention, Block, attention_weights
from vitlab.patches import as_pair, patchify, unpatchify
from vitlab.vit import ViT

MODEL = {  # the parts of a model, and their exercises
    "patchify": "1.1",
    "project": "2.1",
    "to_sequence": "2.2",
    "attention_weights": "3.1",
    "many_heads": "3.2",
    "encoder_block": "3.3",
}
OTHERS = {"train_step": "4.1", "learning_rate": "4.2", "rollout": "6.2"}


class PartFailed(RuntimeError):
    """The learner's code stopped inside a model; says which part, how, and in which line."""


class Picked(dict):
    """Parts by name; `own` has the names of those that are the learner's, `notes` what there is to say."""

    def __init__(self):
        super().__init__()
        self.own: list[str] = []
        self.notes: dict[str, str] = {}

    def __str__(self):
        course = [name for name in self if name not in self.own]
        own = f" ({', '.join(self.own)})" if self.own else ""
        line = f"yours: {len(self.own)} of {len(self)}{own}"
        return "\n".join([line + f"; the course's: {', '.join(course)}" * bool(course), *self.notes.values()])


def assemble(model="fashion_mnist_vit", **given: Callable) -> "AssembledViT":
    """A ViT whose parts are what you wrote in lessons 01 to 03, with a model's weights, in evaluation mode.

    Prints which parts are yours; those that you have not written, or that the check does not find right, are
    the course's. A function `given` by its part's name (`assemble(many_heads=my_heads)`) is taken as it is,
    right or wrong. If it stops on a garment, that is said and the course's part is taken. `model` is the name
    of a checkpoint that ships, or a `ViT`, whose weights are copied. The parts are `patchify` (exercise 1.1),
    `project` (2.1), `to_sequence` (2.2), `many_heads` (3.2), `encoder_block` (3.3), and `attention_weights`
    (3.1) wherever weights are looked at: in the last block, and in each while attention is recorded.

    Raises ValueError for a name that is no part's, and for a model without a class token or with learned
    parts that no exercise has. Code of yours that stops later raises PartFailed, which names the part.

    >>> assemble()(torch.zeros(2, 1, 28, 28)).shape  # doctest: +ELLIPSIS
    yours: ...
    torch.Size([2, 10])
    """
    source = model
    if isinstance(model, str):
        from vitlab.checkpoints import bundled, load_checkpoint

        source = load_checkpoint(bundled(model))
    check_model(source)
    picked = pick(MODEL, given)
    for name in list(picked.own):
        if why := trial(source, name, picked[name]):
            picked[name] = COURSE[name]
            picked.own.remove(name)
            picked.notes[name] = f"{why}; so the course's is used."
    made = AssembledViT(source, picked)
    print(picked)
    return made


def mine(*names: str, **given: Callable):
    """What you wrote, by name (`mine("rollout")`), or the course's where there is none; prints which it is.

    Several names give a tuple. Names are those of `assemble`, and `train_step` (exercise 4.1),
    `learning_rate` (4.2) and `rollout` (6.2). A function `given` by its name is taken as it is. Raises
    ValueError for other names.

    >>> rollout = mine("rollout")  # doctest: +ELLIPSIS
    yours: ...
    """
    known = MODEL | OTHERS
    for name in names:
        if name not in known:
            raise ValueError(f"there is no part {name!r}; there are {', '.join(known)}")
    if not names:
        raise ValueError(f"mine takes the names of parts; there are {', '.join(known)}")
    picked = pick({name: known[name] for name in names}, given)
    print(picked)
    return picked[names[0]] if len(names) == 1 else tuple(picked.values())


def pick(wanted: dict[str, str], given: dict[str, Callable]) -> Picked:
    """For each part and its exercise the function that is given, else the learner's, else the course's."""
    for name, function in given.items():
        if name not in wanted:
            raise ValueError(f"there is no part {name!r} here; there are {', '.join(wanted)}")
        if not callable(function):
            raise ValueError(f"{name} is given as a function of yours; got {describe(function)}")
    kept = parts()
    picked = Picked()
    if kept.note:
        picked.notes["file"] = kept.note
    for name, id in wanted.items():
        function, note = given.get(name), ""
        if function is not None:
            found = engine.verdict(id, function)
            if found.status != "correct":
                note = f"{name} is used as you gave it. {found}"
        else:
            function, note = learners(name, id, [part for part in kept if part.id == id])
        if function is not None:
            picked.own.append(name)
        picked[name] = function or course(name, id)
        if note:
            picked.notes[name] = note
    return picked


def learners(name: str, id: str, kept: list[Part]) -> tuple[Callable | None, str]:
    """The learner's right answer to an exercise, from this session or from mine.py, and what to say of it."""
    if (answer := kept_in_session(id)) is not None:
        return answer, ""
    for part in kept:
        try:
            answer = limited(partial(load, part.source, f"<mine.py, exercise {id}>"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in a check: whatever is in the file, the lesson goes on
            return None, f"{name}: what mine.py has of exercise {id} {told(error)}, and is not used."
        found = engine.verdict(id, answer)
        if found.status != "correct":
            return None, f"{name}: what mine.py has is not used. {found}"
        return answer, ""
    return None, ""


def course(name: str, id: str) -> Callable:
    """The course's own: of a model's parts fast ones, of others the answer that checks compare with."""
    return (COURSE | FAST).get(name) or engine.find(id).oracle


def trial(model: ViT, name: str, function: Callable) -> str:
    """Why a part cannot be used in this model, in words; "" if it can. All others are the course's."""
    alone = AssembledViT(model, COURSE | {name: function})
    c, weight = model.config, model.norm.weight
    images = torch.linspace(-1, 1, 2 * c.in_chans * math.prod(as_pair(c.image_size)))
    images = images.reshape(2, c.in_chans, *as_pair(c.image_size)).to(weight)
    try:
        with torch.no_grad():
            limited(partial(alone, images))
    except (PartFailed, LimitPassed) as error:
        return str(error) if isinstance(error, PartFailed) else f"your {name} {error.args[0]}"
    return ""


def check_model(model) -> None:
    """Raise ValueError for a model that the exercises' parts do not make."""
    if not isinstance(model, ViT):
        raise ValueError(f"assemble takes the name of a checkpoint or a ViT; got {describe(model)}")
    c = model.config
    plain = dict(pool="token", pos_embed="learned", stem=None, patch_norm=False, dropout=0.0)
    plain |= dict(representation_size=None, head_dim=None, num_registers=0, distilled=False)
    for field, wanted in plain.items():
        if getattr(c, field) != wanted:
            raise ValueError(f"the exercises make a ViT with {field}={wanted!r}; got {getattr(c, field)!r}")


class AssembledViT(ViT):
    """A `ViT` of the same config, weights and parameter names as `model`, computed by other functions."""

    def __init__(self, model: ViT, functions: dict[str, Callable]):
        weight, c = model.norm.weight, model.config
        parts_by_name = {name: named(name, function) for name, function in functions.items()}
        with torch.device("meta"):
            super().__init__(c)
            block = dict(embed_dim=c.embed_dim, num_heads=c.num_heads, mlp_dim=c.mlp_dim, gelu=c.gelu)
            block |= dict(norm_eps=c.norm_eps, qkv_bias=c.qkv_bias)
            self.blocks = nn.Sequential(
                *(AssembledBlock(parts_by_name, i == c.depth - 1, **block) for i in range(c.depth))
            )
        self.parts = parts_by_name
        self.to_empty(device=weight.device).to(weight.dtype)
        self.load_state_dict(model.state_dict())
        self.class_names = model.class_names
        self.eval()

    def embed(self, images: Tensor) -> Tensor:
        """Equation 1 by the learner's parts; `project` cuts for itself, so patches become images before."""
        self.check_images(images)
        c, B, proj = self.config, len(images), self.patch_embed.proj
        N, D, P = c.num_patches, c.embed_dim, c.patch_size
        patches = self.parts["patchify"](images, P, shape=(B, N, c.patch_dim))
        images = unpatchify(patches, P, c.image_size, c.in_chans)
        tokens = self.parts["project"](images, proj.weight, proj.bias, shape=(B, N, D))
        return self.parts["to_sequence"](tokens, self.cls_token, self.pos_embed, shape=(B, N + 1, D))


class AssembledBlock(Block):
    """A block whose norms, attention and MLP the learner's `encoder_block` puts together."""

    def __init__(self, parts: dict[str, Callable], last: bool, embed_dim: int, num_heads: int, **fields):
        super().__init__(embed_dim, num_heads, **fields)
        self.parts = parts
        self.attn = AssembledAttention(parts, last, embed_dim, num_heads, qkv_bias=fields["qkv_bias"])

    def forward(self, x: Tensor, class_only: bool = False) -> Tensor:
        """All tokens, or the class token alone, after this layer: (B, T, D) -> (B, T or 1, D)."""
        x = self.parts["encoder_block"](x, self.norm1, self.attn, self.norm2, self.mlp, shape=x.shape)
        return x[:, :1] if class_only else x


class AssembledAttention(Attention):
    """The learner's `many_heads`, or their `attention_weights` where weights are looked at."""

    def __init__(self, parts: dict[str, Callable], last: bool, *sizes, **fields):
        super().__init__(*sizes, **fields)
        self.parts, self.last = parts, last

    def attend(self, qkv: Tensor) -> Tensor:
        """softmax(q kᵀ / √d) v: queries, keys and values (B, T, 3D) -> (B, T, D)."""
        B, T, D = *qkv.shape[:2], qkv.shape[2] // 3
        if not (self.last or self.observers or self.visible):
            return self.parts["many_heads"](qkv, self.num_heads, shape=(B, T, D))
        q, k, v = (part.flatten(0, 1) for part in self.heads(qkv))  # (B·heads, T, d)
        weights = self.parts["attention_weights"](q, k, shape=(B * self.num_heads, T, T))
        for observe in self.observers:
            observe(weights.unflatten(0, (B, self.num_heads)))
        return (weights.to(v.dtype) @ v).unflatten(0, (B, self.num_heads)).transpose(1, 2).flatten(2)


def named(name: str, function: Callable) -> Callable:
    """A part that is called with the shape it is to return, and whose failure is told by its name."""

    def part(*arguments, shape):
        try:
            result = function(*arguments)
        except PartFailed:  # of a part inside this one
            raise
        except Exception as error:
            raise PartFailed(f"your {name} {told(error)}") from error
        if not isinstance(result, Tensor) or result.shape != tuple(shape):
            raise PartFailed(f"your {name} returned {describe(result)} where {tuple(shape)} is needed")
        return result.to(arguments[0].dtype)  # another precision is right, and the model keeps its own

    return part


def told(error: BaseException) -> str:
    """What the learner's code did, after its name, in which of their lines."""
    return error_words(error, learners_line(error))


def project(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The projection of every patch: (B, C, H, W) -> (B, N, D)."""
    return F.conv2d(images, weight, bias, stride=weight.shape[-1]).flatten(2).mT


def to_sequence(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """The class token in front, positions added: (B, N, D) -> (B, N + 1, D)."""
    return torch.cat([cls_token.expand(len(patches), -1, -1), patches], dim=1) + pos_embed


def many_heads(qkv: Tensor, num_heads: int) -> Tensor:
    """All heads' outputs side by side: (B, T, 3D) -> (B, T, D)."""
    parts = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, T, d)
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def encoder_block(x: Tensor, norm1, attention, norm2, mlp) -> Tensor:
    """The pre-norm block: (B, T, D) -> (B, T, D)."""
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


COURSE = {
    "patchify": patchify,
    "project": project,
    "to_sequence": to_sequence,
    "attention_weights": attention_weights,
    "many_heads": many_heads,
    "encoder_block": encoder_block,
}
FAST = {"rollout": partial(attention_rollout, head_fusion="max")}  # the check's own reads number by number

"""Learning from a trained model's answers as well as from labels: DeiT's distillation (arXiv 2012.12877)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.classes import listed, repeated
from vitlab.training.evaluation import known_names, said_outputs
from vitlab.training.tasks import Outcome
from vitlab.vit import ViT, evaluating
from vitlab.wording import counted

SHARES = {"soft": 0.1, "hard": 0.5}  # of the loss that are the teacher's, in the paper
TEMPERATURE = 3.0


def distillation(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    teacher: nn.Module,
    kind: str = "soft",
    share: float | None = None,
    temperature: float | None = None,
    label_smoothing: float = 0.0,
) -> Outcome:
    """The task of naming each image's class as its label does and as a teacher does (DeiT, section 4).

    The loss is (1 - share) · true + share · taught, means over images in nats: `true` is the cross-entropy
    with the labels, `taught` by `kind`

    - "soft": τ² KL(teacher's softmax(z / τ) ‖ the model's), τ the `temperature` (equation 2; by default 3,
      and a share of 0.1);
    - "hard": the cross-entropy with the class that the teacher thinks likeliest (equation 3; by default a
      share of 0.5).

    Of a ViT with `distilled=True` the head on the class token learns from the labels, the one on the
    distillation token from the teacher; the one head of any other model learns from both. Right answers are
    counted of the model's logits. `teacher` is any module from such images, in [-1, 1], to logits (B,
    classes). It answers in evaluation mode, without gradients, on the model's device. Its classes and the
    model's are matched by name where both have `class_names`; it may know more, whose logits are left out.
    `train` takes it as `task=functools.partial(distillation, teacher=…)`; with a `checkpoint_dir` the teacher
    is known again by its class, the mode it was given in, and a hash of its weights and of what else stands
    on its parts, such as `class_names`. Raises ValueError for a teacher that is the model, does not know its
    classes, has another number of them or answers with what is no number, for a ViT with `distilled=True`
    inside another module, and for settings that the kind does not use.

    >>> from vitlab import ViT, ViTConfig
    >>> model, teacher = ViT(ViTConfig(distilled=True)), ViT(ViTConfig())
    >>> images, labels = torch.zeros(2, 1, 28, 28), torch.tensor([0, 3])
    >>> loss, correct, counted, divisor = distillation(model, images, labels, teacher, kind="hard")
    >>> round(loss.item(), 4), correct.item(), counted  # both untrained
    (2.3026, 1, 2)
    """
    share, temperature = settings(kind, share, temperature)
    two_heads = has_two_heads(model)
    wanted = taught(model, teacher, images)  # (B, classes)
    if two_heads:
        of_label, of_teacher = model.logits_by_head(model.forward_features(images)).float().unbind(dim=1)
        logits = (of_label + of_teacher) / 2
    else:
        of_label = of_teacher = logits = model(images).float()
    true = F.cross_entropy(of_label, labels, label_smoothing=label_smoothing)
    if kind == "hard":
        from_teacher = F.cross_entropy(of_teacher, wanted.argmax(dim=-1))
    else:
        own, theirs = ((each / temperature).log_softmax(dim=-1) for each in (of_teacher, wanted))
        from_teacher = temperature**2 * F.kl_div(own, theirs, reduction="batchmean", log_target=True)
    loss = (1 - share) * true + share * from_teacher
    return Outcome(loss, (logits.argmax(dim=-1) == labels).sum(), len(labels))


distillation.labels_are_classes = True


def settings(kind: str, share: float | None, temperature: float | None) -> tuple[float, float]:
    """Share and temperature of a kind of distillation; raises ValueError for those that it cannot have."""
    if kind not in SHARES:
        raise ValueError(f"kind is {' or '.join(map(repr, SHARES))}; got {kind!r}")
    if kind == "hard" and temperature is not None:
        raise ValueError(
            f"temperature is of kind='soft', as no temperature changes which class is likeliest; got "
            f"{temperature!r}: leave it out"
        )
    share = SHARES[kind] if share is None else share
    temperature = TEMPERATURE if temperature is None else temperature
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"share is the teacher's part of the loss, from 0 to 1; got {share!r}")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature is above 0 and finite; got {temperature!r}")
    return share, temperature


def has_two_heads(model: nn.Module) -> bool:
    """Whether a model has a head for each target; raises ValueError where they are inside another module."""
    if getattr(getattr(model, "config", None), "distilled", False):
        return True
    for name, part in model.named_modules():
        if isinstance(part, ViT) and part.config.distilled and part.config.num_classes:
            raise ValueError(
                f"both heads of the distilled ViT inside this {type(model).__name__} would learn from labels "
                f"and teacher alike: give the ViT itself, here model.get_submodule({name!r})"
            )
    return False


def taught(model: nn.Module, teacher: nn.Module, images: Tensor) -> Tensor:
    """The teacher's logits for the model's classes, in their order: (B, C, H, W) -> (B, classes), fp32."""
    if not isinstance(teacher, nn.Module):
        raise ValueError(f"a teacher is a module from images to logits; got a {type(teacher).__name__}")
    if {*map(id, teacher.parameters())} & {*map(id, model.parameters())}:
        raise ValueError(
            "the teacher has the model's own parameters, so that it would change while it teaches: give a "
            "copy, copy.deepcopy(model)"
        )
    teacher.to(images.device)
    with torch.no_grad(), evaluating(teacher):
        said = teacher(images)
    if not isinstance(said, Tensor) or said.ndim != 2 or len(said) != len(images):
        got = f"shape {tuple(said.shape)}" if isinstance(said, Tensor) else f"a {type(said).__name__}"
        raise ValueError(
            f"a teacher gives logits of shape ({len(images)}, classes) for {counted(len(images), 'image')}; "
            f"this {type(teacher).__name__} gives {got}: wrap it in a module that returns its logits alone"
        )
    places = outputs_for(model, teacher, said.shape[1])
    wanted = said.float() if places is None else said.float()[:, places]
    if not wanted.isfinite().all():
        raise ValueError(
            f"this {type(teacher).__name__} answers with logits that are NaN or infinite, from which nothing "
            "is to be learnt: give a teacher whose logits are finite in the run's precision"
        )
    return wanted


def outputs_for(model: nn.Module, teacher: nn.Module, count: int) -> list[int] | None:
    """Which of a teacher's `count` outputs are those of a model, in its order; None: all, as they are.

    Raises ValueError where it cannot be known, or one of the model's classes is none of the teacher's.
    """
    names, theirs = known_names(model), list(getattr(teacher, "class_names", None) or [])
    if len(theirs) > count:
        raise ValueError(
            f"the teacher has {counted(count, 'output')}, but its class_names has "
            f"{counted(len(theirs), 'name')} ({listed(theirs)}): set it to those of the outputs, or to None"
        )
    outputs = said_outputs(model)
    if not names or not theirs:
        if outputs not in (None, count):
            raise ValueError(
                f"the model has {counted(outputs, 'output')}, the teacher {count}, and not both have names "
                "for them: which of them are the same is not known. Set class_names of both"
            )
        return None
    for whose, known in (("model", names), ("teacher", theirs)):
        if same := repeated(known):
            raise ValueError(
                f"the {whose} has {listed(same)} more than once among its classes: give each a name of its "
                "own"
            )
    if missing := [name for name in names if name not in theirs]:
        raise ValueError(
            f"the teacher does not know {listed(missing)}; it knows {listed(theirs)}: give one that knows "
            "all of the model's classes"
        )
    if outputs not in (None, len(names)):
        raise ValueError(
            f"the model has {counted(outputs, 'output')} and names for {len(names)} ({listed(names)}): what "
            "the teacher would say of the others is not known. Make the model with "
            f"num_classes={len(names)}"
        )
    return [theirs.index(name) for name in names]

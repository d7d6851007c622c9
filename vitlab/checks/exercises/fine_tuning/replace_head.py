"""Exercise 5.2: a new head for old weights."""

import torch
from torch import nn

from vitlab.checks.engine import Exercise


def _head_cases(generator):
    def case(width, hidden, old_classes, num_classes):
        def drawn(*shape):
            return torch.randn(*shape, generator=generator)

        weights = {"cls_token": drawn(1, 1, width), "norm.weight": drawn(width), "norm.bias": drawn(width)}
        if hidden:
            weights |= {"pre_logits.fc.weight": drawn(hidden, width), "pre_logits.fc.bias": drawn(hidden)}
        read = hidden or width
        weights |= {"head.weight": drawn(old_classes, read), "head.bias": drawn(old_classes)}
        return weights, num_classes

    yield case(6, 4, 10, 3)
    yield case(5, None, 7, 4)
    yield case(4, 9, 3, 5)


def _as_loaded(replace_head, weights, num_classes):
    """Zeros of another precision are zeros: loading them gives them the model's own."""
    new = replace_head(weights, num_classes)
    if not isinstance(new, dict):
        return new
    heads = {name for name in new if name.startswith("head.") and isinstance(new[name], torch.Tensor)}
    return {name: value.float() if name in heads else value for name, value in new.items()}


def _replace_head(weights, num_classes):
    like = weights["norm.weight"]
    kept = {
        name: value for name, value in weights.items() if name.split(".")[0] not in ("head", "pre_logits")
    }
    kept["head.weight"] = torch.zeros(num_classes, len(like), dtype=like.dtype)
    kept["head.bias"] = torch.zeros(num_classes, dtype=like.dtype)
    return kept


def _hidden_layer_kept(weights, num_classes):
    hidden = {name: value for name, value in weights.items() if name.startswith("pre_logits")}
    return hidden | _replace_head(weights, num_classes)


def _old_width(weights, num_classes):
    head = weights["head.weight"].new_zeros(num_classes, weights["head.weight"].shape[1])
    return _replace_head(weights, num_classes) | {"head.weight": head}


def _old_head_kept(weights, num_classes):
    return {name: value for name, value in weights.items() if not name.startswith("pre_logits")}


def _transposed(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return new | {"head.weight": new["head.weight"].T}


def _random_head(weights, num_classes):
    layer = nn.Linear(len(weights["norm.weight"]), num_classes).to(weights["norm.weight"].dtype)
    return _replace_head(weights, num_classes) | {"head.weight": layer.weight, "head.bias": layer.bias}


def _bias_missing(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return {name: value for name, value in new.items() if name != "head.bias"}


def _old_bias(weights, num_classes):
    return _replace_head(weights, num_classes) | {"head.bias": weights["head.bias"]}


def _ones(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return new | {"head.weight": torch.ones_like(new["head.weight"])}


def _drawn_head(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return new | {"head.weight": torch.randn(new["head.weight"].shape)}


def _head_alone(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return {name: new[name] for name in ("head.weight", "head.bias")}


def _old_shape(weights, num_classes):
    new = _old_head_kept(weights, num_classes)
    return new | {name: torch.zeros_like(new[name]) for name in ("head.weight", "head.bias")}


EXERCISE = Exercise(
    "5.2",
    "a new head for old weights",
    cases=_head_cases,
    oracle=_replace_head,
    mistakes=[
        (_hidden_layer_kept, "the hidden layer pre_logits is still there; the whole old head goes."),
        (
            _old_width,
            "the new head reads as many numbers as the old one did; without the hidden layer it reads D, "
            "the length of norm.weight.",
        ),
        (_old_head_kept, "the old head is still there, with its old classes."),
        (_transposed, "head.weight is (D, num_classes); a linear layer keeps it as (num_classes, D)."),
        (_random_head, "the new head is random; it starts at zero."),
        (_drawn_head, "head.weight is drawn at random; it starts at zero."),
        (_ones, "head.weight is all ones, so that no two classes ever differ; it starts at zero."),
        (_bias_missing, "the new head has no bias; load_state_dict would ask for head.bias."),
        (_old_bias, "head.bias is still the old classes' bias."),
        (_head_alone, "only the head is returned; the body's weights go along unchanged."),
        (_old_shape, "the head is zero, but has the old one's shape; wanted is (num_classes, D)."),
    ],
    tolerance=0,
    call=_as_loaded,
)

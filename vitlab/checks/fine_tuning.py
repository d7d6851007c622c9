"""Lesson 05, fine-tuning: exercises 5.1–5.4 and predictions 5.a–5.f."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction

# ---------------------------------------------------------------------------------------- 5.1 replace_head


def _head_cases(generator):
    def case(width, hidden, old_classes, num_classes, dtype=torch.float32):
        def drawn(*shape):
            return torch.randn(*shape, dtype=dtype, generator=generator)

        weights = {"cls_token": drawn(1, 1, width), "norm.weight": drawn(width), "norm.bias": drawn(width)}
        if hidden:
            weights |= {"pre_logits.fc.weight": drawn(hidden, width), "pre_logits.fc.bias": drawn(hidden)}
        read = hidden or width
        weights |= {"head.weight": drawn(old_classes, read), "head.bias": drawn(old_classes)}
        return weights, num_classes

    yield case(6, 4, 10, 3)
    yield case(5, None, 7, 4)
    yield case(4, 9, 3, 5, dtype=torch.float64)


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


def _head_alone(weights, num_classes):
    new = _replace_head(weights, num_classes)
    return {name: new[name] for name in ("head.weight", "head.bias")}


# ---------------------------------------------------------------------------------------- 5.2 one SGD step


def _step_cases(generator):
    def case(size, learning_rate, clip_norm, dtype=torch.float32):
        shapes = (3, 4), (4,), (2, 3, 2)

        def drawn(scale):
            return [scale * torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]

        return drawn(1.0), drawn(size), drawn(0.5), learning_rate, clip_norm

    yield case(2.0, 0.1, 1.0)
    yield case(0.05, 0.3, 1.0)  # small gradients: nothing to clip
    yield case(3.0, 0.03, 0.5, dtype=torch.float64)


def _sgd_step(weights, gradients, velocities, learning_rate, clip_norm):
    squares = sum(value**2 for gradient in gradients for value in gradient.double().flatten().tolist())
    return _step(weights, gradients, velocities, learning_rate, min(1.0, clip_norm / math.sqrt(squares)))


def _step(weights, gradients, velocities, learning_rate, scale, momentum=0.9, dampening=0.0):
    """One step with each gradient times `scale`, a number or one for each."""
    scales = scale if isinstance(scale, list) else [scale] * len(gradients)
    moved = [
        momentum * v + (1 - dampening) * s * g for v, g, s in zip(velocities, gradients, scales, strict=True)
    ]
    return [w - learning_rate * v for w, v in zip(weights, moved, strict=True)], moved


def _norm(gradients):
    return math.sqrt(sum((gradient.double() ** 2).sum().item() for gradient in gradients))


def _not_clipped(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, 1.0)


def _clipped_one_by_one(weights, gradients, velocities, learning_rate, clip_norm):
    scales = [min(1.0, clip_norm / _norm([gradient])) for gradient in gradients]
    return _step(weights, gradients, velocities, learning_rate, scales)


def _always_scaled(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, clip_norm / _norm(gradients))


def _clamped(weights, gradients, velocities, learning_rate, clip_norm):
    clamped = [gradient.clamp(-clip_norm, clip_norm) for gradient in gradients]
    return _step(weights, clamped, velocities, learning_rate, 1.0)


def _no_momentum(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    return _step(weights, gradients, velocities, learning_rate, scale, momentum=0.0)


def _averaged(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    return _step(weights, gradients, velocities, learning_rate, scale, dampening=0.9)


def _uphill(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, -learning_rate, clip_norm)


def _old_velocity(weights, gradients, velocities, learning_rate, clip_norm):
    moved = _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[1]
    return [w - learning_rate * v for w, v in zip(weights, velocities, strict=True)], moved


def _weights_alone(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[0]


# ---------------------------------------------------------------------------------------- 5.3 linear probe


def _probe_cases(generator):
    def case(n, width, classes, penalty, dtype=torch.float32):
        features = torch.randn(n, width, dtype=dtype, generator=generator)
        labels = torch.arange(n) % classes
        return features, labels[torch.randperm(n, generator=generator)], classes, penalty

    yield case(12, 4, 3, 0.7)
    yield case(9, 5, 2, 3.0, dtype=torch.float64)
    yield case(6, 8, 4, 0.2)  # more features than images: without the penalty there is no single answer


def _targets(features, labels, classes, low=-1.0):
    targets = torch.full((len(labels), classes), low, dtype=features.dtype)
    targets[range(len(labels)), labels] = 1.0
    return targets


def _stacked(features, labels, classes, penalty, targets=None):
    """A penalty is least squares with one more row √penalty for each weight, and nothing as its target."""
    n, width = features.shape
    targets = _targets(features, labels, classes) if targets is None else targets
    rows = torch.cat([features, math.sqrt(penalty) * torch.eye(width, dtype=features.dtype)]).double()
    wanted = torch.cat([targets, torch.zeros(width, classes, dtype=features.dtype)]).double()
    return (torch.linalg.pinv(rows) @ wanted).to(features.dtype)


def _fit_probe(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty)


def _targets_of_zero(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty, _targets(features, labels, classes, low=0.0))


def _no_penalty(features, labels, classes, penalty):
    return (torch.linalg.pinv(features.double()) @ _targets(features, labels, classes).double()).to(features)


def _penalty_rooted(features, labels, classes, penalty):
    return _stacked(features, labels, classes, math.sqrt(penalty))


def _penalty_squared(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty**2)


def _penalty_everywhere(features, labels, classes, penalty):
    """A number added to a matrix goes to every entry, not to the diagonal alone."""
    gram = features.T @ features + penalty
    return torch.linalg.pinv(gram) @ features.T @ _targets(features, labels, classes)


def _penalty_per_image(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty * len(features))


def _probe_transposed(features, labels, classes, penalty):
    return _fit_probe(features, labels, classes, penalty).T


def _predicted_scores(features, labels, classes, penalty):
    return features @ _fit_probe(features, labels, classes, penalty)


def _not_solved(features, labels, classes, penalty):
    return features.T @ _targets(features, labels, classes)


# ---------------------------------------------------------------------------------------- 5.4 old_place


def _place_cases(generator):
    for old, new in ((7, 14), (14, 24), (7, 5), (4, 9)):
        index = torch.randint(1, new - 1, (), generator=generator).item()
        for i in (index, 0, new - 1):
            yield from ((i, old, new, True), (i, old, new, False))


def _old_place(index, old, new, corners):
    if corners:
        return torch.linspace(0, old - 1, new, dtype=torch.float64)[index].item()
    left, right = index * old / new, (index + 1) * old / new  # the patch's edges, in old patches
    return (left + right) / 2 - 0.5


def _other_rule(index, old, new, corners):
    return _old_place(index, old, new, not corners)


def _always_corners(index, old, new, corners):
    return _old_place(index, old, new, True)


def _always_edges(index, old, new, corners):
    return _old_place(index, old, new, False)


def _left_edges(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index * old / new


def _half_not_taken_back(index, old, new, corners):
    return _old_place(index, old, new, corners) + (0 if corners else 0.5)


def _counts_for_corners(index, old, new, corners):
    return index * old / new if corners else _old_place(index, old, new, False)


def _other_direction(index, old, new, corners):
    return index * (new - 1) / (old - 1) if corners else (index + 0.5) * new / old - 0.5


def _kept_inside(index, old, new, corners):
    return min(max(_old_place(index, old, new, corners), 0.0), old - 1.0)


def _rounded(index, old, new, corners):
    return float(round(_old_place(index, old, new, corners)))


EXERCISES = [
    Exercise(
        "5.1",
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
            (_bias_missing, "the new head has no bias; load_state_dict would ask for head.bias."),
            (_old_bias, "head.bias is still the old classes' bias."),
            (_head_alone, "only the head is returned; the body's weights go along unchanged."),
        ],
        tolerance=0,
    ),
    Exercise(
        "5.2",
        "one step of SGD as the paper fine-tunes",
        cases=_step_cases,
        oracle=_sgd_step,
        mistakes=[
            (_not_clipped, "the gradients are not clipped."),
            (_clipped_one_by_one, "each tensor is clipped by itself; one norm is taken over all of them."),
            (_always_scaled, "small gradients are made larger; clipping only ever makes them smaller."),
            (_clamped, "each number is clamped; clipping scales all of them alike and keeps the direction."),
            (_no_momentum, "the velocity forgets what was before: new velocity = 0.9 · old + gradient."),
            (_averaged, "the gradient is weighted with 0.1; PyTorch's momentum adds it whole."),
            (_uphill, "the step goes up the gradient; the learning rate is subtracted."),
            (_old_velocity, "the weights move with the old velocity; they move with the new one."),
            (_weights_alone, "the velocities are missing; return (weights, velocities)."),
        ],
    ),
    Exercise(
        "5.3",
        "a linear probe in closed form",
        cases=_probe_cases,
        oracle=_fit_probe,
        mistakes=[
            (_targets_of_zero, "the targets are 0 and 1; wanted are -1 and 1."),
            (_no_penalty, "the penalty is left out."),
            (_penalty_rooted, "this adds the penalty's root; that is for extra rows below the features."),
            (_penalty_squared, "this is the penalty squared."),
            (
                _penalty_everywhere,
                "the penalty is added to every entry of XᵀX; it goes on the diagonal: penalty * torch.eye.",
            ),
            (_penalty_per_image, "the penalty is multiplied by the number of images; here it is not."),
            (_probe_transposed, "the weights are (classes, D); wanted is (D, classes)."),
            (_predicted_scores, "these are the scores of the images; wanted are the weights."),
            (_not_solved, "this is XᵀT, the right-hand side; the equation is still to be solved."),
        ],
        tolerance=1e-4,
    ),
    Exercise(
        "5.4",
        "where a new patch lies in the old grid",
        cases=_place_cases,
        oracle=_old_place,
        mistakes=[
            (_kept_inside, "places are kept inside the grid; with corners=False the outermost lie outside."),
            (_always_corners, "corners=False is not told apart: it lays edges on edges."),
            (_always_edges, "corners=True is not told apart: it lays corners on corners."),
            (_other_rule, "the two rules are swapped: corners=True lays the last patch on the last."),
            (
                _left_edges,
                "with corners=False this is the patch's left edge; what is wanted is where its middle lies.",
            ),
            (
                _half_not_taken_back,
                "with corners=False this counts from the image's edge; old patch 0 has its middle at 0.5 "
                "there, so take 0.5 off.",
            ),
            (
                _counts_for_corners,
                "with corners=True the steps count, not the patches: old - 1 steps become new - 1.",
            ),
            (_other_direction, "this goes from the old grid to the new one; the other way is wanted."),
            (_rounded, "the place is rounded; between two old patches is where most new ones lie."),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "5.a",
        "The new head is all zeros. After the first forward and backward pass, how large is the gradient "
        "that reaches the body, all layers below the head?",
        [
            (
                "About as large as with a random head",
                "What flows down is multiplied by the head's weights on its way. What if those are zero?",
            ),
            (
                "Exactly zero",
                "The gradient with respect to the features is Wᵀ times the error, and W is zero. The "
                "first step moves the head alone.",
            ),
            (
                "Larger, because the error is larger",
                "The error is that of an even guess; a random head's is larger. And zero times it is zero.",
            ),
            (
                "Zero, and it stays zero: the body never learns",
                "Only for the first step. The head's own gradient is error times features, and not zero; "
                "after one step W is not zero any more.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "5.b",
        "A linear classifier on the 784 raw pixels, without any network, against the linear probe on the "
        "pre-trained features, with 5 to 100 labels per class: how does it do?",
        [
            (
                "Far behind at every number of labels",
                "So one would think. But these garments are centred, upright and of one size: the same pixel "
                "means nearly the same thing in every image.",
            ),
            (
                "Level with few labels, ahead with many",
                "The garments are centred and of one size, the ideal case for raw pixels; and 784 numbers "
                "hold more than the 96 features, which were made for five other classes.",
            ),
            (
                "Ahead with few labels, behind with many",
                "The other way round, if anything: a probe on 96 features has fewer weights to find, which "
                "helps where labels are few.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "5.c",
        "Fine-tuned with 5 labels per class, the pre-trained model reaches some accuracy on garments it "
        "has never seen. How many labels per class does the same model need from scratch, in as many steps?",
        [
            (
                "5 as well: the garments are new to both",
                "The classes are new to both; edges, shapes and cloth are not.",
            ),
            ("About 10", "Twice as many labels do not make up for what is missing."),
            ("About 20", "Four times as many labels do not make up for what is missing."),
            (
                "More than 50, if labels can do it at all",
                "In so few steps it takes about 100 to come near: labels are not all that it lacks.",
            ),
        ],
        right=3,
    ),
    Prediction(
        "5.d",
        "A model for 28 × 28 pixels, P = 4, has 50 position embeddings. How many does it need for 56 × 56?",
        [
            ("50", "One for each token; and there are more tokens now, as P stays 4."),
            ("100", "Twice as high and twice as wide: four times the patches, not twice."),
            ("197", "14 · 14 = 196 patches and the one class token."),
            ("200", "The patches are four times as many; the class token is still one."),
        ],
        right=2,
    ),
    Prediction(
        "5.e",
        "The ten-class model gets about 90 % at 28 × 28. It is shown the same garments at 40 × 40, with "
        "resized position embeddings and no further training. What does it get?",
        [
            (
                "Still about 90 %, within two points",
                "Each patch now shows a smaller piece of the garment, but the table says where it lies; "
                "that is nearly enough.",
            ),
            ("About 70 %", "It was trained at one scale only, but is more patient than that."),
            ("About 10 %: chance", "Patches of 4 × 4 pixels still show edges and cloth, at places that fit."),
        ],
        right=0,
    ),
    Prediction(
        "5.f",
        "The same at 40 × 40, but nobody resized: the 49 embeddings are simply repeated, in reading "
        "order, until all 100 patches have one. What now?",
        [
            ("About 85 %: positions matter little", "Without any at all, perhaps; these are wrong ones."),
            ("About 60 %", "Worse. Nearly every patch is told that it lies somewhere else."),
            (
                "Below 30 %",
                "Seven to a row were learnt, ten to a row are given: the garment is cut into strips that "
                "are laid elsewhere. And nothing complains.",
            ),
            ("An error", "The shapes fit. That is what makes this mistake a dangerous one."),
        ],
        right=2,
    ),
]

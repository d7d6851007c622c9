"""Lesson 05, fine-tuning: exercises 5.1–5.5 and predictions 5.a–5.d."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question

# ---------------------------------------------------------------------------------------- 5.1 to_colour


def _colour_cases(generator):
    for width, side in ((5, 4), (3, 2), (8, 7)):
        yield (torch.randn(width, 1, side, side, generator=generator),)


def _to_colour(weight):
    colour = torch.zeros(len(weight), 3, *weight.shape[2:], dtype=weight.dtype)
    for channel in range(3):
        colour[:, channel] = weight[:, 0] / 3
    return colour


def _not_shared_out(weight):
    return 3 * _to_colour(weight)


def _one_channel(weight):
    return _to_colour(weight) * torch.tensor([3, 0, 0], dtype=weight.dtype)[:, None, None]


def _shared_by_the_root(weight):
    return math.sqrt(3) * _to_colour(weight)


def _still_grey(weight):
    return weight / 3


def _stacked_outputs(weight):
    return (weight / 3).repeat(3, 1, 1, 1)


def _luma(weight):
    """The shares of red, green and blue in what the eye sees as brightness."""
    return 3 * _to_colour(weight) * torch.tensor([0.299, 0.587, 0.114], dtype=weight.dtype)[:, None, None]


def _two_dimensions_lost(weight):
    return (weight / 3).expand(-1, 3, -1, -1).flatten(2)


# ---------------------------------------------------------------------------------------- 5.2 replace_head


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


# ---------------------------------------------------------------------------------------- 5.3 one SGD step


def _step_cases(generator):
    def case(size, learning_rate, clip_norm):
        shapes = (3, 4), (4,), (2, 3, 2)

        def drawn(scale):
            return [scale * torch.randn(shape, generator=generator) for shape in shapes]

        return drawn(1.0), drawn(size), drawn(0.5), learning_rate, clip_norm

    yield case(2.0, 0.1, 1.0)
    yield case(0.05, 0.3, 1.0)  # small gradients: nothing to clip
    yield case(3.0, 0.03, 0.5)


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


def _norms_added(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / sum(_norm([gradient]) for gradient in gradients))
    return _step(weights, gradients, velocities, learning_rate, scale)


def _norm_without_root(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients) ** 2)
    return _step(weights, gradients, velocities, learning_rate, scale)


def _velocities_clipped(weights, gradients, velocities, learning_rate, clip_norm):
    moved = [0.9 * v + g for v, g in zip(velocities, gradients, strict=True)]
    moved = [min(1.0, clip_norm / _norm(moved)) * v for v in moved]
    return [w - learning_rate * v for w, v in zip(weights, moved, strict=True)], moved


def _rate_in_the_velocity(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    moved = [0.9 * v - learning_rate * scale * g for v, g in zip(velocities, gradients, strict=True)]
    return [w + v for w, v in zip(weights, moved, strict=True)], moved


def _rate_in_what_is_added(weights, gradients, velocities, learning_rate, clip_norm):
    scale = learning_rate * min(1.0, clip_norm / _norm(gradients))
    moved = [0.9 * v + scale * g for v, g in zip(velocities, gradients, strict=True)]
    return [w - v for w, v in zip(weights, moved, strict=True)], moved


def _upside_down(weights, gradients, velocities, learning_rate, clip_norm):
    return _step(weights, gradients, velocities, learning_rate, min(1.0, _norm(gradients) / clip_norm))


def _largest_entry(weights, gradients, velocities, learning_rate, clip_norm):
    largest = max(gradient.abs().max().item() for gradient in gradients)
    return _step(weights, gradients, velocities, learning_rate, min(1.0, clip_norm / largest))


def _looking_ahead(weights, gradients, velocities, learning_rate, clip_norm):
    scale = min(1.0, clip_norm / _norm(gradients))
    moved = _step(weights, gradients, velocities, learning_rate, scale)[1]
    ahead = [0.9 * v + scale * g for v, g in zip(moved, gradients, strict=True)]
    return [w - learning_rate * v for w, v in zip(weights, ahead, strict=True)], moved


def _velocities_first(weights, gradients, velocities, learning_rate, clip_norm):
    return _sgd_step(weights, gradients, velocities, learning_rate, clip_norm)[::-1]


# ---------------------------------------------------------------------------------------- 5.4 linear probe


def _probe_cases(generator):
    def case(n, width, classes, penalty, drawn=None):
        features = torch.randn(n, width, generator=generator)
        labels = torch.arange(n) % (drawn or classes)
        return features, labels[torch.randperm(n, generator=generator)], classes, penalty

    yield case(12, 4, 3, 0.7)
    yield case(9, 5, 4, 3.0, drawn=2)  # of the last classes there is no image
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


def _one_hot_less_one(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty, _targets(features, labels, classes) / 2 - 0.5)


def _counted_classes(features, labels, classes, penalty):
    return _fit_probe(features, labels, int(labels.max()) + 1, penalty)


def _averaged_gram(features, labels, classes, penalty):
    return _stacked(features, labels, classes, penalty * len(features)) * len(features)


def _centred(features, labels, classes, penalty):
    return _stacked(features - features.mean(0), labels, classes, penalty)


def _penalty_subtracted(features, labels, classes, penalty):
    gram = features.T @ features - penalty * torch.eye(features.shape[1])
    return torch.linalg.pinv(gram) @ features.T @ _targets(features, labels, classes)


def _entries_inverted(features, labels, classes, penalty):
    gram = features.T @ features + penalty * torch.eye(features.shape[1])
    return (1 / gram) @ features.T @ _targets(features, labels, classes)


def _images_compared(features, labels, classes, penalty):
    gram = features @ features.T + penalty * torch.eye(len(features), dtype=features.dtype)
    return torch.linalg.solve(gram, _targets(features, labels, classes))


# ---------------------------------------------------------------------------------------- 5.5 old_place


def _place_cases(generator):
    for old, new in ((7, 14), (14, 24), (7, 5), (4, 9)):
        inside = (1 + torch.randperm(new - 2, generator=generator)[:4]).tolist()
        for i in (*inside, 0, new - 1):
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


def _half_not_added(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index * old / new - 0.5


def _share_less_a_half(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else (index + 0.5) / new - 0.5


def _not_added_kept_inside(index, old, new, corners):
    return min(max(_half_not_added(index, old, new, corners), 0.0), old - 1.0)


def _without_brackets(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else index + 0.5 * old / new - 0.5


def _share_of_the_side(index, old, new, corners):
    return _old_place(index, old, new, True) if corners else (index + 0.5) / new


EXERCISES = [
    Exercise(
        "5.1",
        "a projection for colour from one for grey",
        cases=_colour_cases,
        oracle=_to_colour,
        mistakes=[
            (
                _not_shared_out,
                "each channel has the whole weight, so that a grey image in three equal channels gives three "
                "times what it gave; divide by 3.",
            ),
            (_one_channel, "only the first channel has weights, so the model sees red alone."),
            (
                _shared_by_the_root,
                "the weights are divided by √3; the three channels add up, so divide by 3.",
            ),
            (_still_grey, "there is still one channel; wanted is (D, 3, P, P)."),
            (
                _stacked_outputs,
                "D is three times as long; it is the channels, the second axis, that become 3.",
            ),
            (
                _luma,
                "the channels have the eye's shares of red, green and blue; right for a grey image, too, but "
                "here each has a third.",
            ),
            (_two_dimensions_lost, "the patch's rows and columns are flattened; wanted is (D, 3, P, P)."),
        ],
        tolerance=1e-6,
    ),
    Exercise(
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
    ),
    Exercise(
        "5.3",
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
            (_norms_added, "the tensors' norms are added; the joint norm is the root of the sum of squares."),
            (_norm_without_root, "this clips by the sum of the squares; the norm is its root."),
            (_velocities_clipped, "the velocities are clipped; clip the gradients, before they are added."),
            (
                _rate_in_the_velocity,
                "the learning rate is in the velocity; it comes in only where the weights move.",
            ),
            (
                _rate_in_what_is_added,
                "the rate is in the velocity, too early; it comes in where weights move.",
            ),
            (_upside_down, "the factor is upside down: norm / clip_norm; it is clip_norm / norm."),
            (_largest_entry, "this clips by the largest entry; the norm is the root of the sum of squares."),
            (_looking_ahead, "this looks a step ahead, as Nesterov does; the new velocity is the step."),
            (_velocities_first, "the two lists are swapped; return (weights, velocities)."),
        ],
    ),
    Exercise(
        "5.4",
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
            (_one_hot_less_one, "the targets are -1 and 0; wanted are -1 and 1: twice the one-hot, less 1."),
            (
                _counted_classes,
                "the classes are counted in the labels, which need not have all of them: use `classes`.",
            ),
            (_averaged_gram, "XᵀX is divided by the number of images, XᵀT is not; neither is wanted."),
            (_centred, "the features' mean is taken off; the formula has X as it is."),
            (_penalty_subtracted, "the penalty is subtracted from the diagonal; it is added."),
            (_entries_inverted, "1 / A inverts entry by entry; the inverse of a matrix is another thing."),
            (
                _images_compared,
                "this compares images, X Xᵀ, and gives a row for each; Xᵀ X gives one for each feature.",
            ),
        ],
        tolerance=1e-4,
    ),
    Exercise(
        "5.5",
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
            (
                _half_not_added,
                "with corners=False half a patch is taken off at the end, but was not added at first: the "
                "middle is at index + 0.5.",
            ),
            (
                _not_added_kept_inside,
                "with corners=False half a patch is taken off, but was not added; nothing is kept inside.",
            ),
            (
                _share_less_a_half,
                "with corners=False a share of the side and half an old patch are mixed; times `old` first.",
            ),
            (
                _without_brackets,
                "with corners=False only the half is scaled; index + 0.5 is, as a whole: use brackets.",
            ),
            (
                _share_of_the_side,
                "with corners=False this is a share of the side; times `old` it counts old patches, from "
                "the edge.",
            ),
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
        "A linear classifier on the 2,352 raw numbers of an image, without any network, against the linear "
        "probe on the 96 pre-trained features: both learn from 20 labels per class of colour garments. How "
        "do they compare on the test images?",
        [
            (
                "The features are ahead by 20 points or more",
                "So one would think. But they were made for grey garments on black, and nothing has told "
                "them what colour and background are.",
            ),
            (
                "They are less than ten points apart",
                "Garments that fill the image put the same pixel in much the same place, so pixels are not "
                "nothing; and features made for another kind of picture are no more than that.",
            ),
            (
                "The pixels are at chance, 10 %, and the features well above",
                "In cut-outs the garment fills the image, so that a pixel says something about its shape.",
            ),
            (
                "The features are at chance, 10 %, and the pixels well above",
                "The body does not know the new task, but what it hands on still depends on the shapes in "
                "the image; a linear layer on top can use that.",
            ),
        ],
        right=1,
    ),
    Prediction(
        "5.c",
        "And when the pre-trained body may change: fine-tuned with 20 labels per class, against the same "
        "model from scratch, in as many steps. How far is it ahead?",
        [
            (
                "Not at all: the features were no good",
                "Features can be of little use as they are and still be a good place to start from.",
            ),
            (
                "By a few points",
                "From scratch it hardly leaves chance, 10 %, and the fine-tuned one leaves it far behind.",
            ),
            (
                "It is right about twice as often, or more",
                "From scratch the model hardly leaves chance, 10 %: 200 images are too few to find out what "
                "an edge is. The pre-trained one has only to adapt.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "5.d",
        "The model at 40 × 40 again, but nobody resized: the 49 embeddings are simply repeated, in reading "
        "order, until all 100 patches have one. What is its accuracy on grey garments now?",
        [
            (
                "Above 80 %: positions matter little",
                "Not to this model: it was trained with them, believes them, and these are wrong.",
            ),
            ("Between 50 and 80 %", "Worse. Nearly every patch is told that it lies somewhere else."),
            (
                "Below 50 %",
                "Seven to a row were learnt, ten to a row are given: the garment is cut into strips that "
                "are laid elsewhere. And nothing complains.",
            ),
            ("An error", "The shapes fit. That is what makes this mistake a dangerous one."),
        ],
        right=2,
    ),
]


def quiz(
    *,
    features: float = 0.277,
    pixels: float = 0.279,
    repeated: float = 0.264,
    mended: float = 0.672,
    resized: float = 0.912,
) -> list[Question]:
    """Five questions: two probes' accuracies on 1,000 images, those of wrong and right position tables."""
    lead, error = features - pixels, (features * (1 - features) / 1000 + pixels * (1 - pixels) / 1000) ** 0.5
    told_apart = abs(lead) > 2 * error
    words = (
        f"They differ by {100 * lead:+.1f} points; chance alone makes differences of about {100 * error:.1f}."
    )
    return [
        Question(
            "5.q1",
            f"On 1,000 test images the probe on 96 features is right in {features:.1%}, and that on raw "
            f"pixels in {pixels:.1%}. What does this say? Take two standard errors of the difference as the "
            "measure.",
            [
                (
                    "The features are worth nothing",
                    "A linear probe says what can be read off as they are. Fine-tuned, they were worth many "
                    "labels.",
                ),
                ("A linear probe reads more from the features", f"For that they would have to lead. {words}"),
                ("A linear probe reads more from the pixels", f"For that these would have to lead. {words}"),
                ("Neither probe is clearly ahead", words),
            ],
            right=(1 if lead > 0 else 2) if told_apart else 3,
        ),
        Question(
            "5.q2",
            "The new head is all zeros. When does the body get a gradient for the first time?",
            [
                (
                    "In the first step",
                    "It passes through the head's weights on its way down, and these are still zero.",
                ),
                (
                    "In the second step",
                    "The first one changed the head alone; now its weights are not zero any more.",
                ),
                (
                    "After the warm-up",
                    "The rate plays no part: in the first step the gradient itself is zero, and then it is "
                    "not.",
                ),
                (
                    "Never",
                    "It would be so if the head stayed at zero. But the head itself has a gradient at once.",
                ),
            ],
            right=1,
        ),
        Question(
            "5.q3",
            f"With the positions repeated, accuracy at 40 × 40 was {repeated:.1%}, and {mended:.1%} after a "
            f"short fine-tuning; the loss fell well. Resized, it was {resized:.1%} at once. Which check "
            "would have found the fault soonest?",
            [
                ("To load without an error", "All shapes fit. None of the wrong ways raised an error."),
                ("To watch the training loss", "It fell. A model with a fault learns too, only worse."),
                (
                    "To test before training, at the new size",
                    f"{repeated:.1%} beside the {resized:.1%} of a right table says it before the first "
                    "step.",
                ),
                (
                    "To test after training",
                    f"{mended:.1%} is not absurd. Without another number beside it, nobody would look "
                    "further.",
                ),
            ],
            right=2,
        ),
        Question(
            "5.q4",
            "You want to repeat the paper's fine-tuning of a ViT on ImageNet. Table 4 has 0.06 among its "
            "learning rates; appendix B.1.1 says that 0.06 was added for ResNets and hybrids only. What do "
            "you do?",
            [
                (
                    "Follow the table: tables are right",
                    "Text and tables of this paper differ over weight decay, too. Neither is right by rule.",
                ),
                (
                    "Follow the text: it says why",
                    "It may. But a reader of your result cannot know which you followed unless you say so.",
                ),
                (
                    "Try 0.06 too, choose on held-out images, and say so",
                    "What cannot be settled from the paper is decided by data that is not the test set, and "
                    "reported.",
                ),
                (
                    "Take 0.06: the largest is the fastest",
                    "The largest rate is the one that most easily destroys what was learnt.",
                ),
            ],
            right=2,
        ),
        Question(
            "5.q5",
            "ViT-H/14 from JFT has 88.04 on ImageNet in table 5 and 88.08 in table 6; on Pets 97.56 and "
            "97.11. Table 2 gives a spread of 0.04 and 0.03 between fine-tuning runs. What follows?",
            [
                (
                    "Pets differs by more than runs do; we are not told why",
                    "0.45 is fifteen times the spread of runs. On ImageNet the 0.04 may be chance.",
                ),
                (
                    "Table 6 is the newer one, and right",
                    "Nothing says so. Table 5 has the Pets of table 2, which speaks for it if for anything.",
                ),
                (
                    "Both differences are chance",
                    "The one on ImageNet may be. That on Pets is fifteen times the spread of runs.",
                ),
                (
                    "Table 6 was measured at a higher resolution",
                    "The paper does not say so, and a resolution would not make ImageNet better and Pets "
                    "worse.",
                ),
            ],
            right=0,
        ),
    ]

"""Lesson 04, pre-training: exercises 4.1–4.4 and predictions 4.a–4.f."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction

# ---------------------------------------------------------------------------------------- 4.1 cross_entropy


def _logit_cases(generator):
    def case(batch, classes, smoothing, size=2.0, dtype=torch.float32):
        logits = size * torch.randn(batch, classes, dtype=dtype, generator=generator)
        return logits, torch.randint(classes, (batch,), generator=generator), smoothing

    yield case(4, 3, 0.0)
    yield case(5, 10, 0.1)
    yield case(3, 7, 0.3, dtype=torch.float64)
    yield case(6, 4, 0.2, size=300.0)  # the softmax of such scores holds exact zeros


def _by_terms(logits, labels, smoothing, spread=None):
    """The mean over images of -Σ target · log p, one term at a time; `spread` is what a wrong class gets."""
    losses = []
    for scores, label in zip(logits.tolist(), labels.tolist(), strict=True):
        classes, highest = len(scores), max(scores)
        log_sum = highest + math.log(sum(math.exp(score - highest) for score in scores))
        share = smoothing / classes if spread is None else spread(smoothing, classes)
        first = 1 - smoothing + smoothing / classes if spread is None else 1 - smoothing
        targets = [first if c == label else share for c in range(classes)]
        losses.append(-sum(t * (score - log_sum) for t, score in zip(targets, scores, strict=True)))
    return torch.tensor(losses, dtype=logits.dtype)


def _cross_entropy(logits, labels, smoothing):
    return _by_terms(logits, labels, smoothing).mean()


def _summed(logits, labels, smoothing):
    return _by_terms(logits, labels, smoothing).sum()


def _mean_over_classes_too(logits, labels, smoothing):
    return _by_terms(logits, labels, smoothing).mean() / logits.shape[1]


def _not_smoothed(logits, labels, smoothing):
    return _by_terms(logits, labels, 0.0).mean()


def _spread_over_the_others(logits, labels, smoothing):
    return _by_terms(logits, labels, smoothing, lambda s, classes: s / (classes - 1)).mean()


def _added_on_top(logits, labels, smoothing):
    """Target 1 for the right class and s / K for each: the targets add up to 1 + s."""
    whole, even = _by_terms(logits, labels, 0.0), _by_terms(logits, labels, 1.0)
    return (whole + smoothing * even).mean()


def _softmax_twice(logits, labels, smoothing):
    return _by_terms(logits.softmax(dim=-1), labels, smoothing).mean()


def _without_minus(logits, labels, smoothing):
    return -_by_terms(logits, labels, smoothing).mean()


def _log_of_softmax(logits, labels, smoothing):
    targets = nn.functional.one_hot(labels, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
    return -(targets * logits.softmax(dim=-1).log()).sum(dim=-1).mean()


# ---------------------------------------------------------------------------------------- 4.2 train_step


def _batch_cases(generator):
    def case(batch, channels, height, width, learning_rate, clip_norm, dtype=torch.float32):
        images = torch.randn(batch, channels, height, width, dtype=dtype, generator=generator)
        return images, torch.randint(3, (batch,), generator=generator), learning_rate, clip_norm

    yield case(4, 1, 6, 8, 0.1, 0.5)
    yield case(3, 2, 4, 4, 0.2, 100.0)
    yield case(6, 3, 5, 3, 0.05, 0.2, dtype=torch.float64)


def _two_steps(answer, images, labels, learning_rate, clip_norm):
    """A tiny classifier's losses and weights over two steps, the same model whatever the answer is."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 8), nn.Tanh(), nn.Linear(8, 3))
    model = model.to(images.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    seen = {}
    for step in (1, 2):
        loss = answer(model, optimizer, images, labels, clip_norm)
        seen[f"loss of step {step}"] = loss.detach() if isinstance(loss, torch.Tensor) else loss
        weights = [parameter.detach().flatten().clone() for parameter in model.parameters()]
        seen[f"weights after step {step}"] = torch.cat(weights)
    return {name: float(v) if getattr(v, "ndim", 1) == 0 else v for name, v in seen.items()}


def _loss_and_gradients(model, images, labels):
    scores = model(images)
    picked = scores[torch.arange(len(labels)), labels]
    loss = (scores.exp().sum(dim=1).log() - picked).mean()
    return loss, torch.autograd.grad(loss, list(model.parameters()))


def _train_step(model, optimizer, images, labels, clip_norm):
    loss, gradients = _loss_and_gradients(model, images, labels)
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient * min(1.0, clip_norm / norm)
    optimizer.step()
    return loss.item()


def _backward(model, images, labels):
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    return loss


def _gradients_kept(model, optimizer, images, labels, clip_norm):
    loss = _backward(model, images, labels)
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss


def _no_step(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    return _backward(model, images, labels)


def _step_before_backward(model, optimizer, images, labels, clip_norm):
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    return loss


def _not_clipped(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    optimizer.step()
    return loss


def _each_value_clipped(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    nn.utils.clip_grad_value_(model.parameters(), clip_norm)
    optimizer.step()
    return loss


def _each_tensor_clipped(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_(parameter, clip_norm)
    optimizer.step()
    return loss


def _trained_on_probabilities(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images).softmax(dim=-1), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss


# ---------------------------------------------------------------------------------------- 4.3 learning_rate


def _schedule_cases(generator):
    yield 0, 100, 10, 1.0
    steps = int(torch.randint(50, 500, (), generator=generator))
    for warmup_steps in (steps // 5, 0):
        for step in (0, 1, warmup_steps // 2, warmup_steps, (steps + warmup_steps) // 2, steps - 1):
            yield step, steps, warmup_steps, 0.004


def _learning_rate(step, steps, warmup_steps, peak):
    rising = [peak * (number + 1) / warmup_steps for number in range(warmup_steps)]
    left = steps - warmup_steps
    falling = [peak * math.cos(math.pi * number / left / 2) ** 2 for number in range(left)]
    return (rising + falling)[step]


def _never_warmed_up(step, steps, warmup_steps, peak):
    return _learning_rate(step, steps, 0, peak)


def _from_zero(step, steps, warmup_steps, peak):
    return (
        peak * step / warmup_steps if step < warmup_steps else _learning_rate(step, steps, warmup_steps, peak)
    )


def _cosine_from_step_zero(step, steps, warmup_steps, peak):
    rising = step < warmup_steps
    return _learning_rate(step, steps, warmup_steps if rising else 0, peak)


def _straight_down(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return peak * (steps - step) / (steps - warmup_steps)


def _quarter_period(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return peak * math.cos(math.pi / 2 * (step - warmup_steps) / (steps - warmup_steps))


def _not_halved(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return 2 * _learning_rate(step, steps, warmup_steps, peak)


def _never_falls(step, steps, warmup_steps, peak):
    return _learning_rate(step, steps, warmup_steps, peak) if step < warmup_steps else peak


# ---------------------------------------------------------------------------------------- 4.4 colour_class


def _patch_cases(generator):
    for batch, number, patch_size in ((2, 6, 2), (3, 4, 4), (1, 9, 3)):
        shape = (batch, number, 3 * patch_size**2)
        base = torch.randint(0, 256, (batch, number, 3, 1), generator=generator)
        noise = torch.randint(-60, 61, (batch, number, 3, patch_size**2), generator=generator)
        yield ((base + noise).clamp(0, 255).to(torch.uint8).view(shape),)


def _means(patches):
    """(B, N, 3), the mean of each colour, by loops over the pixels of each patch."""
    area = patches.shape[-1] // 3
    means = torch.zeros(*patches.shape[:2], 3, dtype=torch.float64)
    for b, image in enumerate(patches.tolist()):
        for n, patch in enumerate(image):
            for c in range(3):
                means[b, n, c] = sum(patch[c * area : (c + 1) * area]) / area
    return means


def _joined(levels, weights=(64, 8, 1)):
    return sum(weight * levels[..., c] for c, weight in enumerate(weights)).long()


def _colour_class(patches):
    return _joined((_means(patches) / 32).floor())


def _blue_first(patches):
    return _joined((_means(patches) / 32).floor(), (1, 8, 64))


def _channels_last(patches):
    batch, number, length = patches.shape
    swapped = patches.view(batch, number, length // 3, 3).transpose(2, 3)
    return _colour_class(swapped.reshape(batch, number, length))


def _rounded(patches):
    return _joined((_means(patches) / 32).round())


def _eight_levels_of_256(patches):
    return _joined((_means(patches) / 8).floor())


def _overflowing(patches):
    """Summed in uint8, where 255 + 1 is 0."""
    batch, number, length = patches.shape
    sums = patches.view(batch, number, 3, length // 3).sum(dim=-1, dtype=torch.uint8)
    return _joined(sums // (length // 3) // 32)


def _levels_before_the_mean(patches):
    return _joined(_means(patches // 32).floor())


def _grey(patches):
    return (_means(patches).mean(dim=-1) / 32).floor().long()


def _levels_only(patches):
    return (_means(patches) / 32).floor().long()


EXERCISES = [
    Exercise(
        "4.1",
        "cross-entropy with label smoothing",
        cases=_logit_cases,
        oracle=_cross_entropy,
        mistakes=[
            (_summed, "the losses of the batch are added up; the loss is their mean."),
            (
                _mean_over_classes_too,
                "the mean is also over the classes; add up over them, then mean over images.",
            ),
            (_not_smoothed, "smoothing is not used; the targets are (1 - s) · one-hot + s / K."),
            (
                _spread_over_the_others,
                "s is shared by the K - 1 wrong classes; it is shared by all K, the right one too.",
            ),
            (
                _added_on_top,
                "the right class still gets 1, so the targets add up to 1 + s; give it 1 - s + s / K.",
            ),
            (_softmax_twice, "the softmax is taken twice; logits go straight into log_softmax."),
            (
                _without_minus,
                "the minus is missing: logarithms of probabilities are negative, a loss is not.",
            ),
            (
                _log_of_softmax,
                "the logarithm of a softmax that is 0 is -inf; log_softmax computes both at once, safely.",
            ),
        ],
    ),
    Exercise(
        "4.2",
        "one training step",
        cases=_batch_cases,
        oracle=_train_step,
        call=_two_steps,
        mistakes=[
            (
                _gradients_kept,
                "the gradients of the step before are still there and add up; clear them first.",
            ),
            (
                _no_step,
                "nothing is learnt: there is no optimiser's step, or the gradients were cleared before it.",
            ),
            (
                _step_before_backward,
                "the step comes before backward, so it uses the gradients of the batch before.",
            ),
            (
                _not_clipped,
                "the gradients are not clipped, or only after the step: their norm is above clip_norm.",
            ),
            (
                _each_value_clipped,
                "each value is clipped by itself, which turns the gradient; scale it as a whole.",
            ),
            (
                _each_tensor_clipped,
                "each parameter is clipped by itself; there is one norm, over all of them.",
            ),
            (
                _trained_on_probabilities,
                "the loss was given probabilities; cross_entropy takes logits and does the softmax itself.",
            ),
        ],
    ),
    Exercise(
        "4.3",
        "warm-up and cosine",
        cases=_schedule_cases,
        oracle=_learning_rate,
        mistakes=[
            (_from_zero, "the first step has a rate of zero and learns nothing; count it as step + 1."),
            (
                _cosine_from_step_zero,
                "the cosine counts from step 0; it starts after the warm-up and spans the steps left.",
            ),
            (_never_warmed_up, "there is no warm-up; below warmup_steps the rate rises in a straight line."),
            (_straight_down, "this falls in a straight line; the cosine starts and ends flat."),
            (_quarter_period, "this is a quarter of a cosine's period; use half of one, from 1 to -1."),
            (_not_halved, "1 + cos runs from 2 to 0; halve it."),
            (_never_falls, "after the warm-up the rate stays at its peak; it must fall to zero."),
        ],
    ),
    Exercise(
        "4.4",
        "the colour to predict",
        cases=_patch_cases,
        oracle=_colour_class,
        tolerance=0,
        mistakes=[
            (_blue_first, "the colours are in the reverse order; the class is 64 · red + 8 · green + blue."),
            (_channels_last, "the patch is read as (P, P, C); its numbers are in the order (C, P, P)."),
            (
                _rounded,
                "the mean is rounded to the nearest level; levels are the whole part of mean / 32, 0 to 7.",
            ),
            (_eight_levels_of_256, "this makes 32 levels of width 8; three bits are 8 levels of width 32."),
            (_overflowing, "the sum overflows: bytes end at 255, so turn them into floats before adding up."),
            (
                _levels_before_the_mean,
                "each pixel is put into a level first; take the mean first, then its level.",
            ),
            (_grey, "this is the level of the grey mean; each of the three colours has its own."),
            (_levels_only, "these are the three levels; join them into one class from 0 to 511."),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "4.a",
        "A small ViT is going to learn these ten classes. For which of them will it be right least often?",
        [
            ("Sandal", "Sandals resemble other shoes, but straps and gaps give them away."),
            ("Bag", "Bags vary a lot, yet nothing else among the ten is like them."),
            (
                "Shirt",
                "T-shirts, pullovers, coats, even dresses share its outline; little is left to go by.",
            ),
            ("Trouser", "Two legs are a shape that no other class has; most models find it the easiest."),
        ],
        right=2,
    ),
    Prediction(
        "4.b",
        "A ViT for ImageNet's 1,000 classes has a head of zeros. What is its loss on the very first batch?",
        [
            ("About 2.3", "That is ln 10, for ten classes; here every class gets p = 1/1000."),
            ("About 6.9", "Every class gets p = 1/1000, and -ln(1/1000) = ln 1000 ≈ 6.9."),
            (
                "0: it has made no mistake yet",
                "The loss asks how much p the true class got, and 1/1000 is little.",
            ),
            ("It depends on the images", "With a head of zeros all logits are 0, whatever the image."),
        ],
        right=1,
    ),
    Prediction(
        "4.c",
        "One batch of 32 images, its labels replaced by random ones, shown 60 times. "
        "How many of the 32 has the model right in the end?",
        [
            (
                "About 3, as by guessing",
                "That holds for images not seen. These 32 it can tell apart, and so learn by heart.",
            ),
            (
                "About half",
                "Nothing stops it half-way: it has thousands of numbers for each image to remember.",
            ),
            (
                "All, or nearly all",
                "Its 300,000 numbers have room for 32 images by heart, whether the labels make sense or not.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "4.d",
        "Two ViTs, Base and the larger Large, are pre-trained on ImageNet alone, 1.3 million images. "
        "Which is better on ImageNet?",
        [
            (
                "Large: more parameters",
                "With 303 million images it is. With 1.3 million the larger one overfits more.",
            ),
            ("Base", "B/16 gets 77.91 % and L/16 76.53 % (table 5): too few images for the larger one."),
            (
                "Both alike",
                "They differ by more than a point, and at patch size 32 by more than two (table 5).",
            ),
        ],
        right=1,
    ),
    Prediction(
        "4.e",
        "Scrambled images, in training and in the test. Which kind of model can no longer learn as well?",
        [
            (
                "Both: a scrambled image shows nothing",
                "To us. But all are scrambled alike, so whatever told classes apart is still there.",
            ),
            (
                "The ViT",
                "To a ViT the order of patches, and of the pixels inside them, is arbitrary from the start.",
            ),
            (
                "The ResNet",
                "Its 3 × 3 kernels assume that neighbouring pixels belong together; now they no longer do.",
            ),
            (
                "Neither: no information is lost",
                "True of the information. But a ResNet is built to find it nearby.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "4.f",
        "Two trainings of 120 steps: (A) the right peak, but no warm-up; (B) ten times the right peak, with "
        "warm-up. Which ends better?",
        [
            ("A", "Warm-up guards the start. A rate that is too high does harm at every step after it."),
            ("B", "Warm-up makes the start gentle; then the rate is ten times too high all the same."),
            (
                "Both alike: AdamW adapts its steps",
                "To the gradients' sizes. How far it goes is still the rate.",
            ),
            ("Neither learns anything", "Most small pre-norm models start well enough without warm-up."),
        ],
        right=0,
    ),
]

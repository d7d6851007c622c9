"""Lesson 04, pre-training: exercises 4.1–4.4 and predictions 4.a–4.h."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question

# ---------------------------------------------------------------------------------------- 4.1 train_step


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


def _always_scaled(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    for parameter in model.parameters():
        parameter.grad *= clip_norm / norm
    optimizer.step()
    return loss


def _norms_added(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    norm = sum(parameter.grad.norm() for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.grad *= min(1.0, clip_norm / norm)
    optimizer.step()
    return loss


def _clipped_at_one(model, optimizer, images, labels, clip_norm):
    return _train_step(model, optimizer, images, labels, 1.0)


def _loss_after_the_step(model, optimizer, images, labels, clip_norm):
    _train_step(model, optimizer, images, labels, clip_norm)
    return nn.functional.cross_entropy(model(images), labels)


def _norm_returned(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    _backward(model, images, labels)
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return norm


def _model_clipped(model, optimizer, images, labels, clip_norm):
    return nn.utils.clip_grad_norm_(model, clip_norm)


def _labels_first(model, optimizer, images, labels, clip_norm):
    return nn.functional.cross_entropy(labels, model(images))


def _trained_on_probabilities(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images).softmax(dim=-1), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss


# ---------------------------------------------------------------------------------------- 4.2 learning_rate


def _schedule_cases(generator):
    yield 0, 100, 10, 1.0
    steps = int(torch.randint(50, 200, (), generator=generator))
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


def _one_step_too_long(step, steps, warmup_steps, peak):
    over = 0 < warmup_steps == step
    return peak * (step + 1) / warmup_steps if over else _learning_rate(step, steps, warmup_steps, peak)


def _after_warmup(fall):
    """A schedule that is right in the warm-up; `fall` takes the steps since then and all that were left."""

    def learning_rate(step, steps, warmup_steps, peak):
        if step < warmup_steps:
            return _learning_rate(step, steps, warmup_steps, peak)
        return peak * fall(step - warmup_steps, steps - warmup_steps)

    return learning_rate


_at_zero_too_early = _after_warmup(lambda done, left: (1 + math.cos(math.pi * done / (left - 1))) / 2)
_one_step_ahead = _after_warmup(lambda done, left: (1 + math.cos(math.pi * (done + 1) / left)) / 2)
_rising = _after_warmup(lambda done, left: (1 - math.cos(math.pi * done / left)) / 2)
_below_zero = _after_warmup(lambda done, left: math.cos(math.pi * done / left))
_straight_down = _after_warmup(lambda done, left: 1 - done / left)
_quarter_period = _after_warmup(lambda done, left: math.cos(math.pi / 2 * done / left))
_not_halved = _after_warmup(lambda done, left: 1 + math.cos(math.pi * done / left))
_never_falls = _after_warmup(lambda done, left: 1.0)
_in_degrees = _after_warmup(lambda done, left: (1 + math.cos(180 * done / left)) / 2)
_only_cosine_halved = _after_warmup(lambda done, left: 1 + math.cos(math.pi * done / left) / 2)
_without_pi = _after_warmup(lambda done, left: (1 + math.cos(done / left)) / 2)


def _spread_over_all_steps(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return _learning_rate(step, steps, warmup_steps, peak)
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / steps)) / 2


def _without_peak(step, steps, warmup_steps, peak):
    rate = _learning_rate(step, steps, warmup_steps, peak)
    return rate if step < warmup_steps else rate / peak


# ---------------------------------------------------------------------------------------- 4.3 diagnose

HEALTHY, NO_WARMUP, TOO_HIGH = "healthy", "no warm-up", "rate too high"
DECAYED, LARGE, THIN = "norms decayed", "patch too large", "heads too thin"


def _curve(generator, first, end, steps=100, spike=0.0, at=5):
    """A loss that starts at ln 10, falls from `first` to `end`, and may jump by `spike` at a step."""
    progress = torch.linspace(0, 1, steps)
    losses = end + (first - end) * torch.exp(-6 * progress)
    losses += spike * torch.exp(-((torch.arange(steps) - at) ** 2) / 8.0)
    return losses + 0.03 * torch.randn(steps, generator=generator)


def _sick_runs(generator):
    def run(norm_scale=1.0, tokens=17, head_width=24, first=2.3, end=0.8, **shape):
        return _curve(generator, first, end, **shape), norm_scale, tokens, head_width

    yield run()
    yield run(spike=2.5)
    yield run(spike=3.5, end=2.1)
    yield run(end=1.9)
    yield run(end=1.4)
    yield run(end=2.2, spike=2.0, at=60)
    yield run(norm_scale=0.1, end=2.2)
    yield run(norm_scale=0.4, end=0.9)
    yield run(tokens=2, end=0.7)
    yield run(tokens=5, end=0.8)
    yield run(head_width=1, end=0.8)
    yield run(head_width=2, end=0.9)
    yield run(tokens=50, head_width=32, norm_scale=1.05, steps=150)
    yield run(tokens=197, head_width=64, norm_scale=0.97, end=0.5)


def _told_apart(
    losses,
    norm_scale,
    tokens,
    head_width,
    start=3.0,
    early=10,
    high=1.1,
    width=8,
    fewest=10,
    scale=0.8,
):
    """The shapes first, then the norms, then the beginning of the curve, then its end."""
    values = losses.tolist()
    if tokens < fewest:
        return LARGE
    if head_width < width:
        return THIN
    if norm_scale < scale:
        return DECAYED
    if max(values[:early]) > start:
        return NO_WARMUP
    return TOO_HIGH if sum(values[-10:]) / 10 > high else HEALTHY


def _with_signs(answer, losses, norm_scale, tokens, head_width):
    """The fault that an answer names, under the two numbers that its curve is judged by."""
    early, late = losses[:10].max(), losses[-10:].mean()
    signs = f"fault (highest of the first ten losses {early:.2f}, mean of the last ten {late:.2f})"
    return {signs: answer(losses, norm_scale, tokens, head_width)}


def _diagnose(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width)


def _end_before_beginning(losses, norm_scale, tokens, head_width):
    told = _diagnose(losses, norm_scale, tokens, head_width)
    return TOO_HIGH if told == NO_WARMUP and losses[-10:].mean() > 1.1 else told


def _jump_anywhere(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, early=len(losses))


def _jump_above_ln10(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, start=2.2)


def _never_healthy(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, high=0.0)


def _jump_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, start=math.inf)


def _end_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, high=math.inf)


def _norms_of_one_only(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, scale=1.0)


def _norms_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, scale=0.0)


def _end_before_norms(losses, norm_scale, tokens, head_width):
    told = _diagnose(losses, norm_scale, tokens, head_width)
    return TOO_HIGH if told == DECAYED and losses[-10:].mean() > 1.1 else told


def _tokens_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, fewest=0)


def _any_other_number_of_tokens(losses, norm_scale, tokens, head_width):
    return LARGE if tokens != 17 else _diagnose(losses, norm_scale, tokens, head_width)


def _only_one_patch(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, fewest=3)


def _heads_not_asked(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, width=0)


def _heads_as_in_the_paper(losses, norm_scale, tokens, head_width):
    return _told_apart(losses, norm_scale, tokens, head_width, width=64)


# ---------------------------------------------------------------------------------------- 4.4 colour_class


def _patch_cases(generator):
    for batch, number, patch_size in ((2, 6, 2), (3, 4, 4), (1, 9, 3)):
        base = 2 * torch.rand(batch, number, 3, 1, generator=generator) - 1
        noise = torch.rand(batch, number, 3, patch_size**2, generator=generator) - 0.5
        patches = (base + noise).clamp(-1, 1)
        patches[:, 0] = 1  # pure white, the end of the last level
        yield (patches.view(batch, number, 3 * patch_size**2),)


def _means(patches):
    """(B, N, 3), the mean of each colour, by loops over the pixels of each patch."""
    area = patches.shape[-1] // 3
    means = torch.zeros(*patches.shape[:2], 3, dtype=torch.float64)
    for b, image in enumerate(patches.tolist()):
        for n, patch in enumerate(image):
            for c in range(3):
                means[b, n, c] = sum(patch[c * area : (c + 1) * area]) / area
    return means


def _levels(means):
    return ((means + 1) * 4).floor().clamp(0, 7)


def _joined(levels, weights=(1, 8, 64)):
    return sum(weight * levels[..., c] for c, weight in enumerate(weights)).long()


def _colour_class(patches):
    return _joined(_levels(_means(patches)))


def _red_counts_most(patches):
    return _joined(_levels(_means(patches)), (64, 8, 1))


def _channels_last(patches):
    batch, number, length = patches.shape
    swapped = patches.view(batch, number, length // 3, 3).transpose(2, 3)
    return _colour_class(swapped.reshape(batch, number, length))


def _rounded(patches):
    return _joined(((_means(patches) + 1) * 4).round().clamp(0, 7))


def _seven_levels(patches):
    return _joined(((_means(patches) + 1) * 3.5).floor().clamp(0, 7))


def _white_is_eight(patches):
    return _joined(((_means(patches) + 1) * 4).floor())


def _eight_times_the_range(patches):
    return _joined(((_means(patches) + 1) * 8).floor().clamp(0, 7))


def _levels_of_pixels(patches):
    levels = ((patches + 1) * 4).floor().clamp(0, 7)
    return _joined(_means(levels).floor())


def _grey(patches):
    return _levels(_means(patches).mean(dim=-1)).long()


def _cut_towards_zero(patches):
    return _joined(((_means(patches) * 4).trunc() + 4).clamp(0, 7))


def _range_not_moved(patches):
    return _joined((_means(patches) * 4).trunc().clamp(0, 7))


def _rounded_up(patches):
    return _joined(((_means(patches) + 1) * 4).ceil().clamp(0, 7))


def _one_mean_for_all(patches):
    return 73 * _grey(patches)


def _levels_added(patches):
    return _joined(_levels(_means(patches)), (1, 1, 1))


def _levels_only(patches):
    return _levels(_means(patches)).long()


EXERCISES = [
    Exercise(
        "4.1",
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
                "the norm is above clip_norm in the step: clip between `backward` and `step`.",
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
                _always_scaled,
                "gradients shorter than clip_norm are stretched to it; only longer ones are scaled.",
            ),
            (
                _norms_added,
                "norms are added; the norm of all gradients is the root of the sum of their squares.",
            ),
            (_clipped_at_one, "this clips at 1, whatever clip_norm says."),
            (_loss_after_the_step, "the loss is computed again after the step; return the one before it."),
            (_norm_returned, "the gradients' norm is returned; return the loss."),
            (_model_clipped, "clip_grad_norm_ takes `model.parameters()`, not the model."),
            (_labels_first, "cross_entropy takes the logits first, then the labels."),
            (
                _trained_on_probabilities,
                "the loss was given probabilities; cross_entropy takes logits and does the softmax itself.",
            ),
        ],
    ),
    Exercise(
        "4.2",
        "warm-up and cosine",
        cases=_schedule_cases,
        oracle=_learning_rate,
        tolerance=1e-3,  # in float32, 1 + cos is inexact where it is nearly 0
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
            (_one_step_too_long, "the step `warmup_steps` is the first at the peak: `<`, not `<=`."),
            (
                _spread_over_all_steps,
                "the cosine does not reach its end; divide by the steps that are left, steps - warmup_steps.",
            ),
            (
                _at_zero_too_early,
                "the last step has a rate of zero and learns nothing; divide by steps - warmup_steps.",
            ),
            (_one_step_ahead, "the cosine is a step ahead; after the warm-up it starts at the peak itself."),
            (_rising, "1 - cos rises from 0 to 2; it is 1 + cos that falls."),
            (_below_zero, "cos runs from 1 to -1, and a rate below zero unlearns; use (1 + cos) / 2."),
            (_in_degrees, "math.cos takes radians: half a period is π of them, not 180."),
            (_only_cosine_halved, "only the cosine is halved: it is (1 + cos) / 2."),
            (_without_pi, "the cosine runs over one radian; half a period is π of them."),
            (_without_peak, "after the warm-up the peak is missing: the cosine has to be multiplied by it."),
            (_never_falls, "after the warm-up the rate stays at its peak; it must fall to zero."),
        ],
    ),
    Exercise(
        "4.3",
        "debug this run",
        cases=_sick_runs,
        oracle=_diagnose,
        call=_with_signs,
        mistakes=[
            (
                _end_before_beginning,
                "a jump at the start may end high as well; ask for the jump before you look at the end.",
            ),
            (
                _jump_not_asked,
                "a jump is not seen; any of the first ten losses above 3 is one, however the run ends.",
            ),
            (
                _jump_anywhere,
                "the jump of a missing warm-up is in the first ten steps; this finds any jump.",
            ),
            (
                _jump_above_ln10,
                "every run starts near ln 10 = 2.3 and wobbles; a jump is well above it, at 3 or more.",
            ),
            (_never_healthy, "healthy runs are called sick; a last loss near 1 or below is a good one here."),
            (
                _end_not_asked,
                "a last loss of 1.4 or more passes for healthy; healthy runs end near 1 or below.",
            ),
            (_norms_of_one_only, "norms move a little in any training: 0.97 and 1.05 are healthy."),
            (
                _end_before_norms,
                "decayed norms end high as well; look at the norms before you blame the rate.",
            ),
            (
                _norms_not_asked,
                "decayed norms pass unseen; their scales start at 1 and stay near it: 0.4 is far off.",
            ),
            (_any_other_number_of_tokens, "50 or 197 tokens are no fault: only too few are."),
            (_only_one_patch, "5 tokens are still too few: patches of a quarter of the image."),
            (_tokens_not_asked, "2 tokens pass unseen; they are one patch and the class token."),
            (_heads_not_asked, "thin heads pass unseen; 1 or 2 numbers make poor keys."),
            (
                _heads_as_in_the_paper,
                "64 is the paper's width of a head; the healthy runs here have 24 and 32.",
            ),
        ],
    ),
    Exercise(
        "4.4",
        "the colour to predict",
        cases=_patch_cases,
        oracle=_colour_class,
        tolerance=0,
        mistakes=[
            (_red_counts_most, "the colours are in the reverse order; it is red + 8 · green + 64 · blue."),
            (_channels_last, "the patch is read as (P, P, C); its numbers are in the order (C, P, P)."),
            (
                _rounded,
                "the level is rounded to the nearest; it is the whole part of (mean + 1) · 4.",
            ),
            (_seven_levels, "(mean + 1) · 3.5 makes seven levels and a bit; eight levels are 4 to a unit."),
            (_white_is_eight, "pure white gets level 8; there are 8 levels, 0 to 7, so clamp it."),
            (_eight_times_the_range, "from -1 to 1 it is 2, so 8 levels are 4 to a unit, not 8."),
            (
                _levels_of_pixels,
                "each pixel is put into a level first; take the mean first, then its level.",
            ),
            (_rounded_up, "the level is rounded up; it is the whole part of (mean + 1) · 4."),
            (_cut_towards_zero, "below zero, whole parts are cut upwards; add 1 to the mean before."),
            (_range_not_moved, "means run from -1 to 1, and those below zero get level 0; add 1 first."),
            (_one_mean_for_all, "one mean is taken for all three colours; each has its own."),
            (_levels_added, "the levels are added as they are; weigh them with 1, 8 and 64."),
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
        "A ViT and a ResNet with equally many operations for an image learn from 500 to 60,000 images of "
        "Fashion-MNIST, in 1,000 steps. Where is the ViT ahead?",
        [
            (
                "Nowhere",
                "At every size the ResNet leads by several points. The paper's ViTs needed many millions.",
            ),
            (
                "With few images",
                "There it is furthest behind: what a CNN knows about images from the start counts most.",
            ),
            (
                "With many images",
                "So it is in the paper, with millions. 60,000, each seen once, are not many in that sense.",
            ),
            (
                "Everywhere",
                "Not with as many operations and steps: section 7's ResNet leads after a third of the steps.",
            ),
        ],
        right=0,
    ),
    Prediction(
        "4.f",
        "The patches of every image change places, and the pixels in each patch, in one fixed way for all, "
        "in training and in the test. Which kind of model can no longer learn as well?",
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
        "4.g",
        "ViTs with patches of 4, 7, 14 and 28 pixels learn Fashion-MNIST for 500 steps each, on batches of "
        "the same size. Which one is right most often then?",
        [
            (
                "4 × 4: the finest view",
                "In the paper's long trainings finer patches win. After 500 steps this is the last of four.",
            ),
            (
                "7 × 7: a good compromise",
                "It is third: better than 4 × 4, and behind those with fewer tokens to learn about.",
            ),
            (
                "14 × 14: four patches",
                "So short a training favours few, large tokens; an image costs a tenth of the work of 4 × 4.",
            ),
            (
                "28 × 28: one patch",
                "It comes close, although its attention has one patch to look at: it is a perceptron.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "4.h",
        "ViT-B/16 takes 35 billion operations to look at an image. It was pre-trained for 7 epochs on 303 "
        "million images. How long would a computer need that does a million million operations a second?",
        [
            (
                "a good two years",
                "That is to look at all images; to learn from one takes three times it.",
            ),
            (
                "about three and a half years",
                "That counts a multiplication and an addition as one operation, not two.",
            ),
            ("about seven years", "3 · 35·10⁹ · 303·10⁶ · 7 are 2.2·10²⁰ operations, in 2.2·10⁸ seconds."),
            ("about fifty years", "The epochs went in twice: 7 years are already those of all seven."),
        ],
        right=2,
    ),
]


def quiz(
    *,
    steps: int = 1700,
    accuracy: float = 0.863,
    hardest: str = "Shirt",
    hardest_accuracy: float = 0.63,
    resnet_lead: float = 7.1,
    lead_spread: float = 0.4,
) -> list[Question]:
    """Five questions: the run's length and accuracy, the ResNet's lead in points (sd), the paper's tables."""
    seen, others = steps * 64 / 60_000, (10 * accuracy - hardest_accuracy) / 9
    return [
        Question(
            "4.q1",
            f"Your ViT took {steps:,} steps on batches of 64. How often did it see each of the 60,000 "
            "images, on average?",
            [
                (f"{steps:,} times", "That is once in every step: then a batch would be the whole data set."),
                (
                    f"{steps / 64:.2g} times",
                    "The steps are divided by the batch here; they have to be multiplied with it.",
                ),
                (f"{seen:.2g} times", f"{steps:,} · 64 = {steps * 64:,} images were shown, of 60,000."),
                (f"{1 / seen:.2g} times", "This is the inverse: the data set, divided by the images shown."),
            ],
            right=2,
        ),
        Question(
            "4.q2",
            f"It was right in {accuracy:.1%} of all test images, and in {hardest_accuracy:.0%} of its "
            f"hardest class, {hardest}. Ten classes are equally frequent. How often is it right in the other "
            "nine?",
            [
                (
                    f"About {100 * others:.0f} %",
                    "The mean of ten is known, so nine of them sum to ten times the mean less the hardest.",
                ),
                (
                    f"About {100 * accuracy:.0f} %, as on average",
                    "The average contains the hardest class; without it, what is left is better.",
                ),
                (
                    f"About {50 * (accuracy + hardest_accuracy):.0f} %",
                    "This is half-way between both, as if there were two classes; and the others must be "
                    "above the mean.",
                ),
                (
                    "100 %: the mistakes are in the hardest class",
                    "One class in ten, all of it wrong, costs at most 10 points.",
                ),
            ],
            right=0,
        ),
        Question(
            "4.q3",
            f"With all 60,000 images, the lab's ResNet is ahead of the ViT by {resnet_lead:.1f} ± "
            f"{lead_spread:.1f} points, after 1,000 steps. What does that say about claim 6?",
            [
                (
                    "It refutes it: the ResNet is ahead at every size",
                    "The claim is about hundreds of millions of images, and far more computing.",
                ),
                (
                    "It proves it: the gap narrows with more data",
                    "It narrows at first only, and nowhere do the two cross.",
                ),
                (
                    "Nothing: the spread is too large",
                    f"The lead of {resnet_lead:.1f} is not in doubt, its spread is {lead_spread:.1f}. The "
                    "question is what it is about.",
                ),
                (
                    "It agrees at small scale; the crossing is not tested",
                    "The paper, too, has the ResNet ahead with little data. In 1,000 steps more data is not "
                    "even seen.",
                ),
            ],
            right=3,
        ),
        Question(
            "4.q4",
            "The paper says that ViT-L/16, pre-trained on JFT, beats BiT-L on all tasks. Its table 2, L/16 "
            "first: 87.76 and 87.54, 90.54 and 90.54, 99.42 and 99.37, 93.90 and 93.51, 97.32 and 96.62, "
            "99.74 and 99.63, 76.28 and 76.29. On how many of the seven is it ahead?",
            [
                ("All seven", "Look at the second pair and at the last one."),
                ("Six", "Five are ahead; a tie, as in the second pair, is not."),
                (
                    "Five",
                    "One pair is a tie, and in the last BiT-L is ahead by 0.01, far less than its spread of "
                    "1.70.",
                ),
                (
                    "None, within the spread",
                    "On CIFAR-100 and Pets the lead is several times the spread of either.",
                ),
            ],
            right=2,
        ),
        Question(
            "4.q5",
            "Section 4.1 of the paper says that all models are trained with a weight decay of 0.1. What "
            "does its table 3 say, which this lesson printed?",
            [
                (
                    "The same: 0.1 everywhere",
                    "That holds for JFT only; look at the rows for the other two data sets.",
                ),
                (
                    "0.1 on JFT, 0.03 on ImageNet-21k, 0.3 on ImageNet",
                    "The text is true of JFT alone. Who wants to repeat ImageNet should follow the table.",
                ),
                (
                    "0.1 for ViTs, 0.03 for ResNets",
                    "What changes the number is the data set, not the kind of model.",
                ),
                (
                    "No weight decay at all",
                    "There is none in fine-tuning (table 4); in pre-training there is.",
                ),
            ],
            right=1,
        ),
    ]

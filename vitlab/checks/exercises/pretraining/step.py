"""Exercise 4.1: one training step."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise


def _batch_cases(generator):
    def case(batch, channels, height, width, learning_rate, clip_norm, dtype=torch.float32):
        images = torch.randn(batch, channels, height, width, dtype=dtype, generator=generator)
        return images, torch.randint(3, (batch,), generator=generator), learning_rate, clip_norm

    yield case(4, 1, 6, 8, 0.1, 0.4)
    yield case(3, 2, 4, 4, 0.2, 100.0)
    yield case(6, 3, 5, 3, 0.05, 0.03, dtype=torch.float64)


def _two_steps(answer, images, labels, learning_rate, clip_norm):
    """A tiny classifier's losses and weights over two steps, the same model whatever the answer is.

    Gradients are there before the first step, as they are wherever a model has been looked at.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 8), nn.Tanh(), nn.Linear(8, 3))
    model = model.to(images.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
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


def _cleared_last(model, optimizer, images, labels, clip_norm):
    loss = _gradients_kept(model, optimizer, images, labels, clip_norm)
    optimizer.zero_grad()
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


def _two_optimizer_steps(model, optimizer, images, labels, clip_norm):
    loss = _train_step(model, optimizer, images, labels, clip_norm)
    optimizer.step()
    return loss


def _without_momentum(model, optimizer, images, labels, clip_norm):
    fresh = torch.optim.SGD(model.parameters(), lr=optimizer.param_groups[0]["lr"])
    return _train_step(model, fresh, images, labels, clip_norm)


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


def _scaled(factor, norm=lambda gradients: torch.cat(gradients).norm()):
    """A training step that scales all gradients by `factor(norm, clip_norm)`; `norm` takes them flat."""

    def train_step(model, optimizer, images, labels, clip_norm):
        optimizer.zero_grad()
        loss = _backward(model, images, labels)
        length = norm([parameter.grad.flatten() for parameter in model.parameters()])
        for parameter in model.parameters():
            parameter.grad *= factor(length, clip_norm)
        optimizer.step()
        return loss

    return train_step


def _clip(norm, clip_norm):
    return min(1.0, clip_norm / norm)


_largest_number = _scaled(_clip, lambda gradients: torch.cat(gradients).abs().max())
_sum_of_sizes = _scaled(_clip, lambda gradients: torch.cat(gradients).abs().sum())
_norms_added = _scaled(_clip, lambda gradients: sum(gradient.norm() for gradient in gradients))
_without_root = _scaled(_clip, lambda gradients: (torch.cat(gradients) ** 2).sum())
_upside_down = _scaled(lambda norm, clip_norm: min(1.0, norm / clip_norm))
_limit_squared = _scaled(lambda norm, clip_norm: _clip(norm, clip_norm**2))


def _biases_spared(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.ndim > 1], clip_norm)
    optimizer.step()
    return loss


def _weights_scaled(model, optimizer, images, labels, clip_norm):
    optimizer.zero_grad()
    loss = _backward(model, images, labels)
    weights = [parameter.data for parameter in model.parameters()]
    norm = torch.cat([weight.flatten() for weight in weights]).norm()
    for weight in weights:
        weight *= min(1.0, clip_norm / norm)
    optimizer.step()
    return loss


def _each_image_clipped(model, optimizer, images, labels, clip_norm):
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        _backward(model, image[None], label[None])
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        total = [summed + p.grad for summed, p in zip(total, model.parameters(), strict=True)]
    for parameter, gradient in zip(model.parameters(), total, strict=True):
        parameter.grad = gradient / len(images)
    loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.step()
    return loss


def _of_another_loss(loss_of):
    """A training step, right but for its loss, which `loss_of` makes of logits, labels and clip_norm."""

    def train_step(model, optimizer, images, labels, clip_norm):
        optimizer.zero_grad()
        logits = model(images)
        loss = loss_of(logits, labels, clip_norm)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        # A loss that is cut is mostly returned as it was before.
        return nn.functional.cross_entropy(logits, labels) if loss_of is _cut else loss

    return train_step


def _cut(logits, labels, clip_norm):
    return nn.functional.cross_entropy(logits, labels).clamp(max=clip_norm)


_loss_clipped = _of_another_loss(_cut)
# And as it was cut:
_clipped_loss_returned = _of_another_loss(lambda x, y, limit: _cut(x, y, limit))
_losses_added = _of_another_loss(lambda x, y, _: nn.functional.cross_entropy(x, y, reduction="sum"))
_uphill = _of_another_loss(lambda x, y, _: -nn.functional.cross_entropy(x, y))
_divided_again = _of_another_loss(lambda x, y, _: nn.functional.cross_entropy(x, y) / len(y))
_smoothed = _of_another_loss(lambda x, y, _: nn.functional.cross_entropy(x, y, label_smoothing=0.1))
_squared_errors = _of_another_loss(
    lambda x, y, _: nn.functional.mse_loss(x, nn.functional.one_hot(y, x.shape[1]).to(x.dtype))
)


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


EXERCISE = Exercise(
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
            _cleared_last,
            "gradients that were there before the first step add up: clear them first, not last.",
        ),
        (_loss_clipped, "the loss is cut off, and then it has no gradient; it is the gradients to clip."),
        (
            _clipped_loss_returned,
            "the loss is cut off at clip_norm, and returned so; it is the gradients to clip.",
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
        (
            _largest_number,
            "the largest single number is taken for the norm; it is the root of the sum of all squares.",
        ),
        (
            _sum_of_sizes,
            "absolute values are added; the norm of all gradients is the root of the sum of their squares.",
        ),
        (_without_root, "the squares are added, but the root is missing from the norm."),
        (_upside_down, "the factor is upside down: it is clip_norm / norm, and at most 1."),
        (_limit_squared, "the norm is held against clip_norm squared; take clip_norm itself."),
        (_biases_spared, "only the matrices are clipped; the norm is over all parameters, biases too."),
        (_weights_scaled, "the weights are scaled; it is their gradients that are clipped."),
        (
            _each_image_clipped,
            "each image's gradient is clipped by itself; clip that of the whole batch, once.",
        ),
        (_two_optimizer_steps, "the optimiser steps twice; once is a step."),
        (
            _without_momentum,
            "the optimiser's momentum is lost: use the one that is given, and call its `step`.",
        ),
        (_losses_added, "the images' losses are added; cross_entropy's own is their mean."),
        (_divided_again, "the loss is divided once more; cross_entropy's own is a mean already."),
        (_uphill, "the loss is negated, so the step goes uphill."),
        (_smoothed, "the labels are smoothed; nobody has asked for it here."),
        (_squared_errors, "this is the mean squared error; the loss is the cross-entropy."),
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
)

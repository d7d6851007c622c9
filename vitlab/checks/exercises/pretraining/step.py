"""Exercise 4.1: one training step."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise


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
)

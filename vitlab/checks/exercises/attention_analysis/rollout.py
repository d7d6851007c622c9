"""Exercise 6.2: rollout with the heads' maximum."""

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.attention_analysis._shared import halved, product, rows_to_one, softmaxed


def _layer_cases(generator):
    yield (softmaxed(generator, 3, 2, 4, 5, 5),)
    yield (softmaxed(generator, 4, 3, 2, 7, 7),)
    yield (softmaxed(generator, 2, 2, 3, 6, 6),)


def _max_rollout(weights):
    layers, batch, heads, tokens, _ = weights.shape
    rollouts = []
    for b in range(batch):
        joint = torch.eye(tokens, dtype=weights.dtype)
        for layer in range(layers):
            step = torch.zeros_like(joint)
            for i in range(tokens):
                for j in range(tokens):
                    step[i, j] = max(weights[layer, b, head, i, j] for head in range(heads)) / 2
                step[i, i] += 0.5
                step[i] = step[i] / step[i].sum()
            joint = step @ joint
        rollouts.append(joint)
    return torch.stack(rollouts)


def _rollout_of_means(weights):
    return product(rows_to_one(halved(weights.mean(2))))


def _rollout_of_sums(weights):
    return product(rows_to_one(halved(weights.sum(2))))


def _rollout_of_max_pairs(weights):
    return weights.max(dim=2) / 2


def _rollout_without_keepdim(weights):
    steps = halved(weights.amax(2))
    return product(steps / steps.sum(dim=-1))


def _rollout_in_a_loop_without_keepdim(weights):
    fused, joint = weights.amax(2), torch.eye(weights.shape[-1], dtype=weights.dtype)
    for layer in fused:
        mixing = layer / 2 + torch.eye(weights.shape[-1], dtype=weights.dtype) / 2
        joint = mixing / mixing.sum(dim=-1) @ joint
    return joint


def _rollout_of_the_first_head(weights):
    return product(rows_to_one(halved(weights[:, :, 0])))


def _rollout_by_softmax(weights):
    return product(halved(weights.amax(2)).softmax(-1))


def _rollout_of_the_least(weights):
    return product(rows_to_one(halved(weights.amin(2))))


def _rollout_normalised_last(weights):
    return rows_to_one(product(halved(weights.amax(2))))


def _rollout_whole_identity(weights):
    fused = weights.amax(2)
    return product(rows_to_one(fused / 2 + torch.eye(fused.shape[-1], dtype=fused.dtype)))


def _rollout_whole_attention(weights):
    fused = weights.amax(2)
    return product(rows_to_one(fused + torch.eye(fused.shape[-1], dtype=fused.dtype) / 2))


def _rollout_first_layer_twice(weights):
    return product(rows_to_one(halved(torch.cat([weights[:1], weights]).amax(2))))


def _rollout_without_residual(weights):
    return product(rows_to_one(weights.amax(2)))


def _rollout_not_normalised(weights):
    return product(halved(weights.amax(2)))


def _rollout_columns_normalised(weights):
    steps = halved(weights.amax(2))
    return product(steps / steps.sum(dim=-2, keepdim=True))


def _rollout_reversed(weights):
    return product(rows_to_one(halved(weights.amax(2))), reverse=True)


def _rollout_elementwise(weights):
    return rows_to_one(halved(weights.amax(2))).prod(0)


def _rollout_averaged(weights):
    return rows_to_one(halved(weights.amax(2))).mean(0)


def _rollout_last_layer(weights):
    return rows_to_one(halved(weights.amax(2)))[-1]


def _rollout_normalised_first(weights):
    return product(halved(rows_to_one(weights.amax(2))))


def _rollout_first_image(weights):
    return _max_rollout(weights[:, :1])[0]


EXERCISE = Exercise(
    "6.2",
    "rollout with the heads' maximum",
    cases=_layer_cases,
    oracle=_max_rollout,
    mistakes=[
        (_rollout_of_means, "the heads are averaged; their maximum is wanted here."),
        (_rollout_of_sums, "the heads are summed; their maximum is wanted."),
        (_rollout_of_max_pairs, "`max(dim=2)` gives values and their places; `amax` gives values alone."),
        (
            _rollout_without_keepdim,
            "axes do not fit: sums need keepdim=True, an identity T rows (a layer's length is B).",
        ),
        (
            _rollout_in_a_loop_without_keepdim,
            "a layer's sums, (B, T), have lost their last axis and do not meet its rows: keepdim=True.",
        ),
        (_rollout_of_the_first_head, "this is the first head alone; the maximum over all is wanted."),
        (_rollout_of_the_least, "this is the heads' minimum; their maximum is wanted."),
        (_rollout_by_softmax, "a softmax changes the proportions; divide each row by its sum instead."),
        (_rollout_normalised_last, "only the product is normalised; each layer must be."),
        (_rollout_whole_identity, "the residual counts whole here, attention half: it is ½A + ½I."),
        (_rollout_whole_attention, "attention counts whole here, the residual half: it is ½A + ½I."),
        (_rollout_first_layer_twice, "the first layer is in the product twice: start after it, or at I."),
        (_rollout_without_residual, "the residual connection is missing: each layer is ½A + ½I."),
        (
            _rollout_not_normalised,
            "the rows are not normalised; a maximum of rows that sum to 1 sums to more.",
        ),
        (_rollout_columns_normalised, "the columns are normalised; it is the rows that sum to 1."),
        (_rollout_reversed, "the order is reversed: the last layer stands leftmost in the product."),
        (
            _rollout_elementwise,
            "the layers are multiplied entry by entry; paths need the matrix product @.",
        ),
        (_rollout_averaged, "the layers are averaged; rollout multiplies them."),
        (_rollout_last_layer, "this is the last layer alone; multiply the layers from first to last."),
        (
            _rollout_normalised_first,
            "the rows are normalised before the residual is added; mix first, then normalise.",
        ),
        (_rollout_first_image, "only the first image of the batch is used; keep B as the first axis."),
    ],
)

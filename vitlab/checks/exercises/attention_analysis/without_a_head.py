"""Exercise 6.4: the head that fills a rollout."""

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.attention_analysis._shared import halved, product, rows_to_one, softmaxed


def _one_image_cases(generator):
    # As many tokens that two patches, found in two ways, are seldom the same one.
    for layers, heads, tokens in ((3, 3, 17), (4, 2, 21), (2, 4, 13)):
        weights = softmaxed(generator, layers, heads, tokens, tokens)
        head = int(torch.randint(heads, (), generator=generator))
        patch = int(torch.randint(1, tokens, (), generator=generator))
        weights[0, head] = weights[0, head] / 5  # one head of layer 1 sends most to one patch
        weights[0, head, :, patch] += 0.8
        yield (weights,)


def _without_each_head(weights):
    heads = weights.shape[1]
    whole = _class_row_of_rollout(weights, range(heads))
    patch = max(range(1, len(whole)), key=lambda token: float(whole[token]))
    left = [
        _class_row_of_rollout(weights, [other for other in range(heads) if other != head])[patch]
        for head in range(heads)
    ]
    return torch.stack(left)


def _class_row_of_rollout(weights, kept):
    """Row 0 of the rollout, by one row on its way down, with some heads of the first layer: (T,)."""
    layers, heads, tokens, _ = weights.shape
    row = torch.zeros(tokens, dtype=weights.dtype)
    row[0] = 1.0
    for layer in reversed(range(layers)):
        among = kept if layer == 0 else range(heads)
        fused = sum(weights[layer, head] for head in among) / len(among)
        row = row / 2 + (row[:, None] * fused).sum(dim=0) / 2
    return row


def _shares_without(weights, fused_without, patch=None):
    """The share of one patch, or of the brightest each time, where layer 1 is fused as it is given."""
    means = weights.mean(1)
    rows = [product(halved(torch.cat([fused[None], means[1:]])))[0] for fused in fused_without(weights[0])]
    return torch.stack([row[1:].max() if patch is None else row[patch] for row in rows])


def _others(first):
    """The mean of the heads of a layer (heads, T, T) without each of them."""
    heads = len(first)
    return [first[[other for other in range(heads) if other != head]].mean(0) for head in range(heads)]


def _brightest(weights):
    return 1 + int(product(halved(weights.mean(1)))[0, 1:].argmax())


def _sought_anew(weights):
    return _shares_without(weights, _others)


def _head_set_to_zero(weights):
    def zeroed(first):
        return [(first.sum(0) - head) / len(first) for head in first]

    return _shares_without(weights, zeroed, _brightest(weights))


def _head_set_to_zero_then_normalised(weights):
    patch, means, shares = _brightest(weights), weights.mean(1), []
    for head in weights[0]:
        mixing = halved(torch.cat([means[:1] - head / weights.shape[1], means[1:]]))
        shares.append(product(rows_to_one(mixing))[0, patch])
    return torch.stack(shares)


def _sought_in_the_last_layer(weights):
    return _shares_without(weights, _others, 1 + int(weights[-1].mean(0)[0, 1:].argmax()))


def _of_all_tokens(weights):
    means, patch = weights.mean(1), _brightest(weights)
    changed = [torch.cat([fused[None], means[1:]]) for fused in _others(weights[0])]
    return torch.stack([product(halved(each))[:, patch].mean() for each in changed])


def _head_alone(weights):
    return _shares_without(weights, list, _brightest(weights))


def _removed_everywhere(weights):
    heads, patch = weights.shape[1], _brightest(weights)
    kept = [[other for other in range(heads) if other != head] for head in range(heads)]
    return torch.stack([product(halved(weights[:, some].mean(1)))[0, patch] for some in kept])


def _removed_from_the_last(weights):
    heads, patch, means = weights.shape[1], _brightest(weights), weights.mean(1)
    kept = [[other for other in range(heads) if other != head] for head in range(heads)]
    return torch.stack(
        [product(halved(torch.cat([means[:-1], weights[-1:, some].mean(1)])))[0, patch] for some in kept]
    )


def _class_token_as_patch(weights):
    return _shares_without(weights, _others, int(product(halved(weights.mean(1)))[0].argmax()))


def _patch_shifted(weights):
    return _shares_without(weights, _others, _brightest(weights) - 1)


def _share_lost(weights):
    patch = _brightest(weights)
    whole = product(halved(weights.mean(1)))[0, patch]
    return whole - _shares_without(weights, _others, patch)


def _share_of_the_whole(weights):
    patch = _brightest(weights)
    whole = product(halved(weights.mean(1)))[0, patch]
    return _shares_without(weights, _others, patch) / whole


def _sum_of_one(weights):
    shares = _shares_without(weights, _others, _brightest(weights))
    return shares / shares.sum()


def _mean_over_heads(weights):
    return _shares_without(weights, _others, _brightest(weights)) / weights.shape[1]


def _mean_divided_again(weights):
    def divided(first):
        return [mean / (len(first) - 1) for mean in _others(first)]

    return _shares_without(weights, divided, _brightest(weights))


def _without_residual(weights):
    means, patch = weights.mean(1), _brightest(weights)
    return torch.stack(
        [product(torch.cat([fused[None], means[1:]]))[0, patch] for fused in _others(weights[0])]
    )


def _rows_with(weights, fuse, reverse=False):
    """The shares, with another way to fuse the heads, or with the product the other way round."""
    means = torch.stack([fuse(layer) for layer in weights])
    patch = 1 + int(product(halved(means), reverse)[0, 1:].argmax())
    shares = []
    for head in range(weights.shape[1]):
        kept = [other for other in range(weights.shape[1]) if other != head]
        changed = torch.cat([fuse(weights[0, kept])[None], means[1:]])
        shares.append(product(halved(changed), reverse)[0, patch])
    return torch.stack(shares)


def _heads_summed(weights):
    return _rows_with(weights, lambda layer: layer.sum(0))


def _strongest_heads(weights):
    return _rows_with(weights, lambda layer: layer.amax(0))


def _order_reversed(weights):
    return _rows_with(weights, lambda layer: layer.mean(0), reverse=True)


def _in_layer_one_alone(weights):
    patch = _brightest(weights)
    return torch.stack([fused[0, patch] for fused in _others(weights[0])])


EXERCISE = Exercise(
    "6.4",
    "the head that fills a rollout",
    cases=_one_image_cases,
    oracle=_without_each_head,
    mistakes=[
        (
            _sought_anew,
            "the brightest patch is sought anew without each head; follow the one that all heads make.",
        ),
        (
            _head_set_to_zero,
            "the head is set to zero and still counted; take the mean over those that remain.",
        ),
        (
            _head_set_to_zero_then_normalised,
            "the head is set to zero and still counted, so the identity weighs more; take the mean over "
            "those that remain.",
        ),
        (
            _sought_in_the_last_layer,
            "the patch is sought in the last layer's attention; the rollout's row names it.",
        ),
        (_of_all_tokens, "this is the mean over all tokens' rows; the class token's row is wanted."),
        (_head_alone, "each head of layer 1 stands alone here; leave it out and keep the others."),
        (_removed_everywhere, "the head is left out in every layer; leave it out in layer 1 alone."),
        (_removed_from_the_last, "the head is left out in the last layer; layer 1 is the first one."),
        (
            _class_token_as_patch,
            "the largest share is the class token's own; look for it among the patches, from token 1 on.",
        ),
        (
            _patch_shifted,
            "the patch is one token too early: patches count from token 1, behind the class token.",
        ),
        (_share_lost, "this is what the patch loses; the share that it keeps is wanted."),
        (_share_of_the_whole, "this is divided by the share with all heads; leave it as it is."),
        (_sum_of_one, "the shares are divided by their sum; each stays as its own rollout has it."),
        (_mean_over_heads, "the shares are divided by the number of heads; each stays as it is."),
        (
            _mean_divided_again,
            "the mean over the heads that remain is divided once more; their sum is divided once.",
        ),
        (_without_residual, "the residual connection is missing: each layer is ½A + ½I."),
        (_heads_summed, "the heads are summed; their mean is wanted."),
        (_strongest_heads, "the heads' maximum is taken; their mean is wanted."),
        (_order_reversed, "the order is reversed: the last layer stands leftmost in the product."),
        (
            _in_layer_one_alone,
            "this is layer 1's attention; follow it through all layers, as rollout does.",
        ),
    ],
)

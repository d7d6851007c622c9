"""Lesson 06, attention analysis: exercises 6.1–6.5 and predictions 6.a–6.g."""

import math

import torch

from vitlab.checks.engine import Exercise
from vitlab.checks.predictions import Prediction, Question


def _softmaxed(generator, *shape):
    return torch.randn(*shape, generator=generator).mul(2).softmax(dim=-1)


# ---------------------------------------------------------------------------------------- 6.1 class row


def _row_cases(generator):
    yield _softmaxed(generator, 2, 3, 13, 13), (3, 4)
    yield _softmaxed(generator, 3, 4, 11, 11), (5, 2)
    yield _softmaxed(generator, 2, 2, 9, 9), (2, 4)


def _class_row(attention, grid_size):
    batch, heads, _, _ = attention.shape
    rows, columns = grid_size
    shown = attention.new_zeros(batch, rows, columns)
    for b in range(batch):
        for row in range(rows):
            for column in range(columns):
                token = 1 + row * columns + column
                shown[b, row, column] = sum(attention[b, head, 0, token] for head in range(heads)) / heads
    return shown


def _class_column(attention, grid_size):
    return attention[:, :, 1:, 0].mean(1).unflatten(-1, grid_size)


def _class_row_shifted(attention, grid_size):
    return attention[:, :, 0, :-1].mean(1).unflatten(-1, grid_size)


def _class_row_grid_swapped(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).unflatten(-1, grid_size[::-1])


def _class_row_down_the_columns(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).unflatten(-1, grid_size[::-1]).transpose(1, 2)


def _class_row_head_sum(attention, grid_size):
    return attention[:, :, 0, 1:].sum(1).unflatten(-1, grid_size)


def _class_row_heads_kept(attention, grid_size):
    return attention[:, :, 0, 1:].unflatten(-1, grid_size)


def _class_row_one_head(attention, grid_size):
    return attention[:, 0, 0, 1:].unflatten(-1, grid_size)


def _own_entry_kept(attention, grid_size):
    line = attention[:, :, 0].mean(1)
    return line.reshape(len(line), *grid_size)


def _own_entry_kept_by_minus_one(attention, grid_size):
    return attention[:, :, 0].mean(1).reshape(-1, *grid_size)


def _class_row_maximum(attention, grid_size):
    return attention[:, :, 0, 1:].amax(1).unflatten(-1, grid_size)


def _class_row_renormalised(attention, grid_size):
    return _rows_to_one(attention[:, :, 0, 1:].mean(1)).unflatten(-1, grid_size)


def _first_head_all_rows(attention, grid_size):
    return attention[:, 0, :, 1:].mean(1).unflatten(-1, grid_size)


def _all_rows(attention, grid_size):
    return attention[:, :, :, 1:].mean((1, 2)).unflatten(-1, grid_size)


def _class_row_softmax(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1).softmax(-1).unflatten(-1, grid_size)


def _class_row_of_its_largest(attention, grid_size):
    line = attention[:, :, 0, 1:].mean(1)
    return (line / line.amax(1, keepdim=True)).unflatten(-1, grid_size)


def _first_patch_row(attention, grid_size):
    return attention[:, :, 1, 1:].mean(1).unflatten(-1, grid_size)


def _class_row_flat(attention, grid_size):
    return attention[:, :, 0, 1:].mean(1)


# ---------------------------------------------------------------------------------------- 6.2 rollout


def _layer_cases(generator):
    yield (_softmaxed(generator, 3, 2, 4, 5, 5),)
    yield (_softmaxed(generator, 4, 3, 2, 7, 7),)
    yield (_softmaxed(generator, 2, 2, 3, 6, 6),)


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


def _product(steps, reverse=False):
    """The steps (L, B, T, T) multiplied, the last leftmost."""
    joint = steps[0]
    for step in steps[1:]:
        joint = joint @ step if reverse else step @ joint
    return joint


def _halved(fused):
    return (fused + torch.eye(fused.shape[-1], dtype=fused.dtype)) / 2


def _rows_to_one(maps):
    return maps / maps.sum(dim=-1, keepdim=True)


def _rollout_of_means(weights):
    return _product(_rows_to_one(_halved(weights.mean(2))))


def _rollout_of_sums(weights):
    return _product(_rows_to_one(_halved(weights.sum(2))))


def _rollout_of_max_pairs(weights):
    return weights.max(dim=2) / 2


def _rollout_without_keepdim(weights):
    steps = _halved(weights.amax(2))
    return _product(steps / steps.sum(dim=-1))


def _rollout_in_a_loop_without_keepdim(weights):
    fused, joint = weights.amax(2), torch.eye(weights.shape[-1], dtype=weights.dtype)
    for layer in fused:
        mixing = layer / 2 + torch.eye(weights.shape[-1], dtype=weights.dtype) / 2
        joint = mixing / mixing.sum(dim=-1) @ joint
    return joint


def _rollout_of_the_first_head(weights):
    return _product(_rows_to_one(_halved(weights[:, :, 0])))


def _rollout_by_softmax(weights):
    return _product(_halved(weights.amax(2)).softmax(-1))


def _rollout_of_the_least(weights):
    return _product(_rows_to_one(_halved(weights.amin(2))))


def _rollout_normalised_last(weights):
    return _rows_to_one(_product(_halved(weights.amax(2))))


def _rollout_whole_identity(weights):
    fused = weights.amax(2)
    return _product(_rows_to_one(fused / 2 + torch.eye(fused.shape[-1], dtype=fused.dtype)))


def _rollout_whole_attention(weights):
    fused = weights.amax(2)
    return _product(_rows_to_one(fused + torch.eye(fused.shape[-1], dtype=fused.dtype) / 2))


def _rollout_first_layer_twice(weights):
    return _product(_rows_to_one(_halved(torch.cat([weights[:1], weights]).amax(2))))


def _rollout_without_residual(weights):
    return _product(_rows_to_one(weights.amax(2)))


def _rollout_not_normalised(weights):
    return _product(_halved(weights.amax(2)))


def _rollout_columns_normalised(weights):
    steps = _halved(weights.amax(2))
    return _product(steps / steps.sum(dim=-2, keepdim=True))


def _rollout_reversed(weights):
    return _product(_rows_to_one(_halved(weights.amax(2))), reverse=True)


def _rollout_elementwise(weights):
    return _rows_to_one(_halved(weights.amax(2))).prod(0)


def _rollout_averaged(weights):
    return _rows_to_one(_halved(weights.amax(2))).mean(0)


def _rollout_last_layer(weights):
    return _rows_to_one(_halved(weights.amax(2)))[-1]


def _rollout_normalised_first(weights):
    return _product(_halved(_rows_to_one(weights.amax(2))))


def _rollout_first_image(weights):
    return _max_rollout(weights[:, :1])[0]


# ---------------------------------------------------------------------------------------- 6.3 one step


def _step_cases(generator):
    for batch, tokens in ((1, 6), (2, 5), (4, 4)):
        fused = _softmaxed(generator, batch, tokens, tokens)
        smallest = fused.flatten(1).quantile(0.6, dim=1)[:, None, None]
        fused = torch.where(fused < smallest, 0.0, fused)
        fused[:, -1] = 0.0  # a row of which nothing is left
        yield (fused,)


def _step(fused):
    mended = torch.zeros_like(fused)
    for b in range(fused.shape[0]):
        for i in range(fused.shape[1]):
            total = sum(fused[b, i, j] / 2 + (i == j) / 2 for j in range(fused.shape[2]))
            for j in range(fused.shape[2]):
                mended[b, i, j] = (fused[b, i, j] / 2 + (i == j) / 2) / total
    return mended


def _step_published(fused):
    step = _halved(fused)
    return step / step.sum(dim=-1)


def _step_published_and_again(fused):
    return _rows_to_one(_step_published(fused))


def _step_sums_along_columns(fused):
    step = _halved(fused)
    return step / step.sum(dim=-1)[:, None]


def _step_whole_identity(fused):
    return _rows_to_one(fused / 2 + torch.eye(fused.shape[-1], dtype=fused.dtype))


def _step_sums_of_attention(fused):
    return _halved(fused) / fused.sum(dim=-1, keepdim=True)


def _step_columns(fused):
    step = _halved(fused)
    return step / step.sum(dim=-2, keepdim=True)


def _step_not_normalised(fused):
    return _halved(fused)


def _step_without_residual(fused):
    return _rows_to_one(fused)


def _step_normalised_first(fused):
    return _halved(_rows_to_one(fused))


def _step_whole_map(fused):
    step = _halved(fused)
    return step / step.sum(dim=(-2, -1), keepdim=True)


def _step_whole_attention(fused):
    return _rows_to_one(fused + torch.eye(fused.shape[-1], dtype=fused.dtype) / 2)


def _step_multiplied(fused):
    step = _halved(fused)
    return step * step.sum(dim=-1, keepdim=True)


def _step_by_length(fused):
    step = _halved(fused)
    return step / step.norm(dim=-1, keepdim=True)


def _step_by_mean(fused):
    step = _halved(fused)
    return step / step.mean(dim=-1, keepdim=True)


def _step_by_largest(fused):
    step = _halved(fused)
    return step / step.amax(dim=-1, keepdim=True)


def _step_softmax(fused):
    return _halved(fused).softmax(dim=-1)


# ------------------------------------------------------------------------- 6.4 the head that did it


def _one_image_cases(generator):
    for layers, heads, tokens in ((3, 3, 6), (4, 2, 8), (2, 4, 5)):
        weights = _softmaxed(generator, layers, heads, tokens, tokens)
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
    rows = [_product(_halved(torch.cat([fused[None], means[1:]])))[0] for fused in fused_without(weights[0])]
    return torch.stack([row[1:].max() if patch is None else row[patch] for row in rows])


def _others(first):
    """The mean of the heads of a layer (heads, T, T) without each of them."""
    heads = len(first)
    return [first[[other for other in range(heads) if other != head]].mean(0) for head in range(heads)]


def _brightest(weights):
    return 1 + int(_product(_halved(weights.mean(1)))[0, 1:].argmax())


def _sought_anew(weights):
    return _shares_without(weights, _others)


def _head_set_to_zero(weights):
    def zeroed(first):
        return [(first.sum(0) - head) / len(first) for head in first]

    return _shares_without(weights, zeroed, _brightest(weights))


def _head_alone(weights):
    return _shares_without(weights, list, _brightest(weights))


def _removed_everywhere(weights):
    heads, patch = weights.shape[1], _brightest(weights)
    kept = [[other for other in range(heads) if other != head] for head in range(heads)]
    return torch.stack([_product(_halved(weights[:, some].mean(1)))[0, patch] for some in kept])


def _removed_from_the_last(weights):
    heads, patch, means = weights.shape[1], _brightest(weights), weights.mean(1)
    kept = [[other for other in range(heads) if other != head] for head in range(heads)]
    return torch.stack(
        [_product(_halved(torch.cat([means[:-1], weights[-1:, some].mean(1)])))[0, patch] for some in kept]
    )


def _class_token_as_patch(weights):
    return _shares_without(weights, _others, int(_product(_halved(weights.mean(1)))[0].argmax()))


def _patch_shifted(weights):
    return _shares_without(weights, _others, _brightest(weights) - 1)


def _share_lost(weights):
    patch = _brightest(weights)
    whole = _product(_halved(weights.mean(1)))[0, patch]
    return whole - _shares_without(weights, _others, patch)


def _share_of_the_whole(weights):
    patch = _brightest(weights)
    whole = _product(_halved(weights.mean(1)))[0, patch]
    return _shares_without(weights, _others, patch) / whole


def _without_residual(weights):
    means, patch = weights.mean(1), _brightest(weights)
    return torch.stack(
        [_product(torch.cat([fused[None], means[1:]]))[0, patch] for fused in _others(weights[0])]
    )


def _rows_with(weights, fuse, reverse=False):
    """The shares, with another way to fuse the heads, or with the product the other way round."""
    means = torch.stack([fuse(layer) for layer in weights])
    patch = 1 + int(_product(_halved(means), reverse)[0, 1:].argmax())
    shares = []
    for head in range(weights.shape[1]):
        kept = [other for other in range(weights.shape[1]) if other != head]
        changed = torch.cat([fuse(weights[0, kept])[None], means[1:]])
        shares.append(_product(_halved(changed), reverse)[0, patch])
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


# ---------------------------------------------------------------------------------------- 6.5 distance


def _distance_cases(generator):
    yield _softmaxed(generator, 2, 3, 13, 13), (3, 4), 4
    yield _softmaxed(generator, 3, 2, 11, 11), (2, 5), 7
    yield _softmaxed(generator, 2, 4, 9, 9), (4, 2), 16


def _distance(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size)


def _distance_with(attention, grid_size, patch_size, measure=math.dist, renormalise=True, first=1):
    """Mean over images and queries of the attention-weighted distance, per head; parts to get wrong."""
    rows, columns = grid_size
    places = [(row, column) for row in range(rows) for column in range(columns)]
    lengths = [[measure(one, other) * patch_size for other in places] for one in places]
    means = []
    for head in attention.unbind(1):
        total = 0.0
        for image in head.tolist():
            for i, table in enumerate(lengths):
                row = image[first + i][first : first + len(places)]
                left = sum(row) if renormalise else 1.0
                total += sum(weight * length for weight, length in zip(row, table, strict=True)) / left
        means.append(total / (len(attention) * len(places)))
    return attention.new_tensor(means)


def _distance_dropped(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, renormalise=False)


def _distance_in_patches(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, 1)


def _distance_shifted(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, first=0)


def _distance_swapped(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size[::-1], patch_size)


def _distance_squared(attention, grid_size, patch_size):
    return _distance_with(attention, grid_size, patch_size, lambda one, other: math.dist(one, other) ** 2)


def _distance_squared_in_pixels(attention, grid_size, patch_size):
    return _distance_squared(attention, grid_size, patch_size) * patch_size


def _distance_rooted_late(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (_rows_to_one(patches) * distances**2).sum(dim=-1).sqrt().mean(dim=(0, 2))


def _distance_times_area(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) * patch_size


def _distance_longer_side(attention, grid_size, patch_size):
    def longer(one, other):
        return max(abs(one[0] - other[0]), abs(one[1] - other[1]))

    return _distance_with(attention, grid_size, patch_size, longer)


def _distance_of_all_heads(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size).mean()


def _distance_divided_by_image(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return ((patches * distances).sum(-1).mean(2) / patches.sum(-1).mean(2)).mean(0)


def _distance_by_streets(attention, grid_size, patch_size):
    def streets(one, other):
        return abs(one[0] - other[0]) + abs(one[1] - other[1])

    return _distance_with(attention, grid_size, patch_size, streets)


def _distance_summed(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) * math.prod(grid_size)


def _distances(attention, grid_size, patch_size):
    """The attention among patches, and the table of their distances (N, N)."""
    rows, columns = grid_size
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(attention.dtype)
    return attention[..., 1:, 1:], torch.cdist(places, places) * patch_size


def _distance_without_keepdim(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches / patches.sum(dim=-1) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_columns(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches / patches.sum(dim=-2, keepdim=True) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_softmax(attention, grid_size, patch_size):
    patches, distances = _distances(attention, grid_size, patch_size)
    return (patches.softmax(dim=-1) * distances).sum(dim=-1).mean(dim=(0, 2))


def _distance_mean_of_keys(attention, grid_size, patch_size):
    return _distance(attention, grid_size, patch_size) / math.prod(grid_size)


def _distance_divided_late(attention, grid_size, patch_size):
    left = attention[..., 1:, 1:].sum(dim=-1).mean(dim=(0, 2))
    return _distance_dropped(attention, grid_size, patch_size) / left


def _distance_in_line(attention, grid_size, patch_size):
    columns = grid_size[1]

    def in_line(one, other):
        return abs((one[0] - other[0]) * columns + one[1] - other[1])

    return _distance_with(attention, grid_size, patch_size, in_line)


def _distance_of_images(attention, grid_size, patch_size):
    return torch.stack([_distance(image[None], grid_size, patch_size) for image in attention])


EXERCISES = [
    Exercise(
        "6.1",
        "the class token's row on a grid",
        cases=_row_cases,
        oracle=_class_row,
        mistakes=[
            (
                _class_column,
                "this is the class token's column, who looks at it; its row is what it looks at.",
            ),
            (_class_row_shifted, "the row is cut at the wrong end: token 0 is the class token itself."),
            (
                _class_row_grid_swapped,
                "rows and columns of the grid are swapped: grid_size is (rows, columns).",
            ),
            (
                _class_row_down_the_columns,
                "the patches are laid down the columns; they go along the rows, as one reads.",
            ),
            (
                _own_entry_kept,
                "the class token's own entry is still there, one more than the grid has places.",
            ),
            (
                _own_entry_kept_by_minus_one,
                "the class token's own entry is still in the row, so it does not fill grids: leave it out.",
            ),
            (_class_row_maximum, "the heads' maximum is taken; their mean is wanted."),
            (
                _class_row_renormalised,
                "the row is made to sum to 1 again; leave the weights as they are.",
            ),
            (
                _first_head_all_rows,
                "index 0 stands on the heads' axis: this is the first head, averaged over queries.",
            ),
            (_class_row_head_sum, "the heads are summed; their mean is wanted."),
            (_class_row_heads_kept, "the heads are still there; average over them."),
            (_class_row_one_head, "this is the first head alone; average over all of them."),
            (_all_rows, "this averages the rows of all tokens; only the class token's, row 0, is wanted."),
            (_class_row_softmax, "the row has been through its softmax; leave the weights as they are."),
            (_class_row_of_its_largest, "the row is divided by its largest weight; leave it as it is."),
            (_first_patch_row, "this is row 1, the first patch's; the class token is token 0."),
            (_class_row_flat, "the patches are still in a line; lay them out on the grid."),
        ],
    ),
    Exercise(
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
    ),
    Exercise(
        "6.3",
        "the published step, mended",
        cases=_step_cases,
        oracle=_step,
        mistakes=[
            (
                _step_published,
                "without keepdim the sums line up with columns: entry (i, j) is divided by the sum of row j.",
            ),
            (
                _step_published_and_again,
                "the rows sum to 1 now, but columns were divided first: the proportions are wrong.",
            ),
            (
                _step_sums_along_columns,
                "entry (i, j) is divided by the sum of row j: a last axis lets row i meet its own sum.",
            ),
            (_step_whole_identity, "the residual counts whole here, attention half: it is ½A + ½I."),
            (
                _step_sums_of_attention,
                "the sums are those before the residual is added; take them after, of what is divided.",
            ),
            (_step_columns, "the columns are made to sum to 1; it is the rows that must."),
            (_step_not_normalised, "nothing is normalised; divide each row by its sum."),
            (_step_without_residual, "the residual connection is missing: ½A + ½I comes first."),
            (
                _step_normalised_first,
                "the rows are normalised before the residual is added; mix first, then normalise.",
            ),
            (_step_whole_attention, "attention counts whole here, the residual half: it is ½A + ½I."),
            (_step_multiplied, "each row is multiplied by its sum; divide by it."),
            (
                _step_by_length,
                "each row is divided by its length, the root of its squares; by its sum instead.",
            ),
            (_step_by_mean, "each row is divided by its mean; divide it by its sum."),
            (_step_by_largest, "each row is divided by its largest entry; divide it by its sum."),
            (_step_whole_map, "the whole map sums to 1; each of its rows must."),
            (_step_softmax, "a softmax changes the proportions; divide by the sum instead."),
        ],
    ),
    Exercise(
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
            (_without_residual, "the residual connection is missing: each layer is ½A + ½I."),
            (_heads_summed, "the heads are summed; their mean is wanted."),
            (_strongest_heads, "the heads' maximum is taken; their mean is wanted."),
            (_order_reversed, "the order is reversed: the last layer stands leftmost in the product."),
            (
                _in_layer_one_alone,
                "this is layer 1's attention; follow it through all layers, as rollout does.",
            ),
        ],
    ),
    Exercise(
        "6.5",
        "mean attention distance, renormalised",
        cases=_distance_cases,
        oracle=_distance,
        mistakes=[
            (
                _distance_dropped,
                "what is left of a row without the class token does not sum to 1; divide it by its sum.",
            ),
            (_distance_in_patches, "this counts in patches; in pixels it is patch_size times as much."),
            (
                _distance_shifted,
                "the class token is token 0, not the last one; leave out row 0 and column 0.",
            ),
            (_distance_swapped, "rows and columns of the grid are swapped: grid_size is (rows, columns)."),
            (_distance_squared, "the distances are squared; take the root."),
            (_distance_squared_in_pixels, "these are distances squared, in square pixels; take the root."),
            (
                _distance_rooted_late,
                "the root is taken of the mean of squares; average the distances themselves.",
            ),
            (_distance_times_area, "patch_size is in it twice; once makes pixels of patches."),
            (
                _distance_longer_side,
                "this takes the larger of rows and columns; the straight line is wanted.",
            ),
            (_distance_of_all_heads, "the heads are averaged, too; one number a head is wanted."),
            (
                _distance_divided_by_image,
                "an image's sum is divided by what is left on average; divide each row by its own sum.",
            ),
            (_distance_by_streets, "this adds rows and columns; the straight line is wanted."),
            (
                _distance_without_keepdim,
                "the sums have lost their last axis, so they do not meet the rows; keepdim=True keeps it.",
            ),
            (_distance_columns, "the columns are made to sum to 1; it is the rows that must."),
            (_distance_softmax, "a softmax changes the proportions; divide by the sum instead."),
            (
                _distance_mean_of_keys,
                "the keys are averaged; their weights sum to 1 already, so the sum is the mean.",
            ),
            (
                _distance_divided_late,
                "all is divided by what is left on average; divide each row by its own sum, before.",
            ),
            (_distance_in_line, "this counts along the sequence; patches have their places on the grid."),
            (_distance_summed, "the queries are summed; average over them."),
            (_distance_of_images, "the images are still apart; average over the batch too."),
        ],
    ),
]

PREDICTIONS = [
    Prediction(
        "6.a",
        "attention has the shape (145, 145): entry [i, j] is what token i takes from token j. "
        "Which of these sums is 1 for certain?",
        [
            ("Each row, over j", "A row is one softmax: how one query shares its attention among all keys."),
            (
                "Each column, over i",
                "A column says how much a token is looked at. A popular one has far over 1.",
            ),
            ("Rows and columns", "Rows, yes. But nothing limits how many queries look at the same key."),
            ("The whole matrix", "Each of the 145 rows sums to 1, so the whole matrix sums to 145."),
        ],
        right=0,
    ),
    Prediction(
        "6.b",
        "The residual connection is left out, and the layers' attention matrices are simply multiplied. "
        "What do the rows of the product look like?",
        [
            (
                "Sharper than one layer's",
                "A row of the product averages the first layer's rows: it is no sharper than the sharpest.",
            ),
            (
                "Much like each other",
                "Each product mixes rows into averages of averages, so they grow alike.",
            ),
            (
                "They no longer sum to 1",
                "Rows that sum to 1 still do after multiplying: the mixing keeps it.",
            ),
            ("As with the residual", "The residual keeps half of each token in its place, at every layer."),
        ],
        right=1,
    ),
    Prediction(
        "6.c",
        "The published step is given one image's attention, of which nothing was discarded. "
        "How far is its map from the right one?",
        [
            ("Far: another picture", "It would be, were the sums unequal. Before discarding they are all 1."),
            ("A few per cent", "There is no rounding here: what it divides by is exactly what it should be."),
            (
                "Not at all",
                "All rows sum to 1, so dividing by the wrong row's sum divides by 1 all the same.",
            ),
            (
                "It raises an error",
                "(1, T, T) / (1, T) broadcasts. With two images and T = 145 it would raise one.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "6.d",
        "A head puts half its attention on the class token and spreads the rest evenly over all patches. "
        "The class token's column is dropped. What distance is reported?",
        [
            (
                "That of a uniform head",
                "It would be after renormalising. What is left of a row sums to ½ only.",
            ),
            ("Zero", "That takes patches that look at themselves alone, or at the class token alone."),
            ("Half that of a uniform head", "Dropping makes the missing half count as distance zero."),
            ("Twice that of a uniform head", "Leaving weight out of a weighted sum cannot make it larger."),
        ],
        right=2,
    ),
    Prediction(
        "6.e",
        "Convolutions of 3 × 3, stride 1, are stacked. "
        "After how many layers, at the least, can the centre unit depend on every pixel of a 28 × 28 image?",
        [
            ("3", "Three layers see 7 × 7 pixels: each layer adds one pixel on every side."),
            ("5", "Five layers see 11 × 11 pixels: each layer adds one pixel on every side."),
            (
                "14",
                "Each layer adds one pixel on every side: 2 · 14 + 1 = 29 pixels, the first that covers 28.",
            ),
            ("28", "Each layer adds a pixel on both sides, so half as many are enough."),
        ],
        right=2,
    ),
    Prediction(
        "6.f",
        "You ask rollout for the evidence for another class than the one that the model chose. "
        "How does the map change?",
        [
            (
                "It moves to other patches",
                "It would have to know the class. Look at what goes in: only attention.",
            ),
            ("It gets fainter", "Its row sums to 1 whatever you ask for: it cannot get fainter."),
            (
                "It turns around",
                "The class is not in the formula, so nothing can change its sign.",
            ),
            ("Not at all", "The class appears nowhere in the formula: it cannot be asked for."),
        ],
        right=3,
    ),
    Prediction(
        "6.g",
        "Rollout of a ViT-S of 12 layers, which has learnt from real pictures, for eight photographs. What "
        "will its maps show?",
        [
            (
                "The object, clearer than in the small model",
                "One would think so. But every layer adds one more average, and an early one decides.",
            ),
            (
                "The middle of each picture",
                "Photographers put things there, and this model does not know: its rollout looks elsewhere.",
            ),
            (
                "One patch, far above all others",
                "One head of layer 1 sends most of its attention to one patch, and the product keeps it.",
            ),
            (
                "Nothing: all patches alike",
                "The rows grow alike, as without the residual; but what they have in common is not even.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "6.h",
        "Each head of several models is removed alone. What orders the heads of one layer best by the loss "
        "that this adds?",
        [
            (
                "How much of the class token's attention the head gives to patches",
                "Nearly all heads give nearly all of it; how much a head looks is not what that changes.",
            ),
            (
                "How far rollout moves without the head",
                "It tells early layers from late ones; within a layer little is left of that.",
            ),
            (
                "How steeply the answer falls when the head is turned down: Σ A ⊙ gradient",
                "The slope of what was done: the only column that asks what the head's output changes.",
            ),
            (
                "None: a single head costs nothing",
                "Many cost little, those of layer 1 much, and the loss is fine enough to order them.",
            ),
        ],
        right=2,
    ),
]


def quiz(
    *,
    to_class: float = 0.10,
    dropped: float = 22.6,
    renormalised: float = 25.0,
    moved: float = 0.09,
    rollout_hits: float = 0.99,
    centre_hits: float = 0.67,
) -> list[Question]:
    """Five questions: one head's distances (pixels), a published fault, two maps' pointing games."""
    ahead = rollout_hits > centre_hits
    hits = f"{rollout_hits:.0%} and {centre_hits:.0%}"
    return [
        Question(
            "6.q1",
            f"In one head the patches give {to_class:.0%} of their attention to the class token. With its "
            f"column dropped, the head's mean distance is {dropped:.1f} pixels. What is it, about, when the "
            "rows are renormalised?",
            [
                (
                    f"{dropped * (1 - to_class):.1f} pixels",
                    "That is multiplied by what is left of a row. To make the rest count as 1, one divides "
                    "by it.",
                ),
                (
                    f"{dropped:.1f} pixels, as before",
                    "What was cut off counted as distance zero. It has to stop counting.",
                ),
                (
                    f"{renormalised:.1f} pixels",
                    "Each row is divided by what is left of it, on average by 1 less the class token's "
                    "share.",
                ),
                (
                    f"{dropped + 100 * to_class:.1f} pixels",
                    "Shares are no pixels: they cannot be added to a distance.",
                ),
            ],
            right=2,
        ),
        Question(
            "6.q2",
            f"The published rollout code moved the brightest patch in {moved:.0%} of our scenes when 90 % of "
            "the entries were discarded. Which test would have found its fault?",
            [
                (
                    "That its result has the shape (T, T)",
                    "It has. Broadcasting is what made the wrong division possible.",
                ),
                (
                    "That rows sum to 1, with nothing discarded",
                    "They do: all sums are 1 then, and dividing by the wrong one does no harm.",
                ),
                (
                    "That rows sum to 1, with entries discarded",
                    "Only then do the sums differ from row to row, and dividing columns by them shows.",
                ),
                ("That its maps look sensible", "They do. Nobody noticed for years."),
            ],
            right=2,
        ),
        Question(
            "6.q3",
            f"Rollout's brightest patch lies on the garment in {rollout_hits:.0%} of the scenes; that of a "
            f"Gaussian in the centre, which has seen no image, in {centre_hits:.0%}. What do these numbers "
            "bear out?",
            [
                (
                    "That the class depends on these patches",
                    "A hit says where the map is bright. Whether the class depends on it, one finds by "
                    "hiding it.",
                ),
                (
                    "That rollout finds objects better than the centre",
                    f"{hits}: that is what one counts, on scenes with one object.",
                ),
                (
                    "That the centre finds objects as well, or better",
                    f"{hits}: the centre would have to hit at least as often.",
                ),
                (
                    "That rollout explains the class asked for",
                    "The class appears nowhere in its formula: it cannot be asked.",
                ),
            ],
            right=1 if ahead else 2,
        ),
        Question(
            "6.q4",
            "After one block a ViT's unit takes what it knows from further away than a ResNet's; and a ViT "
            "that has seen no image does so, too. What does that say about claim 7?",
            [
                (
                    "It is wrong: nothing was learnt",
                    "The claim is that low layers look far, not that they learnt to. They do.",
                ),
                (
                    "It holds, by construction",
                    "Attention reaches every patch from the first layer on. What has to be learnt is to "
                    "look nearby.",
                ),
                (
                    "It holds for trained models only",
                    "The new one looks far as well, since its weights are nearly even.",
                ),
                (
                    "It holds for the last layers only",
                    "There the ResNet sees further: it halves its image again and again.",
                ),
            ],
            right=1,
        ),
        Question(
            "6.q5",
            "The paper shows rollout maps of some images and finds that the model attends to regions that "
            "are relevant for the class. What is missing for this to be a measurement?",
            [
                ("More layers in the product", "Rollout already has all of them."),
                (
                    "Larger pictures of the maps",
                    "A sharper picture of a chosen example is still a chosen example.",
                ),
                ("Nothing: one can see it", "The eye finds agreement quickly, and the examples were chosen."),
                (
                    "Many images, true masks and a baseline",
                    "Only beside what a map without a model scores does a number say anything.",
                ),
            ],
            right=3,
        ),
    ]

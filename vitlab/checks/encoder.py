"""Lesson 03, the encoder: exercises 3.0–3.4 and predictions 3.a–3.f."""

import math

import torch
from torch import nn

from vitlab.checks.engine import Exercise
from vitlab.checks.exercises.encoder import construct
from vitlab.checks.predictions import Prediction, Question

# ---------------------------------------------------------------------------------- 3.1 attention_weights


def _query_cases(generator):
    def pair(batch, tokens, width, dtype=torch.float32, size=1.0):
        return tuple(
            size * torch.randn(batch, tokens, width, dtype=dtype, generator=generator) for _ in range(2)
        )

    yield pair(2, 5, 16)
    yield pair(3, 7, 6)
    yield pair(2, 3, 9, dtype=torch.float64)
    yield pair(2, 4, 8, size=20.0)  # scores of some hundreds: their exponential is infinite


def _weights(queries, keys):
    batch, tokens, width = queries.shape
    weights = queries.new_zeros(batch, tokens, tokens)
    for b in range(batch):
        for i in range(tokens):
            products = [
                math.fsum((queries[b, i].double() * keys[b, j].double()).tolist()) for j in range(tokens)
            ]
            scores = [product / math.sqrt(width) for product in products]
            parts = [math.exp(score - max(scores)) for score in scores]
            weights[b, i] = torch.tensor([part / math.fsum(parts) for part in parts])
    return weights


def _products(queries, keys):
    return torch.einsum("bid,bjd->bij", queries, keys)


def _softmax(scores):
    return scores.softmax(dim=-1)


def _weights_unscaled(queries, keys):
    return _softmax(_products(queries, keys))


def _weights_scaled_by_d(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[-1])


def _weights_scaled_up(queries, keys):
    return _softmax(_products(queries, keys) * queries.shape[-1] ** 0.5)


def _weights_scaled_by_tokens(queries, keys):
    return _softmax(_products(queries, keys) / queries.shape[1] ** 0.5)


def _weights_down_the_columns(queries, keys):
    return (_products(queries, keys) / queries.shape[-1] ** 0.5).softmax(dim=1)


def _weights_keys_ask(queries, keys):
    return _weights(keys, queries)


def _weights_overflow(queries, keys):
    parts = (_products(queries, keys) / queries.shape[-1] ** 0.5).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def _weights_without_exp(queries, keys):
    scores = _products(queries, keys) / queries.shape[-1] ** 0.5
    return scores / scores.sum(dim=-1, keepdim=True)


def _scores_only(queries, keys):
    return _products(queries, keys) / queries.shape[-1] ** 0.5


def _weights_not_normalised(queries, keys):
    scores = _scores_only(queries, keys)
    return (scores - scores.amax(dim=-1, keepdim=True)).exp()


def _weights_of_keys_not_transposed(queries, keys):
    return _softmax(queries @ keys / queries.shape[-1] ** 0.5)


def _weights_all_axes_turned(queries, keys):
    return _softmax(queries @ keys.permute(2, 1, 0) / queries.shape[-1] ** 0.5)


def _weights_axis_lost(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.sum(dim=-1)


def _weights_of_the_whole_table(queries, keys):
    parts = _weights_not_normalised(queries, keys)
    return parts / parts.sum()


def _weights_less_the_largest_of_all(queries, keys):
    scores = _scores_only(queries, keys)
    parts = (scores - scores.max()).exp()
    return parts / parts.sum(dim=-1, keepdim=True)


def _weights_scaled_late(queries, keys):
    return _weights_unscaled(queries, keys) / queries.shape[-1] ** 0.5


# ---------------------------------------------------------------------------------- 3.2 many_heads


def _qkv_cases(generator):
    for batch, tokens, heads, width, dtype in (
        (2, 5, 3, 4, torch.float32),
        (3, 4, 2, 6, torch.float32),
        (2, 6, 5, 2, torch.float64),
        (2, 3, 1, 8, torch.float32),
    ):
        yield torch.randn(batch, tokens, 3 * heads * width, dtype=dtype, generator=generator), heads


def _many_heads(qkv, num_heads):
    batch, tokens, columns = qkv.shape
    embed_dim, width = columns // 3, columns // 3 // num_heads
    mixed = qkv.new_zeros(batch, tokens, embed_dim)
    for b in range(batch):
        for head in range(num_heads):
            first = head * width
            q, k, v = (
                qkv[b, :, part * embed_dim + first : part * embed_dim + first + width] for part in range(3)
            )
            for i in range(tokens):
                scores = torch.stack([(q[i] * k[j]).sum() / math.sqrt(width) for j in range(tokens)])
                parts = (scores - scores.max()).exp()
                weights = parts / parts.sum()
                mixed[b, i, first : first + width] = sum(weights[j] * v[j] for j in range(tokens))
    return mixed


def _attend(q, k, v, width):
    """(B, heads, T, d) x 3 -> (B, heads, T, d)."""
    return torch.einsum("bhid,bhjd->bhij", q, k).div(width**0.5).softmax(dim=-1) @ v


def _split(qkv, num_heads):
    """(B, T, 3D) -> three of (B, heads, T, d), as it should be."""
    batch, tokens, columns = qkv.shape
    width = columns // 3 // num_heads
    return (*qkv.reshape(batch, tokens, 3, num_heads, width).permute(2, 0, 3, 1, 4), width)


def _join(mixed):
    return mixed.transpose(1, 2).flatten(2)


def _heads_first(qkv, num_heads):
    batch, tokens, columns = qkv.shape
    width = columns // 3 // num_heads
    return _join(
        _attend(*qkv.reshape(batch, tokens, num_heads, 3, width).permute(3, 0, 2, 1, 4), width=width)
    )


def _width_before_heads(qkv, num_heads):
    batch, tokens, columns = qkv.shape
    width = columns // 3 // num_heads
    q, k, v = qkv.reshape(batch, tokens, 3, width, num_heads).permute(2, 0, 4, 1, 3)
    return _attend(q, k, v, width).permute(0, 2, 3, 1).flatten(2)


def _one_head(qkv, num_heads):
    return _many_heads(qkv, 1)


def _scaled_by_whole_width(qkv, num_heads):
    q, k, v, width = _split(qkv, num_heads)
    return _join(_attend(q, k, v, width * num_heads))


def _heads_unscaled(qkv, num_heads):
    q, k, v, _ = _split(qkv, num_heads)
    return _join(_attend(q, k, v, 1))


def _joined_without_moving(qkv, num_heads):
    mixed = _attend(*_split(qkv, num_heads))
    return mixed.reshape(qkv.shape[0], qkv.shape[1], -1)


def _joined_width_first(qkv, num_heads):
    return _attend(*_split(qkv, num_heads)).permute(0, 2, 3, 1).flatten(2)


def _heads_kept(qkv, num_heads):
    return _attend(*_split(qkv, num_heads))


def _heads_averaged(qkv, num_heads):
    return _attend(*_split(qkv, num_heads)).mean(dim=1)


def _split_without_moving(qkv, num_heads):
    batch, tokens, columns = qkv.shape
    width = columns // 3 // num_heads
    q, k, v = (part.reshape(batch, num_heads, tokens, width) for part in qkv.chunk(3, dim=-1))
    return _join(_attend(q, k, v, width))


def _values_unmixed(qkv, num_heads):
    return qkv.chunk(3, dim=-1)[2]


def _heads_look_at_heads(qkv, num_heads):
    """Without moving the heads in front of the tokens, `@` compares the heads of each token."""
    q, k, v, width = _split(qkv, num_heads)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, T, heads, d)
    return _attend(q, k, v, width).flatten(2)


def _heads_over_the_queries(qkv, num_heads):
    q, k, v, width = _split(qkv, num_heads)
    return _join((q @ k.mT / width**0.5).softmax(dim=-2) @ v)


def _heads_without_softmax(qkv, num_heads):
    q, k, v, width = _split(qkv, num_heads)
    return _join(q @ k.mT / width**0.5 @ v)


def _heads_weights(qkv, num_heads):
    q, k, _, width = _split(qkv, num_heads)
    return (q @ k.mT / width**0.5).softmax(dim=-1)


def _keys_ask(qkv, num_heads):
    q, k, v, width = _split(qkv, num_heads)
    return _join(_attend(k, q, v, width))


def _keys_mixed(qkv, num_heads):
    q, k, v, width = _split(qkv, num_heads)
    return _join(_attend(q, v, k, width))


# ---------------------------------------------------------------------------------- 3.3 block


def norm1(x):
    return (x - x.mean(dim=-1, keepdim=True)) / x.std(dim=-1, keepdim=True)


def norm2(x):
    return 3 * norm1(x) + 0.5


def attention(x):
    return x.cumsum(dim=1).tanh()


def mlp(x):
    return 2 * x.flip(-1).sigmoid()


def _block_cases(generator):
    for shape, dtype in (((2, 5, 8), torch.float32), ((3, 4, 6), torch.float32), ((2, 3, 7), torch.float64)):
        yield torch.randn(shape, dtype=dtype, generator=generator), norm1, attention, norm2, mlp


def _block(x, norm1, attention, norm2, mlp):
    between = torch.stack([x, attention(norm1(x))]).sum(dim=0)
    return torch.stack([between, mlp(norm2(between))]).sum(dim=0)


def _post_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


def _no_residual(x, norm1, attention, norm2, mlp):
    return mlp(norm2(attention(norm1(x))))


def _first_residual_only(x, norm1, attention, norm2, mlp):
    return mlp(norm2(x + attention(norm1(x))))


def _second_residual_only(x, norm1, attention, norm2, mlp):
    x = attention(norm1(x))
    return x + mlp(norm2(x))


def _residual_after_norm(x, norm1, attention, norm2, mlp):
    x = norm1(x)
    x = norm2(x + attention(x))
    return x + mlp(x)


def _no_norm(x, norm1, attention, norm2, mlp):
    x = x + attention(x)
    return x + mlp(x)


def _side_by_side(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x)) + mlp(norm2(x))


def _second_residual_from_the_start(x, norm1, attention, norm2, mlp):
    return x + mlp(norm2(x + attention(norm1(x))))


def _mlp_first(x, norm1, attention, norm2, mlp):
    x = x + mlp(norm2(x))
    return x + attention(norm1(x))


def _norm_of_the_branch(x, norm1, attention, norm2, mlp):
    x = x + norm1(attention(x))
    return x + norm2(mlp(x))


def _same_norm_twice(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


def _norms_swapped(x, norm1, attention, norm2, mlp):
    return _block(x, norm2, attention, norm1, mlp)


def _second_norm_missing(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(x)


def _second_residual_after_norm(x, norm1, attention, norm2, mlp):
    x = norm2(x + attention(norm1(x)))
    return x + mlp(x)


def _attention_not_kept(x, norm1, attention, norm2, mlp):
    """As after a line `x + attention(norm1(x))` that is assigned to nothing."""
    return x + mlp(norm2(x))


# ---------------------------------------------------------------------------------- 3.4 vit_parameters


def _size_cases(generator):
    yield (28, 28), 4, 1, 10, 4, 96, 192
    yield (32, 48), 8, 3, 7, 2, 24, 40
    yield (224, 224), 16, 3, 1000, 12, 768, 3072
    depth, width, mlp_dim = torch.randint(2, 9, (3,), generator=generator).tolist()
    yield (18, 30), 6, 5, 4, depth, 12 * width, 10 * mlp_dim


def _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    """PyTorch's own layers, counted."""
    with torch.device("meta"):
        layers = [nn.Conv2d(channels, embed_dim, patch_size, patch_size)]
        layers += [
            nn.TransformerEncoderLayer(embed_dim, nhead=1, dim_feedforward=mlp_dim) for _ in range(depth)
        ]
        layers += [nn.LayerNorm(embed_dim), nn.Linear(embed_dim, num_classes)]
        grid = layers[0](torch.empty(channels, *image_size)).flatten(1).T
        tokens = [torch.empty(embed_dim), torch.empty(len(grid) + 1, embed_dim)]
    return sum(p.numel() for layer in layers for p in layer.parameters()) + sum(t.numel() for t in tokens)


def _without(leave_out):
    """The count without what `leave_out(N, P²C, classes, depth, D, mlp_dim)` says."""

    def count(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
        whole = _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim)
        number = (image_size[0] // patch_size) * (image_size[1] // patch_size)
        return whole - leave_out(number, channels * patch_size**2, num_classes, depth, embed_dim, mlp_dim)

    return count


def _grey_patches(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    return _vit_parameters(image_size, patch_size, 1, num_classes, depth, embed_dim, mlp_dim)


def _mlp_four_times_as_wide(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    return _vit_parameters(image_size, patch_size, channels, num_classes, depth, embed_dim, 4 * embed_dim)


EXERCISES = [
    construct.EXERCISE,
    Exercise(
        "3.1",
        "scores, scale and softmax",
        cases=_query_cases,
        oracle=_weights,
        mistakes=[
            (_weights_unscaled, "the scale is missing: each score is divided by the square root of d."),
            (_weights_scaled_by_d, "the scores are divided by d; it is the square root of d."),
            (_weights_scaled_up, "the scores are multiplied by the square root of d; divide by it."),
            (
                _weights_scaled_by_tokens,
                "the scale comes from T, the number of tokens; it comes from d, the length of a query.",
            ),
            (
                _weights_down_the_columns,
                "the softmax runs over the queries: columns sum to 1. Each row is one query; rows sum to 1.",
            ),
            (_weights_keys_ask, "queries and keys are swapped: rows are queries, columns are keys."),
            (
                _weights_overflow,
                "the exponential of a large score is infinite; subtract each row's largest score before it.",
            ),
            (
                _weights_without_exp,
                "the scores are divided by their sum without `exp`, so weights can be below 0.",
            ),
            (_scores_only, "these are the scores; the softmax over each row is still to come."),
            (_weights_not_normalised, "the rows do not sum to 1; divide each by its sum."),
            (
                _weights_of_keys_not_transposed,
                "the keys are not transposed: queries @ keys.mT compares each query with each key.",
            ),
            (
                _weights_all_axes_turned,
                "`.T` turns all three axes; `.mT` swaps the last two and leaves the batch.",
            ),
            (
                _weights_axis_lost,
                "a maximum or sum along the rows has lost its axis; keepdim=True keeps it as (B, T, 1).",
            ),
            (
                _weights_of_the_whole_table,
                "everything is divided by one sum; each row has its own: dim=-1, keepdim=True.",
            ),
            (
                _weights_less_the_largest_of_all,
                "the largest score of all is subtracted, so a row far below it becomes 0 / 0; each row has "
                "its own largest.",
            ),
            (_weights_scaled_late, "the weights are divided by √d; the scores are, before the softmax."),
        ],
    ),
    Exercise(
        "3.2",
        "all heads at once",
        cases=_qkv_cases,
        oracle=_many_heads,
        mistakes=[
            (
                _heads_first,
                "the columns are read as (heads, 3, d); first come all queries, then all keys, all values.",
            ),
            (
                _width_before_heads,
                "the columns are read as (3, d, heads); one head's d columns are neighbours.",
            ),
            (_one_head, "this is one head as wide as D; num_heads of them attend on their own."),
            (
                _scaled_by_whole_width,
                "the scale is the square root of D; a head's queries have the length d = D / num_heads.",
            ),
            (_heads_unscaled, "the scores are not divided by the square root of d."),
            (
                _joined_without_moving,
                "a plain reshape joins the heads before the token axis was moved in front of them.",
            ),
            (_joined_width_first, "the heads are joined as (d heads); one head's d numbers stay neighbours."),
            (_heads_kept, "the heads are still an axis of their own; join them to (B, T, D)."),
            (_heads_averaged, "the heads are averaged; they are put side by side."),
            (
                _split_without_moving,
                "a plain reshape to (B, heads, T, d) mixes tokens and heads; split the columns, then move.",
            ),
            (_values_unmixed, "these are the values as they came in; the weights do not mix them yet."),
            (
                _heads_look_at_heads,
                "each token's heads attend to one another; move the heads in front of the tokens: "
                "(B, heads, T, d).",
            ),
            (
                _heads_over_the_queries,
                "the softmax runs over the queries; each query's row sums to 1, along the last axis.",
            ),
            (_heads_without_softmax, "the values are mixed with the scores; the softmax is missing."),
            (_heads_weights, "these are the weights; the values are still to be mixed with them."),
            (_keys_ask, "queries and keys are swapped: first come the queries, then the keys."),
            (_keys_mixed, "keys and values are swapped: keys come second, values last."),
        ],
    ),
    Exercise(
        "3.3",
        "the pre-norm block",
        cases=_block_cases,
        oracle=_block,
        mistakes=[
            (
                _post_norm,
                "this is the post-norm block of BERT: the norm comes after the sum; here before the layer.",
            ),
            (_no_residual, "both residual connections are missing: add x to what attention and mlp return."),
            (
                _first_residual_only,
                "the second residual connection is missing: the mlp's output is added too.",
            ),
            (
                _second_residual_only,
                "the first residual connection is missing: attention's output is added to x.",
            ),
            (
                _residual_after_norm,
                "the residual connection carries the normalised tokens; it carries x itself, untouched.",
            ),
            (_no_norm, "the norms are missing."),
            (
                _side_by_side,
                "the mlp reads the block's input; it reads what attention has added to (equation 3).",
            ),
            (
                _second_residual_from_the_start,
                "the mlp's output is added to the block's input, and attention's share is lost from the sum.",
            ),
            (_mlp_first, "attention and mlp are swapped: attention comes first."),
            (
                _norm_of_the_branch,
                "the norm is applied to what attention and mlp return; it belongs before them.",
            ),
            (_same_norm_twice, "norm1 is used for both; the mlp has a norm of its own, norm2."),
            (_norms_swapped, "norm1 and norm2 are swapped; norm1 is attention's."),
            (_second_norm_missing, "the mlp reads x itself; it reads norm2(x)."),
            (
                _second_residual_after_norm,
                "the mlp's output is added to the normalised tokens; add it to x, as it was before norm2.",
            ),
            (
                _attention_not_kept,
                "attention's output is lost: its sum with x has to be assigned, as x = x + ….",
            ),
        ],
    ),
    Exercise(
        "3.4",
        "every parameter by formula",
        cases=_size_cases,
        oracle=_vit_parameters,
        mistakes=[
            (
                _without(lambda n, p, c, depth, d, m: d + depth * (5 * d + m) + c),
                "the biases are missing: every linear layer has one number more per output, qkv 3D of them.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: depth * 3 * d),
                "the bias of qkv is missing, 3D in every block.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: d),
                "D are missing: the class token, or its position's row.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: 2 * d),
                "2D are missing: the final norm, or the class token and its row of the positions.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: (n + 1) * d),
                "the position embeddings are missing, (N + 1)·D.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: (4 * depth + 2) * d),
                "the norms are missing: two in every block and one at the end, 2D each.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: 2 * depth * d),
                "one norm per block is missing: each of its two has a scale and a shift, D numbers both.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: depth * d * (d + 1)),
                "`proj` is missing, the D × D matrix that mixes the heads after attention.",
            ),
            (_without(lambda n, p, c, depth, d, m: d * c + c), "the head is missing, (D + 1) · classes."),
            (
                _without(lambda n, p, c, depth, d, m: (p + 1) * d),
                "the patch projection is missing, (P²C + 1)·D.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: (1 - n) * (p + 1) * d),
                "each patch has a projection of its own; one serves all N.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: (depth - 1) * (4 * d * d + 9 * d + 2 * d * m + m)),
                "one block is counted; there are `depth` of them.",
            ),
            (
                _without(lambda n, p, c, depth, d, m: (2 * depth + 1) * d),
                "a norm is counted as D numbers; it has 2D, a scale and a shift.",
            ),
            (_grey_patches, "the channels are left out: a patch has P²C numbers."),
            (_mlp_four_times_as_wide, "the MLP is taken to be 4D wide; its width is mlp_dim."),
        ],
        tolerance=0,
    ),
]

PREDICTIONS = [
    Prediction(
        "3.a",
        "Attention gives a query the weighted mean of all values. Suppose one query's scores are all equal, "
        "say 7. What does it get?",
        [
            ("Nothing: zeros", "Weights are never all zero: a softmax always shares out exactly 1."),
            ("Its own value", "A token has no privilege for itself; only its score could give it one."),
            (
                "The plain mean of all values",
                "Equal scores share the 1 equally, 1/T each; only differences between scores count.",
            ),
            ("7 times the mean of all values", "The size that all scores share cancels in the softmax."),
        ],
        right=2,
    ),
    Prediction(
        "3.b",
        "A query and a key hold d = 64 independent random numbers each, of mean 0 and variance 1. "
        "About how large is their dot product, as a standard deviation?",
        [
            ("1", "Each of the 64 products has variance 1; their sum does not stay that small."),
            ("8", "Variances add up: 64 products of variance 1 make variance 64, a deviation of √64 = 8."),
            ("64", "That would be so if all products had the same sign; most of them cancel."),
            ("1/8", "This is the scale 1/√d, by which the product is then multiplied to come back to 1."),
        ],
        right=1,
    ),
    Prediction(
        "3.c",
        "D stays 96, but instead of 4 heads a layer gets 8. What happens to its number of parameters?",
        [
            (
                "It stays the same",
                "qkv is D × 3D and proj is D × D whatever the heads: they only cut D into pieces.",
            ),
            ("It doubles", "Each head gets half as wide, d = D / heads, so twice as many cost the same."),
            ("It halves", "Queries get shorter, but there are more of them: D × 3D in all, as before."),
            (
                "It grows a little: more biases",
                "A bias belongs to a column of qkv, and there are still 3D columns.",
            ),
        ],
        right=0,
    ),
    Prediction(
        "3.d",
        "After the last block, noise replaces all patch tokens; the class token is left as it is. "
        "What happens to the logits?",
        [
            (
                "They become noise",
                "They would if the head read the patches. It reads token 0 alone (equation 4).",
            ),
            (
                "They change a little",
                "The class token did listen to the patches, but in the blocks, which are over.",
            ),
            (
                "Nothing",
                "Norm and head look at token 0 alone: what the patches gave it, they gave in the blocks.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "3.e",
        "An untrained ViT with a head of zeros sees garments of 10 classes. What is the cross-entropy?",
        [
            ("0, as the head is zero", "The logits are 0; the loss of ten equal logits is not."),
            (
                "About 2.3, a little different for each image",
                "Random weights do make random tokens; but × 0 is 0.",
            ),
            (
                "Exactly ln 10 ≈ 2.303 for every image",
                "All logits are 0, so each class gets 1/10, and -ln(1/10) = ln 10.",
            ),
            (
                "Between 3 and 10, as it guesses at random",
                "A confident wrong guess costs that; this model is unsure.",
            ),
        ],
        right=2,
    ),
    Prediction(
        "3.f",
        "16 blocks, no warm-up: once with the norm before each layer (ViT), once after the sum (BERT). "
        "What do you expect?",
        [
            (
                "Both learn alike: same parameters",
                "Same parts, but another path for the gradient, and that decides here.",
            ),
            (
                "Pre-norm learns, post-norm stays near ln 10",
                "In pre-norm an untouched sum runs from tokens to head; in post-norm each block rescales it.",
            ),
            (
                "Post-norm learns faster: its output is normalised",
                "With few blocks and a warm-up it does well; at this depth, unwarmed, it fails to start.",
            ),
            (
                "Neither learns: 16 blocks are too deep",
                "Depth itself is no obstacle where the sum is left alone.",
            ),
        ],
        right=1,
    ),
]


def quiz(
    *,
    tokens: int = 50,
    num_heads: int = 4,
    even_share: float = 1.2,
    pre_norm_worst: float = 1.49,
    post_norm_best: float = 2.19,
) -> list[Question]:
    """Five questions: sums of weights, heads without the scale, the losses of both norms (of all seeds)."""
    B, T, apart = 8, tokens, pre_norm_worst < post_norm_best
    return [
        Question(
            "3.q1",
            f"One layer's weights for {B} images have the shape ({B}, {num_heads}, {T}, {T}). What is the "
            "sum of all these numbers?",
            [
                ("1", "A softmax goes along one row, and each row has a 1 of its own."),
                (
                    f"{B * num_heads}",
                    "This takes 1 for each head. A head has as many rows as tokens, and each sums to 1.",
                ),
                (
                    f"{B * num_heads * T:,}",
                    f"Every row sums to 1, and there are {B} · {num_heads} · {T} rows.",
                ),
                (
                    f"{B * num_heads * T * T:,}",
                    "This is how many numbers there are; on average each is 1 / T.",
                ),
            ],
            right=2,
        ),
        Question(
            "3.q2",
            f"Without the scale, heads of width 1024 put their weight on about {even_share:.1f} of 197 "
            "tokens, and hardly any gradient came through. Why?",
            [
                (
                    "Large scores overflow",
                    "Subtracting the largest score prevents that. The numbers are all finite.",
                ),
                (
                    "The weights no longer sum to 1",
                    "They do, as after every softmax. Nearly all of the 1 is in one place.",
                ),
                (
                    "The values are multiplied by nearly 0",
                    "One of them is multiplied by nearly 1, and it has a gradient. The scores have none.",
                ),
                (
                    "Small changes of the scores change nothing",
                    "The winner stays at nearly 1, the others at nearly 0; a flat function has no slope.",
                ),
            ],
            right=3,
        ),
        Question(
            "3.q3",
            "A token is multiplied by 10 just before a pre-norm block. What happens to what the block's "
            "attention adds to this token?",
            [
                (
                    "Next to nothing",
                    "LayerNorm takes the scale away. Compared with the token, what is added is 10 times "
                    "smaller.",
                ),
                (
                    "It is 10 times as large",
                    "It would be without the norm: attention reads a copy whose variance is 1.",
                ),
                (
                    "Its weights become harder",
                    "Scores are made from the normalised copy; they do not see the factor.",
                ),
                (
                    "It is 10 times smaller",
                    "It stays as it was. Only in proportion to the token has it become smaller.",
                ),
            ],
            right=0,
        ),
        Question(
            "3.q4",
            f"16 blocks, no warm-up. Losses at the end: pre-norm {pre_norm_worst:.2f} in its worst run, "
            f"post-norm {post_norm_best:.2f} in its best. What do these numbers bear out?",
            [
                (
                    "Post-norm cannot train deep models",
                    "BERT trained 12 such blocks, with a warm-up. This says nothing about trainings other "
                    "than ours.",
                ),
                (
                    "In this setting pre-norm learns faster",
                    f"Its worst run is {'' if apart else 'not '}better than post-norm's best, and only this "
                    "setting was tried.",
                ),
                (
                    "Nothing: the runs overlap",
                    f"{pre_norm_worst:.2f} and {post_norm_best:.2f}: the worst of one and the best of the "
                    f"other {'do not' if apart else 'do'} overlap.",
                ),
                (
                    "Pre-norm has more parameters to learn with",
                    "Both have the same parameters; the norms only stand in another place.",
                ),
            ],
            right=1 if apart else 2,
        ),
        Question(
            "3.q5",
            "Table 1 prints 86, 307 and 632 million parameters for Base, Large and Huge. Which one way of "
            "counting gives all three, rounded to whole millions?",
            [
                ("With a head of 1,000 classes: B/16, L/16, H/14", "That gives 87, 304 and 632 million."),
                ("Without any head: B/16, L/16, H/14", "That gives 86, 303 and 631 million."),
                (
                    "With patches of 32 for Base and Large",
                    "L/32 with a head has 306.5 million, which rounds to 307; but B/32 has 88, and 87 "
                    "without.",
                ),
                (
                    "None of these",
                    "Base fits without its head, Huge with it, Large with other patches. The paper does not "
                    "say how it counted.",
                ),
            ],
            right=3,
        ),
    ]

"""Exercise 3.2: all heads at once."""

import math

import torch

from vitlab.checks.engine import Exercise


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


EXERCISE = Exercise(
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
)

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


def _read_as(heads, width, part, order):
    """The wrong reading of the columns, with a right ending; axes are (B, T) and those three."""

    def many(qkv, num_heads):
        sizes = [(heads, num_heads), (width, qkv.shape[2] // 3 // num_heads), (part, 3)]
        axes = [size for _, size in sorted(sizes)]
        q, k, v = qkv.reshape(*qkv.shape[:2], *axes).permute(order)
        return _join(_attend(q, k, v, q.shape[-1]))

    return many


def _parts_taken(first, second, third):
    """Queries, keys and values from the parts with these numbers."""

    def many(qkv, num_heads):
        *parts, width = _split(qkv, num_heads)
        return _join(_attend(parts[first], parts[second], parts[third], width))

    return many


def _scaled(scale):
    """Scores times `scale(B, T, heads, d)`."""

    def many(qkv, num_heads):
        q, k, v, width = _split(qkv, num_heads)
        return _join(_attend(q * scale(*qkv.shape[:2], num_heads, width), k, v, 1))

    return many


def _weighted(change):
    """The values mixed by what `change` makes of the scores."""

    def many(qkv, num_heads):
        q, k, v, width = _split(qkv, num_heads)
        return _join(change(q @ k.mT / width**0.5) @ v)

    return many


def _causal(scores):
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf).softmax(dim=-1)


def _ended(end):
    """The heads' outputs, (B, heads, T, d), with another ending."""
    return lambda qkv, num_heads: end(_attend(*_split(qkv, num_heads)))


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
        (
            _read_as(heads=2, width=1, part=0, order=(2, 0, 4, 1, 3)),
            "the columns are read as (3, d, heads); one head's d columns are neighbours: (3, heads, d).",
        ),
        (
            _read_as(heads=0, width=1, part=2, order=(4, 0, 2, 1, 3)),
            "the columns are read as (heads, d, 3), the three innermost; they are outermost: (3, heads, d).",
        ),
        (
            _parts_taken(1, 2, 0),
            "the parts are taken in the order v, q, k; their order is q, k, v: values come last.",
        ),
        (
            _parts_taken(2, 0, 1),
            "the parts are taken in the order k, v, q; their order is q, k, v: values come last.",
        ),
        (
            _parts_taken(2, 1, 0),
            "the parts are taken in the order v, k, q; their order is q, k, v: values come last.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: 1 / width),
            "the scores are divided by d; it is the square root of d.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: width**0.5),
            "the scores are multiplied by the square root of d; divide by it.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: heads**-0.5),
            "the scale comes from num_heads, the number of heads; it comes from d, a head's width.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: tokens**-0.5),
            "the scale comes from T, the number of tokens; it comes from d, a head's width.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: 24**-0.5),
            "the scale is √24, the notebook's; here d = D / num_heads is another number.",
        ),
        (
            _scaled(lambda batch, tokens, heads, width: (3 * heads * width) ** -0.5),
            "the scale is the square root of 3D, all columns; a head's queries have the length d.",
        ),
        (
            _weighted(_causal),
            "the keys after the query are left out, a causal mask, as for text; every patch sees all others.",
        ),
        (
            _weighted(lambda scores: scores.flatten(2).softmax(dim=-1).view_as(scores)),
            "the softmax runs over the whole (T, T) table of a head; it runs along each row.",
        ),
        (
            _weighted(lambda scores: scores.softmax(dim=1)),
            "the softmax runs over the heads; each query's row sums to 1, along the last axis.",
        ),
        (
            _weighted(lambda scores: scores.softmax(dim=-1).mT),
            "the weights are transposed: row i of the weights, query i's, mixes the values.",
        ),
        (
            _ended(lambda mixed: _join(mixed.flip(1))),
            "the heads stand in reverse order; head 1's columns come first.",
        ),
        (_ended(lambda mixed: mixed.sum(dim=1)), "the heads are added up; they are put side by side."),
        (_ended(lambda mixed: mixed[:, 0]), "this is the first head alone; there are num_heads."),
        (_ended(lambda mixed: _join(mixed)[0]), "this is the first image alone; there are B."),
        (_ended(lambda mixed: _join(mixed).mT), "tokens and columns are swapped; the result is (B, T, D)."),
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

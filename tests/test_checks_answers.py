"""Right answers that are written differently, and how much each lesson asks.

Lesson 01's are in test_checks.py. Of every exercise the folded solution is one right answer, here is another.
"""

import ast
import inspect
import math

import notebook_tools as tools
import pytest
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from torch import nn

import vitlab
from vitlab import Recipe, checks
from vitlab.checks import engine
from vitlab.checks.asking.lessons import predictions
from vitlab.checks.engine import Exercise, FindTheFault

RIGHT = {}  # exercise -> answers


def right(id: str):
    """Put a function among the right answers to an exercise."""

    def keep(answer):
        RIGHT.setdefault(id, []).append(answer)
        return answer

    return keep


# --- 01 ----------------------------------------------------------------------------------------------------


@right("1.5")
def covered_by_a_mask(images, index, patch_size):
    rows, columns = (side // patch_size for side in images.shape[2:])
    chosen = (torch.arange(rows * columns) == index).view(rows, columns)
    mask = repeat(chosen, "r c -> (r p) (c q)", p=patch_size, q=patch_size)
    return images.masked_fill(mask, 0)


# --- 02 ----------------------------------------------------------------------------------------------------


@right("2.1")
def by_patches_and_a_matrix(images, weight, bias):
    patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=weight.shape[2], q=weight.shape[3])
    return patches @ weight.flatten(1).T + bias


@right("2.2")
def written_into_an_empty_sequence(patches, cls_token, pos_embed):
    tokens = pos_embed.repeat(len(patches), 1, 1)
    tokens[:, 0] += cls_token[0, 0]
    tokens[:, 1:] += patches
    return tokens


@right("2.3")
def cosines_one_by_one(pos_embed, grid, index):
    chosen, *others = pos_embed[0, 1 + index], *pos_embed[0, 1:]
    cosines = [torch.dot(chosen, other) / (chosen.norm() * other.norm()) for other in others]
    return torch.stack(cosines).view(*grid)


@right("2.4")
def weights_of_rows_and_columns(pos_embed, old_grid, new_grid):
    def hats(old, new):
        places = torch.linspace(0, old - 1, new, dtype=pos_embed.dtype)
        return (1 - (places[:, None] - torch.arange(old)).abs()).clamp(min=0)  # (new, old)

    table = pos_embed[0, 1:].unflatten(0, old_grid)
    rows, columns = (hats(old, new) for old, new in zip(old_grid, new_grid, strict=True))
    table = einsum(rows, columns, table, "i r, j c, r c d -> i j d")
    return torch.cat([pos_embed[0, :1], table.flatten(0, 1)])[None]


@right("2.5")
def places_counted(rows, columns, width):
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    rates = torch.logspace(0, -4, width // 4)
    angles = places[:, :, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


# --- 03 ----------------------------------------------------------------------------------------------------


@right("3.0")
def few_numbers(aim):
    """One number wide where that is enough; the keys are turned forwards, not the queries back."""
    if aim == "left":
        angle = torch.tensor(math.pi / 4)
        turn = torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]])
        zeros = torch.zeros(2, 2)
        return (
            torch.cat([zeros[:1], 6 * torch.eye(2), zeros]),
            torch.cat([zeros[:1], 6 * turn, zeros]),
        )
    if aim == "alike":
        return [[5.0], [0], [0], [0], [0]], [[5.0], [0], [0], [0], [0]]
    return torch.tensor([[0], [0], [0], [0], [7]]), torch.tensor([[0], [0], [0], [7], [0]])


@right("3.1")
def exponentials_of_what_is_left(queries, keys):
    scores = torch.einsum("...qd,...kd->...qk", queries, keys) * queries.shape[-1] ** -0.5
    return (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()


@right("3.2")
def one_head_after_the_other(qkv, num_heads):
    queries, keys, values = (part.chunk(num_heads, dim=-1) for part in qkv.chunk(3, dim=-1))
    outputs = []
    for q, k, v in zip(queries, keys, values, strict=True):
        outputs.append(F.scaled_dot_product_attention(q, k, v))
    return torch.cat(outputs, dim=-1)


@right("3.3")
def layers_in_a_loop(x, norm1, attention, norm2, mlp):
    for norm, layer in ((norm1, attention), (norm2, mlp)):
        x = layer(norm(x)) + x
    return x


@right("3.4")
def counted_in_a_model(image_size, patch_size, channels, num_classes, depth, embed_dim, mlp_dim):
    """Everything made of PyTorch's layers on the meta device, and counted."""
    tokens = 1 + math.prod(side // patch_size for side in image_size)
    with torch.device("meta"):
        parts = [nn.Conv2d(channels, embed_dim, patch_size), nn.Embedding(tokens + 1, embed_dim)]
        for _ in range(depth):
            attention = nn.Linear(embed_dim, 3 * embed_dim), nn.Linear(embed_dim, embed_dim)
            mlp = nn.Linear(embed_dim, mlp_dim), nn.Linear(mlp_dim, embed_dim)
            parts += [*attention, *mlp, nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)]
        parts += [nn.LayerNorm(embed_dim), nn.Linear(embed_dim, num_classes)]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


@right("3.5")
def joined_by_einops(qkv, num_heads):
    q, k, v = rearrange(qkv, "b t (three h d) -> three b h t d", three=3, h=num_heads)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return rearrange(weights @ v, "b h t d -> b t (h d)")


# --- 04 ----------------------------------------------------------------------------------------------------


@right("4.1")
def gradients_asked_for(model, optimizer, images, labels, clip_norm):
    parameters = list(model.parameters())
    chances = model(images).log_softmax(dim=-1)
    loss = -chances.gather(1, labels[:, None]).mean()
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient if norm <= clip_norm else gradient * clip_norm / norm
    optimizer.step()
    return loss.detach()


@right("4.2")
def the_smaller_of_two(step, steps, warmup_steps, peak):
    rising = (step + 1) / max(warmup_steps, 1)
    turn = math.pi * max(step - warmup_steps, 0) / (steps - warmup_steps)
    return peak * (rising if step < warmup_steps else 0.5 + math.cos(turn) / 2)


@right("4.2")
def cosine_in_float32(step, steps, warmup_steps, peak):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (1 + torch.cos(torch.tensor(math.pi * (step - warmup_steps) / (steps - warmup_steps)))) / 2


@right("4.5")
def by_a_table_of_tests(losses, norm_scale, tokens, head_width):
    tests = {
        "patch too large": tokens <= 5,
        "heads too thin": head_width <= 2,
        "norms decayed": norm_scale <= 0.5,
        "no warm-up": any(loss > 3 for loss in losses[:10].tolist()),
        "rate too high": losses[-10:].median() > 1.2,
    }
    return next((name for name, sick in tests.items() if sick), "healthy")


@right("4.6")
def levels_by_edges(patches):
    means = reduce(patches, "b n (c pixels) -> b n c", "mean", c=3)
    levels = torch.bucketize(means, torch.linspace(-1, 1, 9)[1:-1], right=True)
    return (levels * torch.tensor([1, 8, 64])).sum(dim=-1)


@right("4.3")
def adam_from_its_sums(gradient, mean, square, step):
    corrections = [1 - beta**step for beta in (0.9, 0.999)]
    first, second = mean.lerp(gradient, 0.1), square.lerp(gradient * gradient, 0.001)
    return first * corrections[1] ** 0.5 / (corrections[0] * second**0.5)


# --- 05 ----------------------------------------------------------------------------------------------------


@right("5.1")
def colour_by_a_broadcast(weight):
    return weight * torch.full((1, 3, 1, 1), 1 / 3, dtype=weight.dtype)


@right("5.2")
def old_names_deleted(weights, num_classes):
    new = dict(weights)
    for name in weights:
        if name.partition(".")[0] in ("head", "pre_logits"):
            del new[name]
    layer = nn.Linear(weights["norm.bias"].numel(), num_classes, dtype=weights["norm.bias"].dtype)
    for name, tensor in layer.state_dict().items():
        new[f"head.{name}"] = torch.zeros_like(tensor)
    return new


@right("5.3")
def by_pytorchs_optimizer(weights, gradients, velocities, learning_rate, clip_norm):
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)
    for parameter, gradient, velocity in zip(parameters, gradients, velocities, strict=True):
        parameter.grad = gradient.clone()
        optimizer.state[parameter]["momentum_buffer"] = velocity.clone()
    nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    moved = [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]
    return [parameter.detach() for parameter in parameters], moved


@right("5.4")
def by_singular_values(features, labels, classes, penalty):
    targets = torch.where(labels[:, None] == torch.arange(classes), 1.0, -1.0).to(features)
    u, s, vh = torch.linalg.svd(features, full_matrices=False)
    return vh.T @ torch.diag(s / (s**2 + penalty)) @ u.T @ targets


@right("5.5")
def between_first_and_last(index, old, new, corners):
    first = 0.0 if corners else 0.5 * old / new - 0.5
    last = old - 1 - first
    return first + (last - first) * index / (new - 1)


@right("5.6")
def stretched_channel_by_channel(pos_embed, old_grid, new_grid):
    table = rearrange(pos_embed[0, 1:], "(r c) d -> d r c", r=old_grid[0])
    layers = [
        F.interpolate(layer[None, None], new_grid, mode="bilinear", align_corners=True)[0, 0]
        for layer in table
    ]
    return torch.cat([pos_embed[:, :1], rearrange(layers, "d r c -> 1 (r c) d")], dim=1)


@right("5.6")
def with_what_the_package_has(pos_embed, old_grid, new_grid):
    return vitlab.resize_pos_embed(pos_embed, old_grid, new_grid)


# --- 06 ----------------------------------------------------------------------------------------------------


@right("6.1")
def row_by_einops(attention, grid_size):
    return reduce(attention[:, :, 0, 1:], "b heads (h w) -> b h w", "mean", h=grid_size[0])


@right("6.2")
def rollout_image_by_image(weights):
    results = []
    for image in range(weights.shape[1]):
        steps = []
        for layer in weights[:, image]:  # (heads, T, T)
            step = layer.max(dim=0).values + torch.eye(layer.shape[-1], dtype=layer.dtype)
            steps.insert(0, F.normalize(step, p=1, dim=1))
        results.append(torch.linalg.multi_dot(steps) if len(steps) > 1 else steps[0])
    return torch.stack(results)


@right("6.3")
def rows_divided_from_the_other_side(fused):
    with_residual = fused + torch.eye(fused.shape[1], dtype=fused.dtype)
    return (with_residual.mT / with_residual.sum(dim=2)[:, None]).mT


@right("6.4")
def head_by_head_in_one_batch(weights):
    heads, tokens = weights.shape[1], weights.shape[-1]
    left = (weights[0].sum(dim=0) - weights[0]) / (heads - 1)  # (heads, T, T)
    identity = torch.eye(tokens, dtype=weights.dtype)
    above = identity
    for layer in reversed(weights[1:].mean(dim=1)):
        above = above @ (layer + identity) / 2
    rows = above[0] @ (left + identity) / 2  # (heads, T)
    whole = above[0] @ (weights[0].mean(dim=0) + identity) / 2
    return rows[:, 1 + whole[1:].argmax()]


@right("6.5")
def distance_query_by_query(attention, grid_size, patch_size):
    rows, columns = grid_size
    y, x = (
        axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    )
    total = 0
    for query in range(rows * columns):
        steps = torch.hypot((y - y[query]).to(attention.dtype), (x - x[query]).to(attention.dtype))
        seen = attention[:, :, 1 + query, 1:]  # (B, heads, N)
        total = total + (seen @ steps) / seen.sum(dim=-1) * patch_size
    return total.mean(dim=0) / (rows * columns)


# --- 07 ----------------------------------------------------------------------------------------------------


@right("7.1")
def blocks_averaged_by_einops(picture, size):
    height, width = picture.shape[1:]
    side = min(height, width)
    square = picture.narrow(1, (height - side) // 2, side).narrow(2, (width - side) // 2, side)
    return reduce(square / 127.5 - 1, "c (h p) (w q) -> c h w", "mean", h=size, w=size)


@right("7.2")
def channel_by_channel(images, mean, std):
    channels = images.float().div(255).unbind(dim=1)
    normed = [(channel - m) / s for channel, m, s in zip(channels, mean, std, strict=True)]
    return torch.stack(normed, dim=1)


@right("7.3")
def pixels_by_weights(maps, patch_size):
    def weights(patches):
        pixels = torch.arange(patches * patch_size, dtype=maps.dtype)
        places = ((pixels + 0.5) / patch_size - 0.5).clamp(0, patches - 1)
        return (1 - (places[:, None] - torch.arange(patches)).abs()).clamp(min=0)

    rows, columns = maps.shape[1:]
    return weights(rows) @ maps @ weights(columns).T


@right("7.4")
def only_what_is_positive(attention, gradient, grid_size):
    product = attention[..., 0, 1:] * gradient[..., 0, 1:]
    kept = torch.where(product > 0, product, torch.zeros_like(product))
    return rearrange(kept, "b heads (h w) -> heads b h w", h=grid_size[0]).mean(dim=0)


# --- tests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("id", "answer"), [(id, answer) for id, answers in RIGHT.items() for answer in answers]
)
def test_a_right_answer_written_differently_is_accepted(id, answer, seed):
    exercise = engine.find(id)
    answer = (exercise.line, answer) if isinstance(exercise, FindTheFault) else answer
    verdict = checks.verdict(id, answer, seed)
    assert verdict.status == "correct", verdict


def solutions(number: str) -> dict[str, object]:
    """What the folded solutions of a lesson's notebooks define, by exercise."""
    paths = [path for path in tools.notebook_paths() if path.stem[1] == number]
    return {id: answer for path in paths for id, answer in solutions_in(tools.read(path)).items()}


def solutions_in(nb) -> dict[str, object]:
    """What a notebook's folded solutions define, by exercise: a function, a value, or a pair.

    Of the other cells only functions are defined, as a solution may call what the lesson wrote before.
    """
    names = dict(
        torch=torch,
        F=F,
        nn=nn,
        math=math,
        rearrange=rearrange,
        reduce=reduce,
        repeat=repeat,
        einsum=einsum,
        Recipe=Recipe,
    )
    called = " ".join(cell.source for cell in tools.tagged(nb, "solution"))
    for cell in nb.cells:
        if cell.cell_type == "code" and not tools.tags(cell):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef) and f"{node.name}(" in called:
                    exec(ast.get_source_segment(cell.source, node), names)
    found = {}
    for cell in tools.tagged(nb, "solution"):
        exec(tools.definitions(cell.source), names)
        call = ast.parse(cell.source).body[-1].value
        id, *answer = [eval(ast.unparse(argument), names) for argument in call.args]
        found[id] = tuple(answer) if len(answer) > 1 else answer[0]
    return found


@pytest.mark.parametrize("number", engine.LESSONS)
def test_the_folded_solution_is_accepted_and_is_another_than_those_here(number):
    found = solutions(number)
    assert sorted(found) == [exercise.id for exercise in engine.exercises(number)]
    for exercise in engine.exercises(number):
        for seed in range(3):
            verdict = checks.verdict(exercise.id, found[exercise.id], seed)
            assert verdict.status == "correct", verdict
        if number != "1" and isinstance(exercise, Exercise):  # those of lesson 1 are in test_checks.py
            solution = found[exercise.id][1] if isinstance(exercise, FindTheFault) else found[exercise.id]
            assert len(RIGHT[exercise.id]) >= 1
            assert inspect.signature(RIGHT[exercise.id][0]) == inspect.signature(solution)


def test_every_lesson_asks_enough(capsys):
    """At least four exercises and four predictions a lesson, four named wrong answers each."""
    lines = ["lesson          exercises  predictions  wrong answers, by exercise"]
    for number, name in engine.LESSONS.items():
        asking = [exercise for exercise in engine.exercises(number) if isinstance(exercise, Exercise)]
        wrong = [len({sentence for _, sentence in exercise.mistakes}) for exercise in asking]
        asked = len(predictions(number))
        lines.append(f"{number} {name:<20} {len(wrong):>2}  {asked:>11}  {wrong}")
        assert len(wrong) >= 4
        assert asked >= 4
        assert min(wrong) >= 4
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    first_six = [number for number in engine.LESSONS if number != "7"]
    assert sum(len(engine.exercises(number)) for number in first_six) >= 24
    assert sum(len(predictions(number)) for number in first_six) >= 24

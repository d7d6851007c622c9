"""The study of heads: what maps say of a head by loops, ranks by sorting, and the rows that ship."""

import itertools
from statistics import fmean

import pytest
import torch

from vitlab import ViT, ViTConfig, record_attention
from vitlab.attention import head_correlation, head_importance, importances, maps, spearman
from vitlab.attention.__main__ import main
from vitlab.attention.head_study import head_removal
from vitlab.attention.importances import IMPORTANCES
from vitlab.runtime import here
from vitlab.studies import read_results, run_study

SIZES = dict(image_size=(8, 12), patch_size=4, embed_dim=12, depth=3, num_heads=2, mlp_dim=16, num_classes=5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = ViT(ViTConfig(**SIZES)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


@pytest.fixture
def images():
    return torch.randn(3, 1, 8, 12, generator=torch.Generator().manual_seed(1))


def test_of_a_mean_the_patches_rows_count(images):
    torch.manual_seed(0)
    model = ViT(ViTConfig(**SIZES, pool="mean", num_registers=2)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with record_attention(model) as record, torch.no_grad():
        model(images)
    for layer, head in itertools.product(range(3), range(2)):
        rows = record.weights[layer, :, head, 2:]  # (B, N, T) of the patches
        shares = [float(row[2:].sum()) for image in rows for row in image]
        found = head_importance(model, images)["class_attention"][layer, head]
        assert float(found) == pytest.approx(fmean(shares), abs=1e-5)


def test_importances_by_loops(model, images, monkeypatch):
    monkeypatch.setattr(importances, "TOGETHER", 2)  # one group of two, one of one
    found = head_importance(model, images)
    sums = {name: torch.zeros(3, 2) for name in IMPORTANCES}
    for image in images:
        with record_attention(model) as record:
            logits = model(image[None])
        weights = record.weights  # (3, 1, 2, 7, 7)
        layers = [w[0] for w in weights]
        logit = logits[0, logits.argmax()]
        gradients = torch.autograd.grad(logit, record.layers[0] + record.layers[1] + record.layers[2])
        products = [(w * g[0]).detach() for w, g in zip(layers, gradients, strict=True)]
        r = torch.eye(7)[0]
        for layer in (2, 1, 0):
            added = torch.zeros(7)
            for head in range(2):
                positive = products[layer][head].clamp(min=0)
                sums["attention_gradient"][layer, head] += positive.sum()
                sums["head_slope"][layer, head] += products[layer][head].sum().abs()
                sums["relevance"][layer, head] += (r @ positive).sum() / 2
                added += r @ positive / 2
            r = r + added
        torch.testing.assert_close(r[1:], maps.relevance(model, image[None])[0].flatten())
        whole = rolled([w.detach().mean(0) for w in layers])
        for layer, head in itertools.product(range(3), range(2)):
            fused = [w.detach().mean(0) for w in layers]
            fused[layer] = layers[layer][1 - head].detach()
            moved = rolled(fused)
            sums["rollout"][layer, head] += (moved / moved.sum() - whole / whole.sum()).abs().sum() / 2
            row = layers[layer][head].detach()
            sums["class_attention"][layer, head] += row[0, 1:].sum()
            for q, k in itertools.product(range(6), range(6)):
                apart = ((q // 3 - k // 3) ** 2 + (q % 3 - k % 3) ** 2) ** 0.5 * 4
                sums["attention_distance"][layer, head] += row[1 + q, 1 + k] * apart / 6
    for name in IMPORTANCES:
        torch.testing.assert_close(found[name], sums[name] / 3, atol=1e-4, rtol=1e-4)


def rolled(fused):
    joint = torch.eye(7)
    for each in fused:
        joint = (each + torch.eye(7)) / 2 @ joint
    return joint[0, 1:]


def test_spearman_as_scipy_has_it():
    stats = pytest.importorskip("scipy.stats")
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        one, other = torch.randint(0, 6, (2, 9), generator=draw).double()
        assert float(spearman(one, other)) == pytest.approx(stats.spearmanr(one, other).statistic)


def rows_of(truth):
    """Two layers of three heads in each of three models."""
    return [
        dict(seed=s, layer=i, head=h, a=truth(i, h), b=10 * i + h, status="done")
        for s, i, h in itertools.product(range(3), range(2), range(3))
    ]


def test_within_layers_says_nothing_of_layers():
    rows = rows_of(lambda layer, head: 10 * layer - head)
    assert head_correlation(rows, "a", "b", permutations=200).mean > 0.5
    within = head_correlation(rows, "a", "b", within_layers=True, permutations=200)
    assert (within.mean, within.lowest, within.highest, within.models) == (-1, -1, -1, 3)


def test_chance_is_that_of_all_permutations():
    """Of two models with two heads each: the mean is 1, 0, 0 or -1, all alike."""
    rows = [dict(seed=s, layer=0, a=h, b=h, status="done") for s in range(2) for h in range(2)]
    found = head_correlation(rows, "a", "b", permutations=4000)
    assert found.mean == 1
    assert found.p == pytest.approx(0.5, abs=0.03)
    assert (found.chance_low, found.chance_high) == (-1, 1)


def test_wrong_columns_and_too_few_models():
    rows = rows_of(lambda layer, head: head)
    with pytest.raises(ValueError, match="the columns are seed, .*; got 'x'"):
        head_correlation(rows, "x", "b")
    with pytest.raises(ValueError, match="at least 2 models; got 1"):
        head_correlation(rows[:6], "a", "b")


def test_a_small_part_made_live(tmp_path):
    study = head_removal(seeds=[3], steps=2, map_images=4, test_images=50)
    only = dict(layer=[0, 3], head=1)
    rows = run_study(study, tmp_path / "rows.csv", here("cpu", "fp32"), only, progress=False)
    assert [(row["layer"], row["head"], row["status"]) for row in rows] == [(0, 1, "done"), (3, 1, "done")]
    assert {*IMPORTANCES, "random", "loss_increase", "accuracy_lost"} <= rows[0].keys()


def test_the_command_names_a_misspelt_setting_before_it_trains(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["heads", "--folder", str(tmp_path), "--only", "seed=77"])
    assert "in study head_removal, seed is one of 0, 1, 2" in capsys.readouterr().err


def test_what_ships_is_whole_and_answers():
    """Every head of every model once; models differ; correlations by sorting are those of the function."""
    rows = read_results("head_removal")
    study = head_removal()
    assert [(r["seed"], r["layer"], r["head"]) for r in rows] == [
        (r["seed"], r["layer"], r["head"]) for r in study.runs
    ]
    assert all(row["status"] == "done" and "+" not in row["commit"] for row in rows)
    assert len({row["test_loss"] for row in rows}) == len({row["seed"] for row in rows}) >= 3
    own = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        places = [
            {id(row): place for place, row in enumerate(sorted(mine, key=lambda row: row[name]))}
            for name in ("head_slope", "loss_increase")
        ]
        squares = sum((places[0][id(row)] - places[1][id(row)]) ** 2 for row in mine)
        own.append(1 - 6 * squares / (len(mine) * (len(mine) ** 2 - 1)))
    found = head_correlation(rows, "head_slope", permutations=100)
    assert found.mean == pytest.approx(fmean(own), abs=1e-3)
    assert (found.lowest, found.highest) == pytest.approx((min(own), max(own)), abs=1e-3)

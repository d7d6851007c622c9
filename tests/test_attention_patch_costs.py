"""The cost of attention as patches get smaller: bytes by the formula, the power by another fit."""

import numpy as np
import torch

from vitlab.attention import costs


def test_bytes_are_those_of_the_formula_and_threads_are_given_back(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0)
    threads = torch.get_num_threads()
    found = costs.patch_costs(torch.zeros(1, 3, 24, 24), [12, 6, 4], embed_dim=32)
    N = [4, 16, 36]
    assert found["N"].tolist() == N
    assert found["weight_bytes"].tolist() == [4 * n * n * 4 for n in N]
    assert found["token_bytes"].tolist() == [n * 32 * 4 for n in N]
    assert all((found[name] > 0).all() for name in ("attention_seconds", "linear_seconds"))
    assert torch.get_num_threads() == threads


def test_the_power_is_that_of_a_line_fitted_to_the_logarithms():
    x = torch.tensor([1.0, 3, 10, 40], dtype=torch.float64)
    y = torch.tensor([2.0, 5, 90, 700], dtype=torch.float64)
    np.testing.assert_allclose(costs.power(x, y), np.polyfit(np.log(x), np.log(y), 1)[0])
    np.testing.assert_allclose(costs.power(x, y, above=2), np.polyfit(np.log(x[1:]), np.log(y[1:]), 1)[0])

"""The benchmark compares equal models, and its arithmetic is right."""

import subprocess
import sys

import attention
import bench
import peers
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitlab import ViTConfig
from vitlab.vit import count_flops

MODULES = {
    "vit-pytorch": "vit_pytorch",
    "hugging face": "transformers",
}  # the tests' own extra has the others
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_does_the_same_matrix_products(name):
    pytest.importorskip(MODULES.get(name, name.replace(" ", "_")))
    config = ViTConfig(8, 4, in_chans=3, embed_dim=64, depth=2, num_heads=2, mlp_dim=96)
    model = peers.PEERS[name](config)
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):  # fused ones are not counted
        logits = model(torch.zeros(5, 3, 8, 8))
    assert logits.shape == (5, 10)
    assert counter.get_total_flops() == 5 * count_flops(config)


def test_another_model_is_no_peer(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", {"timm": lambda config: torch.nn.Linear(100, 100)})
    with pytest.raises(AssertionError, match="timm has 10,100 parameters, ours"):
        peers.differences(ViTConfig())


def test_speed_is_the_median_of_the_rounds(monkeypatch):
    speeds = {("vitlab", "bf16"): iter([7.0, 9.0, 8.0]), ("timm", "fp32"): iter([1.0, 100.0, 2.0])}

    class Library:
        def __init__(self, name):
            self.name = name

        def ask(self, function, *arguments):
            if function is bench.prepare:
                return [way for library, way in speeds if library == self.name]
            return next(speeds[self.name, arguments[0]])

    measured = bench.measure([Library("vitlab"), Library("timm")], "a", "training", 0, CPU)
    assert measured == {("vitlab", "bf16"): 8.0, ("timm", "fp32"): 2.0}


def test_a_turn_is_long_enough_and_counts_every_run(monkeypatch):
    seconds = iter([9.0, 0.1] * 2 + [0.25])  # of warm-up and of one run, in both ways; then of a turn
    monkeypatch.setattr(bench, "take_turn", lambda contender, device: next(seconds))
    assert bench.prepare("vitlab", "a", "forward", CPU) == ["fp32", "bf16"]
    assert bench.READY["bf16"].repeats == 2  # of 0.1 s each, for turns of 0.15 s
    assert bench.turn("bf16", CPU) == 2 * peers.CASES["a"].batch_size / 0.25


def test_a_turn_runs_what_it_times():
    calls = []
    contender = bench.Contender(lambda: calls.append(torch.ones(1000).sum()), amount=1, repeats=3)
    assert bench.take_turn(contender, CPU) > 0
    assert len(calls) == 3


def test_ratios_compare_the_best_with_the_best():
    speeds = {("vitlab", "fp32"): 3, ("vitlab", "bf16"): 6, ("timm", "fp32"): 2, ("timm", "bf16"): 1}
    speeds["vit-pytorch", "bf16 eager"] = 4
    rows = [bench.Speed("a", "training", *key, speed, 0.5) for key, speed in speeds.items()]
    assert bench.ratios(rows) == (6 / 4, 6 / 2)


def test_the_summary_has_geometric_means():
    found = {("training", "a"): (1.0, 2.0), ("training", "b"): (4.0, 8.0), ("forward", "a"): (1.1, 1.2)}
    assert "| training | geometric mean | 2.00 | 4.00 |" in bench.summary(found)
    assert "| forward | geometric mean | 1.10 | 1.20 |" in bench.summary(found)


def test_a_step_of_a_peer_is_one_of_adamw():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    images, labels = torch.randn(6, 1, 2, 2), torch.randint(3, (6,))
    before = model[1].weight.clone()
    bench.peer_step(model, images, labels, bench.Run(CPU, "fp32"))()
    moved = (model[1].weight - before).abs()  # Adam's first step moves every weight by the learning rate
    torch.testing.assert_close(moved, torch.full_like(moved, bench.LEARNING_RATE), rtol=0.05, atol=0)


# ------------------------------------------------------------------------------------- maps of attention


@pytest.fixture
def tiny(monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr(attention, "VARIANT", "Ti/16")
    return attention.make("timm", 32), torch.randn(2, 3, 32, 32)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    seconds = {"map": [2.0, 9.0, 3.0], "pass": [1.0, 1.0, 3.0]}
    assert attention.ratio(seconds, "map", "pass") == 2.0


def test_the_first_turn_does_not_count(monkeypatch):
    turns = []
    seconds = attention.rounds_of({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 2)
    assert turns == ["a", "b"] * 3  # turn by turn
    assert [len(each) for each in seconds.values()] == [2, 2]


def test_everything_that_is_measured_runs(tiny):
    own = attention.make("vitlab", 32)
    for model, name in ((own, "vitlab"), (tiny[0], "timm")):
        for what in attention.contenders(name):
            attention.prepare(what, model, tiny[1])()
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_definition_is_our_rollout(tiny):
    model, images = tiny
    made = attention.prepare("rollout", model, images)()
    for image, map_ in zip(images, made, strict=True):
        wanted = attention.definition(model, image)
        torch.testing.assert_close(map_.flatten().double(), wanted, atol=1e-6, rtol=0)
        assert wanted.std() > 1e-3


def test_we_are_compared_at_the_same_settings():
    seconds = {attention.strict("torchxai-explain"): [1.0], "torchxai-explain, by default": [3.0]}
    assert attention.faster(seconds) == ["3.00 times as fast as torchxai-explain, by default"]
    assert attention.strict("torchxai-explain") == "rollout, max, 90% discarded"


def test_peaks_are_those_of_fresh_processes(tmp_path):
    held = torch.ones(100_000_000)  # of this process, not of the one that is started
    code = f"import sys; sys.path[:0] = {sys.path!r}; import attention; print(attention.peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < attention.peak_bytes() - held.nbytes / 2

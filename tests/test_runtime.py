"""Device, precision, seed and quick mode: chosen once, shown, and overridable."""

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import vitlab
from vitlab import runtime


def test_the_seed_makes_runs_equal():
    draws = []
    for seed in (1, 1, 2):
        vitlab.start(seed=seed, precision="fp32")
        draws.append(torch.randn(5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_only_start_touches_the_seed():
    """Importing, measuring the precision and evaluating leave PyTorch's random state as it was."""
    code = """
        import torch
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        import vitlab
        from vitlab import *
        with torch.inference_mode():
            vitlab.runtime.here()
        assert torch.equal(torch.random.get_rng_state(), before)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_freed_memory_is_not_asked_for_again():
    """Page faults of tensors made and freed over and over: as the process begins, and after `here`."""
    code = """
        import resource, torch
        from vitlab.runtime import here

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                tensors = [torch.ones(5_000_000) for _ in range(4)]
                del tensors
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        first = faults()
        here("cpu", "fp32")
        faults()  # the memory that is kept from now on
        print(first, faults())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, after = map(int, out.split())
    assert before > 1_000
    assert after < before / 20


def large_pages_are_to_be_had() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return platform.libc_ver()[0] == "glibc" and setting.exists() and "[never]" not in setting.read_text()


@pytest.mark.skipif(not large_pages_are_to_be_had(), reason="this system has no large pages, or no glibc")
def test_large_pages_are_asked_for_where_tensors_lie():
    """How many the system then gives depends on what else runs, so that is not counted."""
    code = """
        import re, torch
        from vitlab.runtime import here

        here("cpu", "fp32")
        tensors = [torch.ones(5_000_000) for _ in range(8)]  # 160 MB
        areas = re.split(r"^(?=[0-9a-f]+-)", open("/proc/self/smaps").read(), flags=re.MULTILINE)[1:]
        for tensor in tensors:
            for area in areas:
                begin, end = (int(address, 16) for address in area.split()[0].split("-"))
                if begin <= tensor.data_ptr() < end:
                    print("hg" in re.search(r"VmFlags:(.*)", area)[1].split())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.split() == ["True"] * 8


@pytest.mark.parametrize(
    ("asked", "environment", "quick"),
    [(False, None, False), (True, None, True), (False, "1", True), (False, "0", False)],
)
def test_quick_mode_by_parameter_or_environment(monkeypatch, asked, environment, quick):
    monkeypatch.delenv("VITLAB_QUICK", raising=False)
    if environment is not None:
        monkeypatch.setenv("VITLAB_QUICK", environment)
    run = vitlab.start(quick=asked, device="cpu", precision="fp32")
    assert run.quick is quick
    assert run.size(full=100, quick=3) == (3 if quick else 100)
    assert ("quick mode" in repr(run)) is quick


@pytest.mark.parametrize(("hardware_bf16", "wanted"), [(True, "bf16"), (False, "fp16")])
def test_cuda_precision_asks_for_real_bf16(monkeypatch, hardware_bf16, wanted):
    """A T4 says that it supports bf16 when emulation counts; then it must get fp16."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or hardware_bf16
    )
    assert runtime.pick_precision(torch.device("cuda")) == wanted


@pytest.mark.parametrize(("speedup", "wanted"), [(0.7, "fp32"), (1.0, "fp32"), (2.5, "bf16")])
def test_cpu_precision_follows_the_measurement(monkeypatch, speedup, wanted):
    monkeypatch.setattr(runtime, "bf16_speedup", lambda: speedup)
    assert vitlab.start(device="cpu").precision == wanted


def test_the_measurement_is_a_ratio_of_times(monkeypatch):
    seconds = {False: 0.4, True: 0.1}
    monkeypatch.setattr(runtime, "pass_seconds", lambda layer, x, bf16: seconds[bf16])
    assert runtime.bf16_speedup.__wrapped__() == pytest.approx(4.0)


def test_autocast_is_the_precision():
    product = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with vitlab.start(device="cpu", precision=precision).autocast():
            assert (product @ product).dtype == dtype


def test_the_choice_is_shown():
    shown = repr(vitlab.start(device="cpu", precision="bf16", seed=7))
    for part in ("CPU", "bf16", "seed 7", torch.__version__):
        assert part in shown


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="fp32, bf16, fp16; got 'int8'"):
        vitlab.start(device="cpu", precision="int8")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device.*device='cpu'"):
            vitlab.start(device="cuda")


def test_a_device_that_nobody_has_heard_of():
    with pytest.raises(ValueError, match="device is 'cpu', 'cuda' or 'mps'; got 'tpu'"):
        vitlab.start(device="tpu")


@pytest.mark.parametrize("device", ["meta", "xpu", 1.5, "nonsense"])
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="device is 'cpu', 'cuda' or 'mps'"):
        vitlab.runtime.here(device, "fp32")


def test_one_thread_is_one():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert "CPU, 1 thread, fp32" in repr(vitlab.start(device="cpu", precision="fp32"))
        torch.set_num_threads(2)
        assert "CPU, 2 threads, fp32" in repr(vitlab.start(device="cpu", precision="fp32"))
    finally:
        torch.set_num_threads(threads)

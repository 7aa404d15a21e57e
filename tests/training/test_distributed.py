"""Two processes with half of each batch against one process with whole batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from midframe.training.distributed import World
from midframe.training.train.run_folder import read_log
from runs import equal_values, write_small_vgg

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes in the folder `two`, and those of one process in `one`."""
    folder = tmp_path_factory.mktemp("processes")
    write_small_vgg(folder / "vgg.pth")
    python_path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for out, launch in (("two", launcher), ("one", [])):
        (folder / out).mkdir()
        program = [sys.executable, *launch, str(HERE / "two_processes.py"), str(folder), out]
        ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=500)
        assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize("name", ["guided", "paper"])
def test_first_gradients_of_two_processes_are_those_of_one(folder: Path, name: str) -> None:
    expected = torch.load(folder / "one" / f"{name}-0.pt")
    assert len(expected) == (2 if name == "paper" else 1)  # the generator, and the discriminator of paper
    ranks = [torch.load(folder / "two" / f"{name}-{rank}.pt") for rank in range(2)]
    assert equal_values(ranks[0], ranks[1])
    for found_gradients, expected_gradients in zip(ranks[0], expected, strict=True):
        assert any(gradient is not None and gradient.any() for gradient in expected_gradients)
        for gradient, wanted in zip(found_gradients, expected_gradients, strict=True):
            assert (gradient is None) == (wanted is None)
            if wanted is not None:
                assert wanted.dtype == torch.float64
                assert (gradient - wanted).norm() <= 1e-9 * wanted.norm() + 1e-15


@pytest.mark.parametrize("name", ["guided", "paper"])
def test_losses_of_twenty_steps_in_float32_are_close(folder: Path, name: str) -> None:
    two, one = ([line for line in read_log(folder / out / name) if line["kind"] == "train"] for out in ("two", "one"))
    assert len(one) == len(two) == 20
    assert [line["samples"] for line in two] == [line["samples"] for line in one] == list(range(4, 81, 4))
    assert [line["total"] for line in two] == pytest.approx([line["total"] for line in one], rel=2e-3)
    if name == "paper":
        discriminator_losses = [[line["discriminator"] for line in lines] for lines in (two, one)]
        assert discriminator_losses[0] == pytest.approx(discriminator_losses[1], rel=2e-3)
    weights = [load_file(folder / out / name / "weights.safetensors") for out in ("two", "one")]
    torch.testing.assert_close(weights[0], weights[1], atol=5e-3, rtol=0)


def test_a_single_process_exchanges_nothing() -> None:
    world, tensors = World(), [torch.rand(3), torch.rand(2, 2)]
    assert equal_values(world.all_reduce_mean(tensors), tensors)
    assert world.broadcast(0.1) == 0.1
    assert world.any(True)
    assert not world.any(False)
    assert world.is_main

"""Two processes against one that has all of the batch."""

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
from runs import same, small_vgg

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`two` holds what two processes did, `one` what one did."""
    made = tmp_path_factory.mktemp("processes")
    small_vgg(made / "vgg.pth")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    for out, start in (("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]), ("one", [])):
        (made / out).mkdir()
        program = [sys.executable, *start, str(HERE / "two_processes.py"), str(made), out]
        ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=500)
        assert ended.returncode == 0, ended.stderr
    return made


@pytest.mark.parametrize("name", ["guided", "paper"])
def test_first_gradients_of_two_processes_are_those_of_one(folder: Path, name: str) -> None:
    wanted = torch.load(folder / "one" / f"{name}-0.pt")
    assert len(wanted) == (2 if name == "paper" else 1)  # of each player
    ranks = [torch.load(folder / "two" / f"{name}-{rank}.pt") for rank in range(2)]
    assert same(ranks[0], ranks[1])
    for found, player in zip(ranks[0], wanted, strict=True):
        assert any(gradient is not None and gradient.any() for gradient in player)
        for one, other in zip(found, player, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert other.dtype == torch.float64
                assert (one - other).norm() <= 1e-9 * other.norm() + 1e-15


@pytest.mark.parametrize("name", ["guided", "paper"])
def test_twenty_losses_in_float32_are_close(folder: Path, name: str) -> None:
    two, one = ([line for line in read_log(folder / out / name) if line["kind"] == "train"] for out in ("two", "one"))
    assert len(one) == len(two) == 20
    assert [line["samples"] for line in two] == [line["samples"] for line in one] == list(range(4, 81, 4))
    assert [line["total"] for line in two] == pytest.approx([line["total"] for line in one], rel=2e-3)
    if name == "paper":
        judged = [[line["discriminator"] for line in lines] for lines in (two, one)]
        assert judged[0] == pytest.approx(judged[1], rel=2e-3)
    made = [load_file(folder / out / name / "weights.safetensors") for out in ("two", "one")]
    torch.testing.assert_close(made[0], made[1], atol=5e-3, rtol=0)


def test_a_process_alone_agrees_with_itself() -> None:
    world, tensors = World(), [torch.rand(3), torch.rand(2, 2)]
    assert same(world.mean(tensors), tensors)
    assert world.share(0.1) == 0.1
    assert world.any(True)
    assert not world.any(False)
    assert world.leads

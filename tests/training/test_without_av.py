"""Training where PyAV is not installed: only the data set builder decodes films."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from process import parse_json_object, run_midframe
from runs import SMALL, write_shards

WITHOUT_AV = "import sys\nsys.modules['av'] = None\n"
"""Python code after which `import av` raises `ImportError`, as if PyAV were not installed."""

WITHOUT_HALIDE = "sys.modules['halide'] = None\n"
"""The same for Halide, so that the test does not wait for its compiler."""


def test_midframe_train_runs_without_av(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_shards(tmp_path / "data")
    network_settings = [f"network_settings.{name}={value}" for name, value in SMALL.items()]
    settings = ("batch_size=2", "data.crop_size=32", *network_settings)
    options = [option for setting in settings for option in ("--set", setting)]
    out = tmp_path / "run"
    arguments = ("train", "guided", "--data", tmp_path / "data", "--out", out, "--device", "cpu", "--samples", "2")
    done = run_midframe(*arguments, *options, "--json", "--quiet", patch=WITHOUT_AV + WITHOUT_HALIDE, timeout=300)
    assert done.returncode == 0, done.stderr
    assert parse_json_object(done.stdout)["ok"] is True
    assert (out / "weights.safetensors").is_file()


def test_only_the_builder_imports_video() -> None:
    rooms = ("config", "distributed", "data.samples", "data.loader", "data.dataset", "synthetic.sample", "train.loop")
    imports = "".join(f"import midframe.training.{room}\n" for room in rooms)
    program = f"{WITHOUT_AV}{imports}print(sorted(name for name in sys.modules if name.startswith('midframe.video')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

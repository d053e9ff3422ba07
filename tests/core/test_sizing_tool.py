"""`make sizing`: from a config.json to the resource."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from e2e.sizing import main, shape_of

if TYPE_CHECKING:
    from pathlib import Path

LLAMA: dict[str, Any] = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (LLAMA, {"layers": 32, "heads": 8, "headDim": 128}),
        (LLAMA | {"head_dim": 64, "dtype": "float16"}, {"layers": 32, "heads": 8, "headDim": 64, "dtype": "float16"}),
        ({"text_config": LLAMA, "model_type": "vlm"}, {"layers": 32, "heads": 8, "headDim": 128}),
        (
            {"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_attention_heads": 128},
            {"layers": 61, "heads": 1, "headDim": 576, "planes": 1},
        ),
        (
            {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768},
            {"layers": 12, "heads": 12, "headDim": 64},
        ),
    ],
)
def test_the_shape_of_kv_is_read_from_a_models_config(config: dict[str, Any], shape: dict[str, Any]) -> None:
    assert shape_of(config) == shape


def test_it_prints_the_arithmetic_and_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    main([str(tmp_path), "--tokens", "2M", "--topology", "PerEngine", "--replicas", "4", "--valkey"])
    out = capsys.readouterr().out

    assert "131,072 bytes" in out
    resource = yaml.safe_load(out.partition("For the resource:\n")[2].partition("How long")[0])["spec"]
    assert resource["model"]["kv"] == {"layers": 32, "heads": 8, "headDim": 128, "planes": 2, "dtype": "bfloat16"}
    assert resource["cache"] == {
        "topology": "PerEngine",
        "capacity": {"tokens": "2M"},
        "l2": {"valkey": {"managed": {}}},
    }
    assert "244.14 GiB" in out


def test_what_the_longest_prompt_takes_is_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    main([str(tmp_path), "--tokens", "20k"])
    assert "give --max-model-len" in " ".join(capsys.readouterr().out.split())

    with pytest.raises(SystemExit, match="fewer than one prompt"):
        main([str(tmp_path), "--tokens", "20k", "--max-model-len", "131072"])
    main([str(tmp_path), "--tokens", "140k", "--max-model-len", "131072"])
    out = capsys.readouterr().out
    assert "room for the longest prompt" in " ".join(out.replace("│", " ").split())
    assert "maxModelLen: 131072" in out


@pytest.mark.parametrize(
    ("config", "flags", "said"),
    [
        ({}, (), "has no 'num_hidden_layers': give the config.json of a model that generates text"),
        (LLAMA, ("--tokens", "20q"), "'20q' is no quantity"),
        (LLAMA, ("--fp8",), "give --valkey, too"),
    ],
)
def test_what_can_not_be_read_is_told_by_name(
    tmp_path: Path, config: dict[str, Any], flags: tuple[str, ...], said: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(SystemExit, match=re.escape(said)):
        main([str(tmp_path), *flags])

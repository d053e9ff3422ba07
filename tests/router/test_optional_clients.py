"""Clients that are too heavy for the development environment: `make clients` installs them and runs this."""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import httpx
import pytest

from tests.router.conftest import StackMaker

MESSAGES = [("system", "be brief"), ("user", "hello")]


async def test_langchain_works_unchanged(make_stack: StackMaker) -> None:
    langchain = pytest.importorskip("langchain_openai", exc_type=ImportError)
    stack = await make_stack(2)
    url = f"http://127.0.0.1:{stack.router.port}/v1"
    async with httpx.AsyncClient(trust_env=False) as http:
        model = langchain.ChatOpenAI(
            base_url=url, api_key="none", model="fake", max_retries=0, http_async_client=http, stream_usage=True
        )
        whole = await model.ainvoke(MESSAGES)
        pieces = [piece async for piece in model.astream(MESSAGES)]

    assert whole.content == "word " * 16
    assert "".join(piece.content for piece in pieces) == "".join(f"word{number} " for number in range(16))
    assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) == 16


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Make a tokenizer with a token for each byte, so that none needs to be downloaded."""
    tokenizers = pytest.importorskip("tokenizers", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[])
    bytewise = tokenizers.Tokenizer(model)
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=bytewise).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.timeout(200)
@pytest.mark.skipif(importlib.util.find_spec("aiperf") is None, reason="aiperf is not installed")
@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])
async def test_aiperf_works_unchanged(
    make_stack: StackMaker, tokenizer: Path, tmp_path: Path, *, streaming: bool
) -> None:
    stack = await make_stack(2)
    command = [str(Path(sys.executable).with_name("aiperf")), "profile", "--model", "fake", "--endpoint-type", "chat"]
    command += ["--url", f"http://127.0.0.1:{stack.router.port}", "--tokenizer", str(tokenizer), "--ui", "none"]
    command += ["--request-count", "40", "--concurrency", "4", "--isl", "200", "--osl", "8"]
    command += ["--artifact-dir", str(tmp_path), *(["--streaming"] if streaming else [])]
    process = await asyncio.create_subprocess_exec(*command)
    async with asyncio.timeout(100):
        assert await process.wait() == 0
    (report,) = tmp_path.rglob("profile_export_aiperf.json")  # noqa: ASYNC240

    assert json.loads(report.read_text())["request_count"]["avg"] == 40
    assert sum(len(served.engine.requests) for served in stack.engines) >= 40

"""Real clients, unchanged."""

import openai
import pytest

from tests.router.conftest import StackMaker


async def test_the_openai_client_works_unchanged(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    url = f"http://127.0.0.1:{stack.router.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hello"}])
        stream = await client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=4,
        )
        pieces = [piece async for piece in stream]
        text = await client.completions.create(model="fake", prompt="hello", max_tokens=2)
        models = [model.id async for model in client.models.list()]

    assert whole.choices[0].message.content == "word " * 16
    assert [piece.choices[0].delta.content for piece in pieces[:-1]] == ["word0 ", "word1 ", "word2 ", "word3 "]
    assert pieces[-1].usage is not None
    assert text.choices[0].text == "word word "
    assert models == ["fake"]


async def test_the_openai_client_sees_errors_as_its_own(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    await stack.engines[0].stop()
    url = f"http://127.0.0.1:{stack.router.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.completions.create(model="fake", prompt="hello")

    assert (caught.value.status_code, caught.value.code) == (503, "no_engine")

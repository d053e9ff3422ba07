"""TLS and API keys of the public port."""

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from llmcache_runtime.router.auth import ApiKeys
from llmcache_runtime.router.errors import RouterError
from llmcache_runtime.router.tls import Certificate
from tests.certificates import write_certificate
from tests.router.conftest import StackMaker, chat, events, until

CHAT = "/v1/chat/completions"


async def common_name(port: int) -> str:
    """Connect and read the name in the server's certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def test_streams_pass_over_tls_and_a_new_certificate_is_taken_up(make_stack: StackMaker, tmp_path: Path) -> None:
    stack = await make_stack(1, tls=write_certificate(tmp_path, "old"))
    stack.engines[0].engine.speeds.prefill = 1e9
    url = f"https://127.0.0.1:{stack.router.port}{CHAT}"
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=20) as client:  # noqa: S501 (self-signed)
        answer = await client.post(url, json=chat(stream=True))
        large = await client.post(url, json=chat("x" * 2_000_000))
    before = await common_name(stack.router.port)
    certificate = stack.router._certificate
    assert certificate is not None
    seen = certificate._seen
    write_certificate(tmp_path, "new")
    await until(lambda: certificate._seen != seen)

    assert events(answer.text)[-1] == "[DONE]"
    assert large.status_code == 200
    assert before == "CN=old"
    assert await common_name(stack.router.port) == "CN=new"


async def test_a_broken_certificate_leaves_the_last_one_in_use(tmp_path: Path) -> None:
    certificate = Certificate(*write_certificate(tmp_path, "old"))
    (tmp_path / "tls.crt").write_text("broken")
    task = asyncio.create_task(certificate.follow(0.01))
    await asyncio.wait([task], timeout=0.1)

    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_a_certificate_is_followed_as_kubelet_swaps_it(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        write_certificate(tmp_path / name, name)
    data = tmp_path / "..data"
    data.symlink_to("old")
    for file in ("tls.crt", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    certificate = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    task = asyncio.create_task(certificate.follow(0.01))
    (tmp_path / "..data_tmp").symlink_to("new")
    (tmp_path / "..data_tmp").rename(data)
    await until(lambda: certificate._seen[0] == (tmp_path / "new" / "tls.crt").read_bytes())
    task.cancel()
    await asyncio.wait([task])


async def test_a_certificate_without_its_key_leaves_the_last_one_in_use(make_stack: StackMaker, tmp_path: Path) -> None:
    stack = await make_stack(1, tls=write_certificate(tmp_path, "old"))
    key = (tmp_path / "tls.key").read_bytes()
    write_certificate(tmp_path, "new")
    (tmp_path / "tls.key").write_bytes(key)
    assert stack.router._certificate is not None
    with pytest.raises(ssl.SSLError):
        stack.router._certificate._load()

    assert await common_name(stack.router.port) == "CN=old"


async def test_only_clients_with_a_key_are_served_and_engines_never_see_it(
    make_stack: StackMaker, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# clients\nfirst\n\nsecond\n")
    stack = await make_stack(1, api_keys=keys)
    attempts = {
        None: 401,
        "Bearer wrong": 401,
        "Bearer": 401,
        "Basic first": 401,
        "Bearer # clients": 401,
        "Bearer first": 200,
        "bearer second": 200,
    }
    for path in (CHAT, "/v1/models"):
        for header, status in attempts.items():
            headers = {} if header is None else {"authorization": header}
            method, body = ("POST", chat()) if path == CHAT else ("GET", None)
            answer = await stack.client.request(method, path, json=body, headers=headers)

            assert (path, header, answer.status_code) == (path, header, status)
    assert not any("authorization" in head for head in stack.engines[0].engine.heads)
    assert (await stack.client.get("/health")).status_code == 200


async def test_keys_are_read_again_and_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("old\n")
    keys = ApiKeys(path)
    task = asyncio.create_task(keys.follow(0.01))

    def opens(key: bytes) -> bool:
        try:
            keys.check(b"Bearer " + key)
        except RouterError:
            return False
        return True

    path.write_text("new\n")
    await until(lambda: opens(b"new") and not opens(b"old"))
    path.write_text("")
    await asyncio.wait([task], timeout=0.05)
    path.unlink()
    await asyncio.wait([task], timeout=0.05)

    assert opens(b"new")
    task.cancel()
    await asyncio.wait([task])


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# none\n")
    with pytest.raises(ValueError, match="holds no key"):
        ApiKeys(path)

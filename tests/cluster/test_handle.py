import json
from pathlib import Path

import pytest

from e2e.cluster import slots
from e2e.cluster.errors import ClusterError
from e2e.cluster.handle import Existing, Local


@pytest.fixture
def local(home: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    assert home.exists()
    monkeypatch.setattr(slots, "_routed", list)
    slots.claim("c").audit_log.parent.mkdir()
    return Local("c")


def test_the_audit_log_holds_completed_writes_in_their_order(local: Local) -> None:
    stages = ("ResponseStarted", "ResponseComplete", "ResponseComplete")
    events = [{"stage": stage, "auditID": str(number)} for number, stage in enumerate(stages)]
    slots.get("c").audit_log.write_text("".join(json.dumps(event) + "\n" for event in events))

    assert local.audit_log() == events[1:]


def test_an_image_that_was_never_built_is_named(local: Local) -> None:
    with pytest.raises(ClusterError, match=r"localhost/llmcache/x:1; `make images`"):
        local.load_images(["localhost/llmcache/x:1"])


def test_an_existing_cluster_has_no_audit_log_to_read(tmp_path: Path) -> None:
    assert Existing(tmp_path / "kubeconfig").audit_log() is None

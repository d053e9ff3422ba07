"""Logs as JSON, one object a line, so that they can be filtered by service.

Always there: time, level, logger, message. Where they apply: namespace, name, uid, generation, and a
traceback for what only a bug can cause.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

OURS = "llmcache_operator"
FIELDS = ("namespace", "name", "uid", "generation")


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        about = getattr(record, "about", {})
        line.update({field: about[field] for field in FIELDS if about.get(field) is not None})
        # Libraries log tracebacks for everyday trouble, such as an API server that is away.
        if record.exc_info and record.name.startswith(OURS):
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def set_up(level: str) -> None:
    """Send everything to stderr as JSON; of kopf only what a person should act on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("kopf", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

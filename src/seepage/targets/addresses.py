"""Where questions go and with what headers: addresses that can be shown, secrets that cannot."""

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from seepage.core.errors import ConfigError

_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|signature", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"key|token|secret|password|signature|^sig$|^code$", re.IGNORECASE)
_FROM_ENVIRONMENT = re.compile(r"(?:^|(?<= ))env:([A-Za-z_][A-Za-z0-9_]*)$")
_MODEL_PATH = re.compile(r"^(.*/v2/models/[^/]+(?:/versions/[^/]+)?)(?:/infer)?/?$")


def shown(url: str) -> str:
    """A URL without its parameters."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"a URL like https://host/path was wanted, got {url!r}: {error}") from error
    if not usable:
        raise ConfigError(f"a URL like https://host/path was wanted, got {url!r}")
    if parts.username or parts.password:
        raise ConfigError("a URL must not hold a password, it is written into records: use headers with env:NAME")
    secret = [name for name, _ in parse_qsl(parts.query) if _SECRET_QUERY.search(name)]
    if secret:
        raise ConfigError(
            f"the URL's parameter '{secret[0]}' looks like a secret, and URLs are written into records and logs: "
            'send it as a header, headers = { Authorization = "Bearer env:NAME" }'
        )


def from_environment(headers: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Headers with their values read from the environment, and those values."""
    resolved: dict[str, str] = {}
    secrets: list[str] = []
    for name, value in headers.items():
        named = _FROM_ENVIRONMENT.search(value)
        if named is None:
            if _SECRET_HEADER.search(name):
                raise ConfigError(
                    f"the header '{name}' carries a secret, which must not lie in an audit file or a record: put it "
                    f'into an environment variable and write "env:NAME" (or "Bearer env:NAME")'
                )
            resolved[name] = value
            continue
        secret = os.environ.get(named.group(1))
        if not secret:
            raise ConfigError(f"the header '{name}' is read from {named.group(1)}, which is not set in the environment")
        resolved[name] = value[: named.start()] + secret.strip()
        secrets.append(secret.strip())
    return resolved, tuple(secrets)


def oip_model(url: str, model: str | None, version: str | None) -> str:
    """The address of a model in the Open Inference Protocol, without "/infer"."""
    whole = _MODEL_PATH.match(url)
    if whole:
        return whole.group(1)
    if not model:
        raise ConfigError(f"oip-v2 needs the model's name: give model=, or a URL like {url.rstrip('/')}/v2/models/NAME")
    base = url.rstrip("/").removesuffix("/v2")
    return f"{base}/v2/models/{model}" + (f"/versions/{version}" if version else "")

"""The HTTP client: one server, asked politely. The only file of the targets that imports one."""

import json
import logging
import random
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from seepage import __version__
from seepage.core.errors import ConfigError, EndpointError
from seepage.targets.addresses import check_url, from_environment, shown
from seepage.targets.answers import positive
from seepage.targets.patience import Patience, retry_after

log = logging.getLogger(__name__)

_BUSY = (429, 503)
_FAILED = (408, 425, 500, 502, 504)
_MOVED = (301, 302, 307, 308)
_MOST_BYTES = 256 * 1024 * 1024


class Endpoint:
    """One server, asked politely.

    429 and 503 are waited out, as long as Retry-After says or longer every time, within `patience`.
    Timeouts, broken connections and 500, 502, 504 are tried again `retries` times. Redirects are
    followed within the host only, so that a key never travels to another one.

    Args:
        url: where questions go.
        headers: sent with every request; a value "env:NAME" (or "Bearer env:NAME") is read from the
            environment, and no other value is taken for a header that carries a secret.
        timeout: seconds for one answer, from the first byte sent to the last one received.
        retries: how often a failed request is sent again.
        backoff: the first wait in seconds; doubled every time.
        patience: seconds that one question may wait in all.

    Raises:
        ConfigError: for a URL or header that cannot be used.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        retries: int,
        backoff: float,
        patience: float,
    ):
        for name, value in (("timeout", timeout), ("backoff", backoff), ("patience", patience)):
            positive(name, value)
        if retries < 0:
            raise ConfigError(f"retries is zero or more, got {retries}")
        check_url(url)
        resolved, self._secrets = from_environment(headers)
        self._timeout, self._retries, self._backoff, self._patience = timeout, retries, backoff, patience
        self._jitter = random.Random()
        self._moved: dict[str, str] = {}
        self.requests = 0
        self.retried = 0
        self.waited = 0.0
        self._client = httpx2.Client(
            headers={"User-Agent": f"seepage/{__version__}", "Accept": "application/json", **resolved},
            timeout=timeout,
            follow_redirects=False,
        )
        self._closer = weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Close the connections; nothing can be asked afterwards."""
        self._closer()

    def ask(self, method: str, url: str, body: Any = None) -> Any:
        """The JSON that the server answers.

        Raises:
            EndpointError: when it does not answer in time, answers an error, or no JSON.
        """
        if not self._closer.alive:
            raise EndpointError(f"{shown(url)}: the connection was closed; make the victim again to ask more")
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        patience = Patience(self._patience, self._backoff, self._jitter)
        failures = hops = 0
        address = self._moved.get(url, url)
        while True:
            try:
                status, headers, raw = self._exchange(method, address, content)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                failures += 1
                self._again(failures, patience, f"{shown(url)} does not answer: {_said(error, self._timeout)}", error)
                continue
            if status in _BUSY:
                self._wait_out(url, status, headers, patience)
            elif status in _MOVED and "location" in headers:
                hops += 1
                address = self._redirected(address, headers["location"], hops)
                if status in (301, 308):
                    self._moved[url] = address
            elif status in _FAILED:
                failures += 1
                self._again(failures, patience, f"{shown(url)} answered {status}: {self._quote(raw)}", None)
            elif 200 <= status < 300:
                return self._parsed(url, headers, raw)
            else:
                raise EndpointError(f"{shown(url)} answered {status}: {self._quote(raw)}{_advice(status)}")

    def _exchange(self, method: str, url: str, content: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        """One request and its whole answer, within the timeout."""
        self.requests += 1
        deadline = monotonic() + self._timeout
        kind = {} if content is None else {"Content-Type": "application/json"}
        parts: list[bytes] = []
        size = 0
        with self._client.stream(method, url, content=content, headers=kind) as answer:
            for part in answer.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    raise EndpointError(f"{shown(url)} answered more than {_MOST_BYTES >> 20} MiB; lower batch")
                if monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer trickles in")
            return answer.status_code, answer.headers, b"".join(parts)

    def _again(self, failures: int, patience: Patience, what: str, cause: Exception | None) -> None:
        """Wait before another try, or give up."""
        seconds = None if failures > self._retries else patience.wait()
        if seconds is None:
            raise EndpointError(f"{what} (tried {failures} times)") from cause
        log.info("%s; trying again in %.1f s", what, seconds)
        self._sleep(seconds)

    def _wait_out(self, url: str, status: int, headers: Mapping[str, str], patience: Patience) -> None:
        told = retry_after(headers.get("retry-after"), datetime.now(UTC))
        seconds = patience.wait(told)
        if seconds is None:
            wish = "" if told is None else f" and asks to wait {told:.0f} s"
            raise EndpointError(
                f"{shown(url)} answered {status} ({'too many requests' if status == 429 else 'unavailable'}){wish}; "
                f"that is beyond patience = {self._patience:g} s: raise it, or ask less (budget, batch)"
            )
        log.info("%s answered %d; waiting %.1f s", shown(url), status, seconds)
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        self.retried += 1
        self.waited += seconds
        sleep(seconds)

    def _redirected(self, url: str, location: str, hops: int) -> str:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        upgraded = (old.scheme, new.scheme) == ("http", "https")
        same = old.hostname == new.hostname and (upgraded or (old.scheme, old.port) == (new.scheme, new.port))
        if not same or hops > 5:
            why = "more than 5 times" if same else "to another host, which is not followed"
            raise EndpointError(f"{shown(url)} redirects {why}: {shown(target)}; give the final URL if you trust it")
        return target

    def _parsed(self, url: str, headers: Mapping[str, str], raw: bytes) -> Any:
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            html = "html" in headers.get("content-type", "") or raw.lstrip()[:1] == b"<"
            kind = "an HTML page" if html else "something else"
            raise EndpointError(
                f"{shown(url)} answered {kind} instead of JSON: {self._quote(raw)}; "
                "is this the address of the model, and not of a page or a login?"
            ) from error

    def _quote(self, raw: bytes) -> str:
        """The first 200 characters of an answer, with every secret that it repeats left out."""
        text = " ".join(raw.decode(errors="replace").split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return repr(text[:200]) if text else "an empty answer"


def _said(error: Exception, timeout: float) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within timeout = {timeout:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _advice(status: int) -> str:
    if status in (401, 403):
        return '; check the key: headers = { Authorization = "Bearer env:NAME" }, with NAME set in the environment'
    if status in (404, 405):
        return "; check the URL and the method"
    if status == 413:
        return "; lower batch"
    if status in (400, 415, 422):
        return "; check the request's shape (request, flatten, input)"
    return ""

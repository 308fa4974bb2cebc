"""URLs as the reference server reads them (RFC 3986 with that parser's checks)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORT = re.compile(r"(?::[0-9]*)?")


class UrlError(ValueError):
    """Not a URL."""


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL; `path` is decoded, `raw_path` is not, `host` has its port."""

    scheme: str
    opaque: str
    user: str
    host: str
    path: str
    raw_path: str
    query: str

    @property
    def hostname(self) -> str:
        host = self.host
        if host.startswith("["):
            return host[1 : host.find("]")]
        return host.rpartition(":")[0] if ":" in host else host

    @property
    def port(self) -> str:
        match = re.search(r":([0-9]*)$", self.host)
        return match[1] if match and not self.host.endswith("]") else ""


def parse_request_uri(text: str) -> Url:
    """An absolute URI or an absolute path. Raises UrlError."""
    if not text:
        raise UrlError("empty url")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise UrlError("net/url: invalid control character in URL")
    if text == "*":
        return Url("", "", "", "", "*", "*", "")
    scheme, rest = "", text
    match = _SCHEME.match(text)
    if match and text[match.end() : match.end() + 1] == ":":
        scheme, rest = match.group().lower(), text[match.end() + 1 :]
    elif text.startswith(":"):
        raise UrlError("missing protocol scheme")
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Url(scheme, rest, "", "", "", "", query)
        raise UrlError("invalid URI for request")
    user = host = ""
    if scheme and rest.startswith("//") and not rest.startswith("///"):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, host = _authority(authority)
    elif scheme and rest.startswith("///"):
        rest = rest[2:]
    if _BAD_ESCAPE.search(rest):
        raise UrlError("invalid URL escape")
    return Url(scheme, "", user, host, unquote(rest), rest, query)


def _authority(authority: str) -> tuple[str, str]:
    user, at, host = authority.rpartition("@")
    if at and re.fullmatch(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", user) is None:
        raise UrlError("net/url: invalid userinfo")
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise UrlError("missing ']' in host")
        if _PORT.fullmatch(host[end + 1 :]) is None:
            raise UrlError("invalid port after host")
    elif ":" in host and _PORT.fullmatch(host[host.rfind(":") :]) is None:
        raise UrlError("invalid port after host")
    for char in host:
        if char.isascii() and not char.isalnum() and char not in "-._~!$&'()*+,;=:[]<>\"%":
            raise UrlError("invalid character in host name")
    if "%" in host and (_BAD_ESCAPE.search(host) or re.search(r"%[0-7]", host)):
        raise UrlError("invalid URL escape")
    return user, unquote(host)

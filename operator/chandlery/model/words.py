"""Names and addresses inside engines: plain text with a pattern, and a message that says in words what that wants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Words:
    """Metadata of an annotated `str`.

    The pattern is what RE2 and Python's `re` both understand, so that admission and operator agree.
    """

    pattern: str
    message: str
    longest: int = 63

    def check(self, value: str) -> str:
        """The value.

        Raises:
            ValueError: with the sentence that admission would give.
        """
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise ValueError(self.message)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema(max_length=self.longest))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        raw = "r" if "\\" in self.pattern else ""
        quote = '"' if "'" in self.pattern else "'"
        rule = {"rule": f"self.matches({raw}{quote}^({self.pattern})${quote})", "message": self.message}
        return {"type": "string", "maxLength": self.longest, "x-kubernetes-validations": [rule]}


Name = Annotated[
    str,
    Words(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "must be a DNS name: lower-case letters and digits, with - or . between them, such as orders or orders.eu-1",
        253,
    ),
]
"""A DNS-1123 subdomain: the name of most objects of Kubernetes."""
Label = Annotated[
    str,
    Words(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "must be lower-case letters and digits, with - between them, such as eu-1",
    ),
]
"""A DNS-1123 label."""
KindName = Annotated[
    str, Words("[A-Z][A-Za-z0-9]*", "must be a kind's name: a capital, then letters and digits, such as Cache")
]
"""A kind of object."""
UserName = Annotated[
    str, Words("[A-Za-z_][A-Za-z0-9_.-]*", "must begin with a letter or _ and go on with letters, digits, _ . or -")
]
"""A user inside an engine."""
Identifier = Annotated[
    str, Words("[A-Za-z_][A-Za-z0-9_$-]*", "must begin with a letter or _ and go on with letters, digits, _ $ or -")
]
"""A name inside a relational engine; quoted by the drivers, so that case and `-` are kept."""
CommandName = Annotated[
    str,
    Words(
        "@?[a-z][a-z0-9._-]*([|][a-z0-9._-]+)?",
        "must be a command such as get or config|get, or a category such as @read, in lower case",
        64,
    ),
]
"""A command of a cache (`get`, `config|get`) or a category of them (`@read`)."""
HostPattern = Annotated[
    str,
    Words(
        "([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "must be a DNS name in lower case, of which the first part may be *, such as *.example.com",
        253,
    ),
]
"""A DNS name whose first part may be `*`."""
HttpPath = Annotated[str, Words("/[!-~]*", "must be a path that begins with / and has no blanks, such as /api/v1", 512)]
"""A path of a URL, `/` first."""
HeaderName = Annotated[
    str, Words("[A-Za-z0-9-]+", "must be a header's name of letters, digits and -, such as X-Forwarded-For")
]
"""A header of HTTP."""
Url = Annotated[
    str, Words("(https?|file)://[!-~]+", "must be a URL that begins with https://, http:// or file://", 1024)
]
"""Where a file is."""
HttpUrl = Annotated[str, Words("https?://[!-~]+", "must be a URL that begins with https:// or http://", 512)]
"""Where a service is."""
Checksum = Annotated[
    str,
    Words(
        "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}",
        "must be sha256: with 64 or sha512: with 128 hexadecimal digits in lower case",
        136,
    ),
]
"""What a file must hash to."""
AbsolutePath = Annotated[str, Words("/[ -~]+", "must be an absolute path, such as /var/backups", 512)]
"""A folder of a machine."""
Subject = Annotated[
    str,
    Words(
        "[!-,/-~-]+([.][!-,/-~-]+)*",
        "must be parts joined by dots, without blanks, such as orders.new or orders.>",
        255,
    ),
]
"""What messages are about: parts between dots."""
Glob = Annotated[str, Words("[^ \\t-\\r]+", "must be a pattern without blanks, such as * or app:*", 256)]
"""A pattern over keys or channels."""
OneLine = Annotated[str, Words("[^\\r\\n\\x00]*", "must be one line", 1024)]
"""Free text that goes into a file of lines."""
ObjectPrefix = Annotated[
    str,
    Words(
        "[A-Za-z0-9!_.*'()/=-]*",
        "must be letters, digits and any of ! _ . * ' ( ) / = - only, such as backups/orders/",
        512,
    ),
]
"""The beginning of names in an object store."""
BucketName = Annotated[
    str,
    Words(
        "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "must be 3 to 63 lower-case letters and digits, with - or . between them, such as orders-backups",
    ),
]
"""A bucket of an object store."""
Region = Annotated[str, Words("[a-z0-9-]+", "must be lower-case letters, digits and -, such as eu-central-1")]
"""Where a bucket is."""
RelativePath = Annotated[
    str,
    Words(
        "([^/\\x00-\\x1f][^\\x00-\\x1f]*)?", "must be a path without a / at its beginning, such as backups/orders", 512
    ),
]
"""A folder within another."""

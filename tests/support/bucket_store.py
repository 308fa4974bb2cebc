"""A store that speaks S3, as a process, which checks signatures and rights of every request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

SETUP = ("CreateUser", "CreateAccessKey", "PutUserPolicy", "CreateBucket")
"""Requests that it takes from anybody before it begins to check."""
BUCKET = "ships"


@dataclass(frozen=True, slots=True)
class BucketStore:
    """Where it is, and the keys of a user who may do what backups need, and no more."""

    endpoint: str
    access: str
    secret: str

    @property
    def place(self) -> dict[str, str]:
        return {"bucket": BUCKET, "endpoint": self.endpoint}


@contextlib.asynccontextmanager
async def bucket_store(prefix: str = "") -> AsyncIterator[BucketStore]:
    """Started, with a bucket; ended afterwards. The user may do nothing outside of the prefix."""
    words = [sys.executable, "-c", "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"]
    env = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(len(SETUP)), "PYTHONWARNINGS": "ignore"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=pipe)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(120):
            said = ""
            while (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", said)) is None:
                line = await process.stderr.readline()
                assert line, f"the store ended: {said}"
                said += line.decode()
        drain = asyncio.create_task(_drain(process.stderr))
        try:
            keys = await asyncio.to_thread(_prepare, found[1], prefix)
            yield BucketStore(found[1], *keys)
        finally:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


def _prepare(endpoint: str, prefix: str) -> tuple[str, str]:
    import boto3

    def client(service: str) -> Any:
        words = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody", "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=endpoint, **words)

    iam, s3 = client("iam"), client("s3")
    try:
        iam.create_user(UserName="backups")
        made = iam.create_access_key(UserName="backups")["AccessKey"]
        objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        rules = [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{BUCKET}"},
            {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{BUCKET}/{prefix}*"},
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": rules})
        iam.put_user_policy(UserName="backups", PolicyName="backups", PolicyDocument=document)
        s3.create_bucket(Bucket=BUCKET)
    finally:
        iam.close()
        s3.close()
    return str(made["AccessKeyId"]), str(made["SecretAccessKey"])

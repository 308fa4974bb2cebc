"""Who doesn't say whom it trusts trusts the system's authorities, also when they weren't read at import."""

import subprocess
import sys
from datetime import UTC, datetime

from chandlery.foundation import x509

PROGRAM = """
import asyncio, os, ssl, sys
from chandlery.foundation.authorities import import_http
import_http()
import aiohttp
from aiohttp import web
assert aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"] == 0
assert os.environ["SSL_CERT_FILE"] == sys.argv[2] and "SSL_CERT_DIR" not in os.environ

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    app = web.Application()
    app.router.add_get("/", lambda _: answer())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session, session.get(f"https://127.0.0.1:{port}/") as got:
        print(await got.text())
    await runner.cleanup()

async def answer():
    return web.Response(text="trusted")

if sys.argv[3] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


def test_a_connection_that_names_nobody_trusts_the_systems_authorities(tmp_path, monkeypatch):
    ca = x509.make_ca("system", datetime.now(UTC))
    other = x509.make_ca("other", datetime.now(UTC))
    (tmp_path / "server.pem").write_text(x509.make_certificate(ca, ["127.0.0.1"], datetime.now(UTC)))
    (tmp_path / "ca.pem").write_text(ca[0])
    (tmp_path / "other.pem").write_text(other[0])
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    def run(authority, loop):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / authority))
        argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "server.pem"), str(tmp_path / authority), loop]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)

    done = run("ca.pem", "uvloop")  # as the operator runs
    assert done.stdout.strip() == "trusted", done.stderr
    assert "certificate verify failed" in run("other.pem", "asyncio").stderr

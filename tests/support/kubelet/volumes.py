"""Volumes of pods as the kubelet makes them: who owns them, their modes, and how changed content comes to them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from kubelet.runtime import run

from chandlery.driver.objects import ResourceType
from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.types import CLAIMS, CONFIG_MAPS, SECRETS, Obj

SERVICE_ACCOUNTS = ResourceType("", "v1", "serviceaccounts", "ServiceAccount")
FOLDERS = os.environ.get("CHANDLERY_KUBELET_VOLUMES") == "folders"
"""Volumes as small clusters have them (kind, k3s): folders of the node, open to everybody, that fsGroup doesn't change.
Else each is as a new ext4 file system on a disk of its own."""
_NUMBERS = itertools.count(1)
Payload = dict[str, tuple[bytes, int]]
"""Content and mode by path in the volume."""


class NotYetError(Exception):
    """Something that a volume needs isn't there."""


class Volumes:
    """Of one pod.

    Args:
        api: for what is in them.
        folder: of the pod on this machine.
        claims: where claims have their folders.
    """

    def __init__(self, api: Any, pod: Obj, folder: Path, claims: Path) -> None:
        self.api = api
        self.pod = pod
        self.folder = folder
        self.claims = claims
        self.namespace = pod["metadata"]["namespace"]
        self._tokens: dict[str, str] = {}
        self._mounted: list[Path] = []
        shared = pod["spec"].get("securityContext") or {}
        self._group: int | None = shared.get("fsGroup")
        self._only_if_needed = shared.get("fsGroupChangePolicy") == "OnRootMismatch"

    def where(self, name: str) -> Path:
        return self.folder / "volumes" / name

    async def prepare(self) -> None:
        """Make them, or bring what they show up to date.

        Raises:
            NotYetError: something isn't there.
        """
        for volume in self.pod["spec"].get("volumes", ()):
            place = self.where(volume["name"])
            if "emptyDir" in volume:
                self._empty(place, volume["emptyDir"] or {})
            elif "persistentVolumeClaim" in volume:
                await self._claim(place, volume["persistentVolumeClaim"])
            else:
                self._write(place, await self._payload(volume))

    def overfull(self) -> str:
        """Why the kubelet would evict the pod; empty when it needn't."""
        for volume in self.pod["spec"].get("volumes", ()):
            limit = (volume.get("emptyDir") or {}).get("sizeLimit")
            if limit is None or (volume["emptyDir"].get("medium") == "Memory"):
                continue
            used = 0
            for root, _, files in os.walk(self.where(volume["name"])):
                for name in files:
                    with contextlib.suppress(OSError):
                        used += Path(root, name).lstat().st_blocks * 512
            if used > int(Quantity(str(limit))):
                return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}".'
        return ""

    def clean(self) -> None:
        for place in reversed(self._mounted):
            with contextlib.suppress(RuntimeError):
                run("umount", "-l", str(place))
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- kinds of volumes

    def _empty(self, place: Path, spec: Obj) -> None:
        if place.exists():
            return
        place.mkdir(parents=True)
        if spec.get("medium") == "Memory":
            size = int(Quantity(str(spec["sizeLimit"]))) if "sizeLimit" in spec else 2**26
            run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
            self._mounted.append(place)
        place.chmod(0o777)
        self._own(place, read_only=False)

    async def _claim(self, place: Path, spec: Obj) -> None:
        if place.is_symlink():
            return
        name = spec["claimName"]
        claim = await self.api.get(CLAIMS, self.namespace, name)
        if claim is None:
            raise NotYetError(f'persistentvolumeclaim "{name}" not found')
        if (claim.get("status") or {}).get("phase") != "Bound":
            raise NotYetError("pod has unbound immediate PersistentVolumeClaims")
        source = self.claims / self.namespace / name
        if not source.exists():
            source.mkdir(parents=True)
            if not FOLDERS:
                source.chmod(0o755)
                (source / "lost+found").mkdir(mode=0o700)
        if FOLDERS:
            source.chmod(0o777)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source)
        if not spec.get("readOnly") and not FOLDERS:
            self._own(source, read_only=False)

    async def _payload(self, volume: Obj) -> Payload:
        if "secret" in volume:
            return await self._keys(SECRETS, volume["secret"], volume["secret"]["secretName"])
        if "configMap" in volume:
            return await self._keys(CONFIG_MAPS, volume["configMap"], volume["configMap"]["name"])
        if "downwardAPI" in volume:
            return self._downward(volume["downwardAPI"])
        if "projected" in volume:
            found: Payload = {}
            mode = volume["projected"].get("defaultMode", 0o644)
            for source in volume["projected"]["sources"]:
                found |= await self._projected(source, mode)
            return found
        raise NotYetError(f"no volume plugin for {sorted(volume)}")

    async def _projected(self, source: Obj, mode: int) -> Payload:
        if "serviceAccountToken" in source:
            return {source["serviceAccountToken"]["path"]: (await self._token(source["serviceAccountToken"]), mode)}
        if "configMap" in source:
            return await self._keys(
                CONFIG_MAPS, {"defaultMode": mode, **source["configMap"]}, source["configMap"]["name"]
            )
        if "secret" in source:
            return await self._keys(SECRETS, {"defaultMode": mode, **source["secret"]}, source["secret"]["name"])
        return self._downward({"defaultMode": mode, **source["downwardAPI"]})

    async def _token(self, source: Obj) -> bytes:
        if source["path"] not in self._tokens:
            account = self.pod["spec"].get("serviceAccountName") or "default"
            meta = self.pod["metadata"]
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    **({"audiences": [source["audience"]]} if source.get("audience") else {}),
                    "expirationSeconds": source.get("expirationSeconds", 3600),
                    "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
                },
            }
            path = SERVICE_ACCOUNTS.path(self.namespace, account, "token")
            made = await self.api._ask("create", "POST", SERVICE_ACCOUNTS, path, body)
            self._tokens[source["path"]] = made["status"]["token"]
        return self._tokens[source["path"]].encode()

    async def _keys(self, kind: ResourceType, source: Obj, name: str) -> Payload:
        found = await self.api.get(kind, self.namespace, name)
        if found is None:
            if source.get("optional"):
                return {}
            raise NotYetError(f'{kind.kind.lower()} "{name}" not found')
        data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        if kind is SECRETS:
            data = {key: base64.b64decode(value) for key, value in data.items()}
        data |= {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        mode = source.get("defaultMode", 0o644)
        if "items" not in source:
            return {key: (value, mode) for key, value in data.items()}
        for item in source["items"]:
            if item["key"] not in data and not source.get("optional"):
                raise NotYetError(f"references non-existent {kind.kind.lower()} key: {item['key']}")
        return {i["path"]: (data[i["key"]], i.get("mode", mode)) for i in source["items"] if i["key"] in data}

    def _downward(self, source: Obj) -> Payload:
        mode = source.get("defaultMode", 0o644)
        meta = self.pod["metadata"]
        fields = {"metadata.name": meta["name"], "metadata.namespace": meta["namespace"], "metadata.uid": meta["uid"]}
        return {
            item["path"]: (fields[item["fieldRef"]["fieldPath"]].encode(), item.get("mode", mode))
            for item in source["items"]
        }

    # -- files

    def _write(self, place: Path, payload: Payload) -> None:
        """All of it changes at one moment: by renaming a symbolic link to the folder that holds it."""
        now = place / "..data"
        if now.exists() and self._shown(now) == {path: content for path, (content, _) in payload.items()}:
            return
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        made = place / f"..2026_11_22_{next(_NUMBERS)}"
        made.mkdir()
        made.chmod(0o755)
        for path, (content, mode) in payload.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode)
        before = now.readlink() if now.is_symlink() else None
        (place / "..data_tmp").symlink_to(made.name)
        (place / "..data_tmp").rename(now)
        tops = {path.partition("/")[0] for path in payload}
        for top in tops:
            if not (place / top).is_symlink():
                (place / top).symlink_to(f"..data/{top}")
        for old in place.iterdir():
            if old.is_symlink() and not old.name.startswith("..") and old.name not in tops:
                old.unlink()
        if before is not None:
            shutil.rmtree(place / before)
        self._own(place, read_only=True)

    def _shown(self, now: Path) -> dict[str, bytes]:
        return {str(file.relative_to(now)): file.read_bytes() for file in now.rglob("*") if file.is_file()}

    def _own(self, place: Path, *, read_only: bool) -> None:
        """What fsGroup does: everything belongs to the group, which may read, and write where that is possible."""
        if self._group is None:
            return
        known = place.stat()
        mask = 0o440 if read_only else 0o660
        wanted = stat.S_ISGID | mask | 0o110
        if not read_only and self._only_if_needed and known.st_gid == self._group and known.st_mode & wanted == wanted:
            return
        for path in (place, *place.rglob("*")):
            os.chown(path, -1, self._group, follow_symlinks=False)
            if not path.is_symlink():
                more = mask | (stat.S_ISGID | 0o110 if path.is_dir() else 0)
                path.chmod(stat.S_IMODE(path.stat().st_mode) | more)

"""Container images that tests make of a few files, good ones and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labfleet.protocols.images import machine_of

OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
OS, ARCHITECTURE = machine_of(platform.machine()).split("/")
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes | str = b"", mode: int = 0o644, **values: Any) -> Entry:
    """A file, or with `type` something else."""
    data = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, 1_600_000_000
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, mode: int = 0o755) -> Entry:
    return entry(name, mode=mode, type=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Entry:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def device(name: str) -> Entry:
    return entry(name, mode=0o666, type=tarfile.CHRTYPE, devmajor=1, devminor=5)


def layer(*entries: Entry) -> bytes:
    """A layer that is not packed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Image:
    """The document that names it, and whatever that leads to, by digests."""

    document: bytes
    blobs: dict[str, bytes]
    instances: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.document)

    def save(self, folder: Path) -> Path:
        """As `skopeo copy --all docker://… dir:FOLDER` leaves it."""
        folder.mkdir(parents=True)
        (folder / "version").write_text("Directory Transport Version: 1.1\n")
        (folder / "manifest.json").write_bytes(self.document)
        for digest, content in self.blobs.items():
            (folder / digest).write_bytes(content)
        for digest, content in self.instances.items():
            (folder / f"{digest}.manifest.json").write_bytes(content)
        return folder

    def archive(self) -> bytes:
        """An OCI archive."""
        documents = {self.digest: self.document, **self.instances}
        named = {"mediaType": f"{OCI}.manifest.v1+json", **_described(self.document)}
        index = {"schemaVersion": 2, "manifests": [named]}
        return layer(
            entry("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"})),
            entry("index.json", json.dumps(index)),
            *(entry(f"blobs/sha256/{name}", data) for name, data in {**self.blobs, **documents}.items()),
        )


def image(
    *layers: bytes,
    env: Iterable[str] = (),
    machine: tuple[str, str] = (OS, ARCHITECTURE),
    kind: str = OCI,
    packed: str = "gzip",
    **config: Any,
) -> Image:
    """One image of these layers."""
    content = [pack(data, packed) for data in layers]
    document = {"os": machine[0], "architecture": machine[1], "config": {"Env": list(env), **config}}
    document["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{sha256(data)}" for data in layers]}
    settings = json.dumps(document).encode()
    docker = kind == DOCKER
    suffix = {"gzip": ".gzip" if docker else "+gzip", "zstd": "+zstd", "": ""}[packed]
    types = {
        "manifest": f"{DOCKER}.distribution.manifest.v2+json" if docker else f"{OCI}.manifest.v1+json",
        "config": f"{DOCKER}.container.image.v1+json" if docker else f"{OCI}.config.v1+json",
        "layer": f"{DOCKER}.image.rootfs.diff.tar{suffix}" if docker else f"{OCI}.layer.v1.tar{suffix}",
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": {"mediaType": types["config"], **_described(settings)},
        "layers": [{"mediaType": types["layer"], **_described(data)} for data in content],
    }
    blobs = {sha256(data): data for data in (settings, *content)}
    return Image(json.dumps(manifest).encode(), blobs)


def index(*images: tuple[Image, str]) -> Image:
    """One for several machines, each `(image, architecture)`."""
    manifests = [
        {
            "mediaType": f"{OCI}.manifest.v1+json",
            **_described(each.document),
            "platform": {"os": OS, "architecture": architecture},
        }
        for each, architecture in images
    ]
    document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
    blobs = {digest: data for each, _ in images for digest, data in each.blobs.items()}
    instances = {each.digest: each.document for each, _ in images}
    return Image(json.dumps(document).encode(), blobs, instances)


def pack(content: bytes, packed: str) -> bytes:
    if packed == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=content, capture_output=True, check=True).stdout
    return gzip.compress(content, 1, mtime=0) if packed else content


def python() -> bytes:
    """A layer with this machine's Python, and with programs that want more than a sandbox gives."""
    interpreter = Path("/usr/bin/python3").resolve()
    programs = {"python3": interpreter, "unshare": Path("/usr/bin/unshare"), "mount": Path("/usr/bin/mount")}
    said = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    libraries = {word for line in said.splitlines() for word in line.split() if word.startswith("/")}
    files = {path for path in Path("/usr/lib", interpreter.name).rglob("*") if path.is_file()}
    unwanted = {"__pycache__", "test", "dist-packages"}
    modules = sorted(path for path in files if not unwanted & set(path.parts))
    here = sorted(name for name in libraries if not name.endswith(":"))
    return busybox(
        *(entry(f"usr/bin/{name}", path.read_bytes(), 0o755) for name, path in programs.items()),
        *(entry(name.lstrip("/"), Path(name).read_bytes(), 0o755) for name in here),
        *(entry(str(path).lstrip("/"), path.read_bytes()) for path in modules),
    )


def busybox(*more: Entry) -> bytes:
    """A layer that programs of a shell can run in."""
    names = (
        "sh",
        "cat",
        "ls",
        "id",
        "env",
        "stat",
        "touch",
        "wget",
        "mount",
        "ulimit",
        "sleep",
        "true",
        "dd",
    )
    links = [hard_link(f"bin/{name}", "bin/busybox") for name in names]
    return layer(
        directory("bin"),
        entry("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755),
        *links,
        *more,
    )


def _described(content: bytes) -> dict[str, Any]:
    return {"digest": f"sha256:{sha256(content)}", "size": len(content)}

"""Packs a root filesystem as an OCI image (image-spec 1.1, image layout in a tar):  oci.py ROOTFS OUT VERSION MACHINE

The same tree makes the same bytes: files are sorted, without times, and belong to root but for what the user must write to.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

USER = 65532
# Folders that are the user's own; volumes lie over them where the root is read-only.
OWN = {"var/lib/lakefall"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYER, CONFIG = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.config.v1+json"
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"


def layer(rootfs: Path) -> bytes:
    """The tree as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(rootfs.rglob("*")):
            name = path.relative_to(rootfs).as_posix()
            entry = tar.gettarinfo(path, arcname=name)
            entry.mtime, entry.uname, entry.gname = 0, "", ""
            entry.uid = entry.gid = USER if name in OWN else 0
            # Hard links between files of the tree would depend on how it was made.
            if path.is_file() and not path.is_symlink():
                entry.type, entry.size = tarfile.REGTYPE, path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
    return out.getvalue()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def described(media_type: str, content: bytes, **more) -> dict:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}


def compact(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def image(rootfs: Path, version: str, machine: str) -> dict[str, bytes]:
    """The files of an image layout."""
    tree = layer(rootfs)
    packed = gzip.compress(tree, compresslevel=6, mtime=0)
    labels = {
        "org.opencontainers.image.title": "Lakefall",
        "org.opencontainers.image.description": "A message queue that keeps everything in object storage",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": version,
    }
    config = compact({
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "WorkingDir": "/var/lib/lakefall",
            "Env": ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "MIMALLOC_ALLOW_THP=0"],
            "Entrypoint": ["/usr/bin/lakefall"],
            "Cmd": ["--help"],
            "ExposedPorts": {"8080/tcp": {}, "8081/tcp": {}, "8082/tcp": {}},
            "StopSignal": "SIGTERM",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(tree)]},
        "history": [{"created_by": ".ci/rootfs"}],
    })
    manifest = compact({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, packed)],
        "annotations": labels,
    })
    named = {"org.opencontainers.image.ref.name": version}
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(MANIFEST, manifest, annotations=named)]})
    blobs = {f"blobs/sha256/{digest(blob).removeprefix('sha256:')}": blob for blob in (packed, config, manifest)}
    return {"oci-layout": compact({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}


def main() -> None:
    rootfs, out, version, machine = sys.argv[1:]
    with tarfile.open(out + ".part", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(image(Path(rootfs), version, machine).items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    os.replace(out + ".part", out)


if __name__ == "__main__":
    main()

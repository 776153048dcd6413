"""The container image as `.ci/rootfs` makes it, without a container engine: what it is, and that the server runs in it.

LAKEFALL_TEST_EXECUTABLE names the executable that it is made of. The tree is run in a mount namespace of its own: its root read-only,
a volume at the data folder, an unprivileged user.
"""

import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = os.environ.get("LAKEFALL_TEST_EXECUTABLE", str(ROOT / "target/debug/lakefall"))

# $1: the tree, $2: a volume; then the command. What is mounted goes with the namespace.
INSIDE = """
set -eu
root=$1 volume=$2
shift 2
mount --bind "$root" "$root"
mount --bind "$volume" "$root/var/lib/lakefall"
mount -o remount,bind,ro "$root"
exec chroot $AS "$root" /usr/bin/lakefall "$@"
"""


def setUpModule():
    """Makes the image once."""
    Image.folder = Path(tempfile.mkdtemp(prefix="lakefall-image."))
    unittest.addModuleCleanup(shutil.rmtree, Image.folder, ignore_errors=True)
    made = subprocess.run([ROOT / ".ci/rootfs", EXECUTABLE, Image.folder], stdout=subprocess.PIPE, text=True)
    print(made.stdout, file=sys.stderr)
    assert made.returncode == 0, made.returncode
    Image.rootfs = Image.folder / "rootfs"
    with tarfile.open(Image.folder / "lakefall.oci.tar") as tar:
        Image.files = {entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()}


class Image(unittest.TestCase):
    folder: Path
    rootfs: Path
    files: dict[str, bytes]

    def blob(self, described: dict) -> bytes:
        content = self.files["blobs/" + described["digest"].replace(":", "/")]
        self.assertEqual("sha256:" + hashlib.sha256(content).hexdigest(), described["digest"])
        self.assertEqual(len(content), described["size"])
        return content

    def manifest(self) -> dict:
        return json.loads(self.blob(json.loads(self.files["index.json"])["manifests"][0]))

    def config(self) -> dict:
        return json.loads(self.blob(self.manifest()["config"]))


class TheImageIsWhatItSays(Image):
    def test_every_part_has_the_digest_that_names_it(self):
        self.assertEqual(json.loads(self.files["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        (layer,) = self.manifest()["layers"]
        tree = gzip.decompress(self.blob(layer))
        self.assertEqual(self.config()["rootfs"], {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tree).hexdigest()]})
        self.assertEqual(len(self.files), 5, "something is packed that nothing names")

    def test_the_same_tree_makes_the_same_bytes(self):
        again = self.folder / "again.tar"
        config = self.config()
        version, machine = config["config"]["Labels"]["org.opencontainers.image.version"], os.uname().machine
        subprocess.run([sys.executable, ROOT / ".ci/oci.py", self.rootfs, again, version, machine], check=True)
        self.assertEqual(again.read_bytes(), (self.folder / "lakefall.oci.tar").read_bytes())

    def test_it_holds_the_executable_and_what_that_names_and_nothing_to_work_with(self):
        tree = gzip.decompress(self.blob(self.manifest()["layers"][0]))
        entries = tarfile.open(fileobj=io.BytesIO(tree)).getmembers()
        programs = [e.name for e in entries if e.isfile() and e.mode & 0o111 and not re.search(r"\.so(\.\d+)*$", e.name)]
        self.assertEqual(programs, ["usr/bin/lakefall"])
        self.assertLess(len([e for e in entries if e.isfile()]), 20, [e.name for e in entries])
        for entry in entries:
            self.assertFalse(entry.mode & 0o6000, f"{entry.name} changes the user")
            if entry.mode & 0o002:
                self.assertEqual(entry.name, "tmp")
            self.assertEqual(entry.uid, 65532 if entry.name == "var/lib/lakefall" else 0, entry.name)

    def test_the_dockerfile_says_the_same(self):
        text = (ROOT / "Dockerfile").read_text()
        config = self.config()["config"]
        last = text[text.rindex("\nFROM ") :]
        said = dict(re.findall(r"^(USER|WORKDIR|STOPSIGNAL|ENTRYPOINT|CMD|EXPOSE|ENV) (.*)$", last, re.M))
        self.assertTrue(last.startswith("\nFROM scratch\n"))
        self.assertEqual((said["USER"], said["WORKDIR"], said["STOPSIGNAL"]), (config["User"], config["WorkingDir"], config["StopSignal"]))
        self.assertEqual((json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])), (config["Entrypoint"], config["Cmd"]))
        self.assertEqual({f"{port}/tcp" for port in said["EXPOSE"].split()}, set(config["ExposedPorts"]))
        self.assertEqual(said["ENV"].split(), config["Env"])
        self.assertRegex(config["User"], r"^[1-9]\d*:[1-9]\d*$")

    def test_the_dockerfile_builds_what_is_locked_on_a_builder_of_the_projects_version(self):
        text = (ROOT / "Dockerfile").read_text()
        channel = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
        self.assertIn(f"ARG BUILDER=rust:{channel}-", text)
        self.assertRegex(text, r"cargo build --release --locked --package lakefall\b")
        self.assertNotIn(":latest", text)

    def test_the_context_has_the_whole_workspace_and_no_data(self):
        kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        members = re.search(r"members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.S).group(1)
        for member in re.findall(r'"(.*?)"', members):
            self.assertIn(member.split("/")[0], kept, f"{member} is not in the context")
        for needed in ("Cargo.lock", ".ci/rootfs", ".ci/oci.py", "rust-toolchain.toml"):
            self.assertIn(needed, kept)


class TheServerRunsInIt(Image):
    def setUp(self):
        self.volume = Path(tempfile.mkdtemp(prefix="lakefall-volume."))
        self.addCleanup(shutil.rmtree, self.volume, ignore_errors=True)
        self.volume.chmod(0o777)

    def start(self, *arguments: str, **more) -> subprocess.Popen:
        root = os.geteuid() == 0
        # Without root only the user itself can be mapped, who then looks like root inside.
        namespaces = ["unshare", "--mount", "--propagation", "private"] + ([] if root else ["--map-root-user"])
        environment = {"PATH": os.environ["PATH"], "AS": "--userspec=65532:65532" if root else ""}
        command = [*namespaces, "sh", "-c", INSIDE, "sh", self.rootfs, self.volume, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def say(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        return out

    def test_it_says_its_version_and_explains_its_roles(self):
        self.assertRegex(self.say("--version"), r"^lakefall \d+\.\d+\.\d+")
        for role in ("gateway", "metadata", "compactor"):
            self.assertIn("Usage: lakefall " + role, self.say(role, "--help"))

    def test_a_server_takes_a_record_keeps_it_in_the_volume_and_stops_when_told_to(self):
        process = self.start("dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", "/var/lib/lakefall/data")
        try:
            ports: dict[str, int] = {}
            # It says where it listens when it is ready.
            while len(ports) < 2:
                line = process.stdout.readline()
                self.assertTrue(line, process.stderr.read() if not line else None)
                if found := re.search(r"^ *(HTTP API|Admin) +http://127\.0\.0\.1:(\d+)", line):
                    ports[found.group(1)] = int(found.group(2))
            api = ports["HTTP API"]
            self.assertEqual(self.ask(ports["Admin"], "GET", "/readyz"), 200)
            self.assertIn(self.ask(api, "PUT", "/v1/topics/t", "{}"), (200, 201))
            self.assertIn(self.ask(api, "POST", "/v1/topics/t/records", '{"value": 1}'), (200, 201))
            self.assertTrue(list((self.volume / "data").rglob("*.seg")), "no segment is in the volume")
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)

    def test_it_writes_to_nothing_but_the_volume(self):
        process = self.start("dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", "/data")
        _, err = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("/data", err)
        self.assertFalse((self.rootfs / "data").exists())

    def ask(self, port: int, method: str, path: str, body: str | None = None) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()


if __name__ == "__main__":
    unittest.main()

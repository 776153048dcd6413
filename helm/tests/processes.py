"""The pods of the chart as processes of this machine: the settings, variables and arguments of the rendered objects, with nothing
changed but addresses and where files lie, over a real PostgreSQL and a real S3 server. What is written is read again, and everyone ends in
time when told to stop."""

import base64
import contextlib
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from chart import ROOT, component, objects, of_kind, role_pods

# How long anything may take on a machine that is busy.
PATIENCE = 90
PASSWORD = "of-the-database"


def executable():
    return os.environ.get("LAKEFALL_TEST_EXECUTABLE", str(ROOT / "target/debug/lakefall"))


def missing():
    """What is not here, or None."""
    if not os.access(executable(), os.X_OK):
        return "no executable is built (LAKEFALL_TEST_EXECUTABLE)"
    for variable in ("LAKEFALL_TEST_POSTGRES_BIN", "LAKEFALL_TEST_S3_SERVER"):
        if not os.environ.get(variable):
            return f"{variable} is not set"
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, check, process=None, log=None):
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError, subprocess.CalledProcessError):
            if check():
                return
        said = log.read_text()[-2000:] if log else ""
        assert process is None or process.poll() is None, f"{what} ended:\n{said}"
        assert time.monotonic() < deadline, f"{what} did not come:\n{said}"
        time.sleep(0.05)


def fetch(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.read().decode()


class World:
    """The servers and the roles' processes; all of them end with it."""

    def __init__(self, folder, case):
        self.folder, self.case, self.stack = folder, case, contextlib.ExitStack()
        folder.chmod(0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start(self, name, command, env, **more):
        log = self.folder / f"{name}.log"
        output = self.stack.enter_context(log.open("w"))
        process = subprocess.Popen(command, env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more)

        def end():
            process.kill()
            process.wait(timeout=30)

        self.stack.callback(end)
        return process, log

    def postgres(self):
        programs, port = pathlib.Path(os.environ["LAKEFALL_TEST_POSTGRES_BIN"]), free_port()
        home, file = self.folder / "postgres", self.folder / "password"
        home.mkdir()
        file.write_text(PASSWORD)
        # It refuses to run as root.
        more = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(home, user.pw_uid, user.pw_gid)
            more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [programs / "initdb", "-D", home / "data", "-U", "lakefall", "-A", "scram-sha-256", f"--pwfile={file}", "--no-sync"],
            check=True, capture_output=True, env=env, cwd="/", **more,
        )
        options = ["-D", home / "data", "-p", str(port), "-h", "127.0.0.1", "-k", home]
        process, log = self.start("postgres", [programs / "postgres", *options], env, **more)
        client = [programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "lakefall", "-c", "CREATE DATABASE lakefall", "postgres"]
        client_env = env | {"PGPASSWORD": PASSWORD}
        wait_for("PostgreSQL", lambda: subprocess.run(client, check=True, capture_output=True, env=client_env), process, log)
        return port

    def s3(self, access, secret):
        port = free_port()
        data = self.folder / "s3"
        data.mkdir()
        spec = next(one for one in of_kind("evaluation", "StatefulSet") if component(one["metadata"]["labels"]) == "s3")
        words = spec["spec"]["template"]["spec"]["containers"][0]["args"]
        words = [{":7070": f"127.0.0.1:{port}", "/data": str(data)}.get(word, word) for word in words]
        env = {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
        process, log = self.start("s3", [os.environ["LAKEFALL_TEST_S3_SERVER"], *words], env)
        wait_for("the S3 server", lambda: fetch(f"http://127.0.0.1:{port}/health")[0] == 200, process, log)
        return port


def certificates(folder):
    """An authority and a certificate for each role, which bears no address."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    authority = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=authority", "-days", "2", *authority)
    made = {}
    for role in ("gateway", "metadata", "compactor"):
        home = folder / f"rpc-{role}"
        home.mkdir()
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", home / "tls.key"]
        openssl("req", *key, "-subj", f"/CN={role}", "-out", home / "request")
        names = folder / f"{role}.ext"
        names.write_text(f"subjectAltName=DNS:queue-lakefall-{role}.shop.svc\n")
        signed = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", names]
        openssl("x509", "-req", "-in", home / "request", *signed, "-out", home / "tls.crt")
        (home / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
        made[f"rpc-{role}"] = home
    return made


def secret_of(case, name, key):
    """What the Secret of that name has under that key: the chart's own, else one that an operator made."""
    for one in of_kind(case, "Secret"):
        if one["metadata"]["name"] == name:
            return base64.b64decode(one["data"][key]).decode()
    return "drawn-by-the-operator-" + key.ljust(32, "x")


def as_process(world, case, spec, number, changes, certificate_folders):
    """A pod's container as a command and an environment: its files in a folder of their own, addresses as `changes` say."""
    home = world.folder / f"pod-{number}"
    home.mkdir()
    container, volumes = spec["containers"][0], {one["name"]: one for one in spec["volumes"]}
    places = {}
    for mount in container["volumeMounts"]:
        volume, place = volumes[mount["name"]], home / mount["name"]
        place.mkdir()
        places[mount["mountPath"]] = place
        if "projected" in volume:
            for source in volume["projected"]["sources"]:
                for item in source.get("secret", source.get("configMap"))["items"]:
                    name = source.get("secret", source.get("configMap"))["name"]
                    text = PASSWORD if item["path"] == "database-password" else secret_of(case, name, item["key"])
                    (place / item["path"]).write_text(text + "\n")
        elif "secret" in volume:
            for file in certificate_folders[volume["secret"]["secretName"]].iterdir():
                (place / file.name).write_bytes(file.read_bytes())

    def moved(text):
        # The longest first: one folder's path begins another's.
        for path in sorted(places, key=len, reverse=True):
            text = text.replace(path + "/", f"{places[path]}/")
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    config = next(one for one in objects(case) if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volumes["settings"]["configMap"]["name"])
    (places["/etc/lakefall"] / "lakefall.toml").write_text(moved(config["data"]["lakefall.toml"]))
    env = {"PATH": os.environ["PATH"]}
    for one in container["env"]:
        if "secretKeyRef" in one.get("valueFrom", {}):
            reference = one["valueFrom"]["secretKeyRef"]
            env[one["name"]] = secret_of(case, reference["name"], reference["key"])
        elif "fieldRef" in one.get("valueFrom", {}):
            env[one["name"]] = "127.0.0.1"
        else:
            env[one["name"]] = moved(one["value"].replace("$(POD_IP)", env.get("POD_IP", "")))
    return [executable(), *container["args"]], env


def life(case, folder):
    """Everybody starts, a record goes in and out, a replica goes while more go in, everybody ends."""
    certificate_folders = certificates(folder) if case == "certificates" else {}
    with World(folder, case) as world:
        roles = role_pods(case)
        variables = {one["name"]: one for one in roles["compactor"][2]["containers"][0]["env"]}
        access, secret = (
            secret_of(case, *[variables[f"LAKEFALL_STORE__{word}"]["valueFrom"]["secretKeyRef"][part] for part in ("name", "key")])
            for word in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        )
        database, store = world.postgres(), world.s3(access, secret)
        replicas = [free_port(), free_port()]
        changes = {
            "@queue-lakefall-postgres:5432/": f"@127.0.0.1:{database}/",
            "@db.internal/": f"@127.0.0.1:{database}/",
            "queue-lakefall-s3:7070": f"127.0.0.1:{store}",
            'endpoint = "https://s3.internal:9000"': f'allow_http = true\nendpoint = "http://127.0.0.1:{store}"',
            "queue-lakefall-metadata:8082": f"127.0.0.1:{replicas[0]}",
            # The database here has no certificate.
            'ca_file = ': '# ca_file = ',
        }
        numbers = iter(range(100))

        def once(spec, arguments=None):
            command, env = as_process(world, case, spec, next(numbers), changes, certificate_folders)
            done = subprocess.run([command[0], *(arguments or command[1:])], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, f"{arguments or command[1:]}: {done.stdout}{done.stderr}"

        once(roles["compactor"][2], ["bucket", "init"])
        for job in of_kind(case, "Job"):
            if component(job["metadata"]["labels"]) == "migration":
                once(job["spec"]["template"]["spec"])

        def serve(role, rpc=None):
            admin, api, number = free_port(), free_port(), next(numbers)
            here = changes | {"0.0.0.0:8081": f"127.0.0.1:{admin}", "0.0.0.0:8080": f"127.0.0.1:{api}"}
            here |= {"0.0.0.0:8082": f"127.0.0.1:{rpc}", "127.0.0.1:8082": f"127.0.0.1:{rpc}"}
            command, env = as_process(world, case, roles[role][2], number, here, certificate_folders)
            process, log = world.start(f"{role}-{number}", command, env)
            return process, log, admin, api

        running = [("metadata", *serve("metadata", port)) for port in replicas]
        running += [("gateway", *serve("gateway")), ("gateway", *serve("gateway")), ("compactor", *serve("compactor"))]
        probe = {role: roles[role][2]["containers"][0]["readinessProbe"]["httpGet"]["path"] for role in roles}
        for role, process, log, admin, _ in running:
            wait_for(f"a ready {role}", lambda admin=admin, role=role: fetch(f"http://127.0.0.1:{admin}{probe[role]}")[0] == 200, process, log)
        apis = [api for role, _, _, _, api in running if role == "gateway"]
        assert fetch(f"http://127.0.0.1:{apis[0]}/v1/topics/orders", "PUT", {"partitions": 1})[0] in (200, 201)
        for number in range(20):
            if number == 10:
                # Its shards are handed over while the others come.
                running[1][1].send_signal(signal.SIGTERM)
            status, answer = fetch(f"http://127.0.0.1:{apis[number % 2]}/v1/topics/orders/records", "POST", {"value": {"id": number}})
            assert status == 200, answer
        text = fetch(f"http://127.0.0.1:{apis[1]}/v1/topics/orders/partitions/0/records?offset=0&limit=100")[1]
        ids = [record["value"]["id"] for record in json.loads(text)["records"]]
        assert ids == list(range(20)), ids
        # Gateways first, as they need replicas to commit what they hold.
        for role, process, log, _, _ in sorted(running, key=lambda one: one[0] != "gateway"):
            process.send_signal(signal.SIGTERM) if process.poll() is None else None
            grace = roles[role][2]["terminationGracePeriodSeconds"]
            assert process.wait(timeout=grace) == 0, f"{role}: {log.read_text()[-2000:]}"


def test_the_evaluation_runs_as_its_pods_say(tmp):
    return missing() or life("evaluation", tmp)


def test_roles_with_certificates_that_bear_names_alone_reach_each_other_by_address(tmp):
    return missing() or life("certificates", tmp)

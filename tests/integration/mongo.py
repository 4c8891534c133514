"""A MongoDB for the tests: the stand-in of tests/mongo-server in a process of its own, or the deployment that
MONGODB_URI names. What only the stand-in can do (`stand_in` is true then) is skipped on a real one.

    with Mongo() as mongo:
        mongo.client.app.orders.insert_one({"_id": 1})
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess

import pymongo
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.path.join(ROOT, "tests", "mongo-server")
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "millrace")


def class_path():
    """Build the stand-in with Maven, once for each version of its sources. Skips where that cannot be done."""
    if not shutil.which("java") or not shutil.which("mvn"):
        pytest.skip("no java and mvn: apt-get install default-jdk-headless maven, or set MONGODB_URI")
    digest = hashlib.sha256()
    for folder, _, files in sorted(os.walk(SERVER)):
        for name in sorted(files):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(name.encode() + b"\0" + file.read())
    target = os.path.join(CACHE, "mongo-server-" + digest.hexdigest()[:16])
    if not os.path.exists(os.path.join(target, "complete")):
        mine = f"{target}.{os.getpid()}"
        built = subprocess.run(
            ["mvn", "-q", "-B", "-f", os.path.join(SERVER, "pom.xml"), f"-Dbuild.dir={mine}",
             f"-Dmaven.repo.local={os.path.join(CACHE, 'maven')}", "compile"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if built.returncode != 0:
            shutil.rmtree(mine, ignore_errors=True)
            if "COMPILATION ERROR" in built.stdout:
                raise RuntimeError(built.stdout)
            pytest.skip("mongo-java-server cannot be had: " + built.stdout[-500:])
        with open(os.path.join(mine, "complete"), "w", encoding="ascii"):
            pass
        with contextlib.suppress(OSError):
            os.rename(mine, target)
        shutil.rmtree(mine, ignore_errors=True)  # another process was faster
    return f"{target}/classes:{target}/dependency/*"


class Mongo:
    """`database` is a name of this test's own; `client` a pymongo client."""

    def __init__(self, version="7.0.0"):
        self.version = version
        self.stand_in = not os.environ.get("MONGODB_URI")
        self.process = None
        self.port = 0
        self.client = None
        self.database = "t" + secrets.token_hex(6)

    @property
    def db(self):
        return self.client[self.database]

    @property
    def uri(self):
        return os.environ.get("MONGODB_URI") or f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"

    def needs_stand_in(self, why):
        if not self.stand_in:
            pytest.skip(f"needs the stand-in: {why}")

    def start(self):
        if self.stand_in:
            self.process = subprocess.Popen(
                ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g", "-cp", class_path(),
                 "millrace.mongo.Main", str(self.port), self.version],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            line = self.process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the stand-in did not start: {line}")
            self.port = int(line.rsplit(":", 1)[1])
        self.client = pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=10000)
        return self

    def kill(self):
        """The stand-in and all it held are gone; start() makes an empty one on the same port."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def fail(self, commands, mode, **data):
        """Arm the fail point that MongoDB has with enableTestCommands=1: mode {"times": n}, "alwaysOn", "off"."""
        return self.client.admin.command("configureFailPoint", "failCommand", mode=mode,
                                         data={"failCommands": commands, **data})

    def trim(self, keep=0):
        self.needs_stand_in("to cut its oplog short")
        self.client.admin.command("millraceTrim", keep)

    def stop(self):
        if not self.client:
            return
        if self.stand_in:
            self.kill()
        else:
            with contextlib.suppress(pymongo.errors.PyMongoError):
                self.client.drop_database(self.database)
            self.client.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

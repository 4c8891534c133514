"""A PostgreSQL cluster of a test's own: made in a temporary directory, on a free port and a socket directory
of its own, stopped by its data directory. Works as root (the server then runs as user postgres) and as
anyone else.

    with Cluster(wal_sender_timeout="2s") as cluster:
        cluster.execute("CREATE TABLE t (id int PRIMARY KEY)")
"""

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg

SETTINGS = {
    "wal_level": "logical", "max_replication_slots": "10", "max_wal_senders": "10", "fsync": "off",
    "autovacuum": "off", "listen_addresses": "127.0.0.1", "shared_buffers": "64MB", "log_min_messages": "warning",
}


def bin_dir():
    """Where initdb is: the newest version that is installed, or what PG_BIN says."""
    found = os.environ.get("PG_BIN") or max(
        glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]), default=None)
    if not found:
        raise RuntimeError("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql-15")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self, **settings):
        self.settings = {**SETTINGS, **{key: str(value) for key, value in settings.items()}}
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="millrace-pg-", dir="/tmp")
        self.data = os.path.join(self.dir, "data")
        self.log = os.path.join(self.dir, "log")
        self._running = False
        os.chmod(self.dir, 0o755)
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
        self._tool("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                   "--no-sync")
        self.configure(**self.settings)

    def _tool(self, name, *arguments, check=True):
        command = [os.path.join(bin_dir(), name), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}\n{self.server_log()}")
        return done

    def server_log(self):
        with contextlib.suppress(OSError), open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def configure(self, **settings):
        """Takes effect at the next start or reload."""
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            for key, value in {"port": self.port, "unix_socket_directories": self.dir, **settings}.items():
                file.write(f"{key} = '{value}'\n")

    def hba(self, *lines):
        """Replace pg_hba.conf; takes effect at once when the server runs."""
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
        if self._running:
            self._tool("pg_ctl", "reload", "-D", self.data)

    def start(self):
        # pg_ctl's own output goes to a file: a server that keeps its pipe open would block us.
        self._tool("pg_ctl", "start", "-w", "-t", "60", "-D", self.data, "-l", self.log)
        self._running = True
        return self

    def stop(self, mode="fast"):
        """Stop the server and remove everything."""
        self.halt("immediate" if mode == "fast" else mode)
        shutil.rmtree(self.dir, ignore_errors=True)

    def halt(self, mode="fast"):
        """Stop the server, keep its data."""
        if self._running:
            self._tool("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", self.data)
        self._running = False

    def restart(self, mode="fast"):
        self.halt(mode)
        self.start()

    def reload(self):
        self._tool("pg_ctl", "reload", "-D", self.data)

    def kill(self):
        """SIGKILL the whole server, as a crash would: the postmaster first, so that nobody restarts."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            postmaster = int(file.readline())
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], stdout=subprocess.PIPE,
                                  text=True).stdout.split()
        for pid in [postmaster, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Where nobody reaps orphans the postmaster stays a zombie, which the next one takes for alive.
        for lock in (os.path.join(self.data, "postmaster.pid"), f"{self.dir}/.s.PGSQL.{self.port}.lock"):
            os.unlink(lock)
        self._running = False

    def dsn(self, dbname="postgres", user="postgres", host=None, **more):
        parts = {"host": host or self.dir, "port": self.port, "dbname": dbname, "user": user, **more}
        return " ".join(f"{key}={value}" for key, value in parts.items())

    def connect(self, dbname="postgres", autocommit=True, **more):
        return psycopg.connect(self.dsn(dbname, **more), autocommit=autocommit)

    def execute(self, *statements, dbname="postgres"):
        """Each statement in a transaction of its own; the rows of the last one, if it has any."""
        with self.connect(dbname) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def value(self, query, dbname="postgres"):
        return self.execute(query, dbname=dbname)[0][0]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

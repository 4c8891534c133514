"""What can be wrong with a PostgreSQL that millrace is pointed at, one row each: how it is brought about, what
the source says, how the process ends, and what to do. docs/errors.md is made from these rows.

ending: "exit 100" (never restarted; corrected by hand), "retry" (the source waits, and goes on by itself once the
cause is gone), "goes on" (at once)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Situation:
    name: str      # the test's id
    title: str     # what is wrong
    says: str      # regular expression: what the log or the status line says
    ending: str
    remedy: str


SITUATIONS = [
    Situation("wal_level", "wal_level is not logical", r"wal_level is replica; set wal_level = logical",
              "exit 100", "set wal_level = logical in postgresql.conf, restart the server"),
    Situation("wrong_password", "wrong password", r"28P01: password authentication failed.*check user and password",
              "exit 100", "correct postgres.url"),
    Situation("unknown_role", "the role does not exist", r"28000: role \"nobody\" does not exist",
              "exit 100", "correct postgres.url or CREATE ROLE"),
    Situation("wrong_database", "the database does not exist", r"3D000: database \"nowhere\" does not exist",
              "exit 100", "correct postgres.url"),
    Situation("bad_url", "postgres.url is no connection string", r"postgres.url: not a libpq connection string .*a word without =",
              "exit 100", "correct postgres.url"),
    Situation("no_replication", "the role may not replicate", r"replication.*ALTER ROLE \.\.\. REPLICATION",
              "exit 100", "ALTER ROLE ... REPLICATION"),
    Situation("no_superuser", "FOR ALL TABLES without being superuser", r"42501.*FOR ALL TABLES.*postgres.tables",
              "exit 100", "name the tables in postgres.tables, or have a superuser create the publication"),
    Situation("not_owner", "a listed table belongs to somebody else", r"42501: must be owner of table theirs",
              "exit 100", "make the role the table's owner, or have the owner create the publication"),
    Situation("no_table", "a listed table does not exist", r"table public\.missing does not exist",
              "exit 100", "correct postgres.tables"),
    Situation("table_not_published", "the publication lacks a listed table",
              r"publication \"millrace\" does not have table public\.t", "exit 100", "ALTER PUBLICATION ... ADD TABLE"),
    Situation("no_publication", "no publication, and create is false", r"publication \"millrace\" does not exist",
              "exit 100", "CREATE PUBLICATION, or postgres.create: true"),
    Situation("no_slot", "no slot, and create is false", r"slot \"millrace\" does not exist and postgres.create",
              "exit 100", "create the slot, or postgres.create: true"),
    Situation("other_plugin", "the slot is one of another plug-in", r"one of plug-in test_decoding",
              "exit 100", "choose another postgres.slot"),
    Situation("other_database", "the slot belongs to another database", r"belongs to database other",
              "exit 100", "choose another postgres.slot, or correct the database in postgres.url"),
    Situation("other_cluster", "another cluster than the log was filled from", r"leads to cluster \d+, the log was",
              "exit 100", "point postgres.url at the old cluster, or take an empty instance.data_dir"),
    Situation("tls_required", "sslmode=require and a server without TLS", r"SSL was required.*no TLS",
              "exit 100", "set up TLS in the server, or change sslmode"),
    Situation("tls_demanded", "pg_hba.conf demands TLS, the client may not", r"no pg_hba.conf entry",
              "exit 100", "sslmode=require, or another pg_hba.conf line"),
    Situation("slot_in_use", "another process reads the slot", r"slot \"millrace\" is in use by server process \d+",
              "retry", "stop the other reader, or choose another postgres.slot"),
    Situation("server_away", "the server is not running", r"Connection refused|No such file", "retry", "start it"),
    Situation("server_restarted", "the server restarts", r"No such file", "retry", "nothing"),
    Situation("server_killed", "the server is killed", r"Connection refused", "retry", "start it"),
    Situation("walsender_terminated", "the server process of the stream is terminated", r"57P01", "retry", "nothing"),
    Situation("no_walsenders", "all wal senders are taken", r"53300.*raise max_connections or max_wal_senders",
              "retry", "raise max_wal_senders"),
    Situation("garbage", "something that is no PostgreSQL listens there", r"connect to PostgreSQL: ", "retry",
              "correct postgres.url"),
    Situation("silence", "something listens there and never answers", r"no answer in 10 s", "retry",
              "correct postgres.url, or look at the network"),
    Situation("unknown_host", "the host name does not resolve", r"resolve host no-such-host\.invalid", "retry",
              "correct postgres.url, or look at the name server"),
    Situation("network_cut", "the network goes away in mid stream", r"nothing heard of the server", "retry",
              "nothing"),
    Situation("slot_dropped", "the slot was dropped, on_slot_lost: fail", r"it is gone; changes since .* cannot be read",
              "exit 100", "on_slot_lost: recreate (reports a gap), or an empty instance.data_dir"),
    Situation("slot_dropped_recreate", "the slot was dropped, on_slot_lost: recreate", r"slot_lost.*it is gone",
              "goes on", "nothing: subscribers get one gap event"),
    Situation("slot_invalidated", "the slot was invalidated by max_slot_wal_keep_size",
              r"invalidated by the server \(max_slot_wal_keep_size\)", "exit 100",
              "raise max_slot_wal_keep_size; then as for a dropped slot"),
    Situation("slot_recreated", "the slot was made anew by somebody else", r"it is ahead of what was read",
              "exit 100", "as for a dropped slot"),
    Situation("server_restored", "the server was restored from a copy, its slot included; seen only while its"
              " log is still shorter than what was read, or when its timeline is another one",
              r"the server's log ends at \S+: it was restored or lost what it had sent", "exit 100", "as for a dropped slot"),
    Situation("server_promoted", "a standby that lacked what was read was promoted with its slot",
              r"the server's history leaves timeline 1 at \S+, before what was read", "exit 100", "as for a dropped slot"),
    Situation("publication_dropped", "the publication was dropped while changes went on",
              r"the publication did not exist at a place that is still to be read", "exit 100", "as for a dropped slot"),
]

"""The tables. Everything that must survive a power cut is here or in a file that a row names by its digest."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA: Final = 1
metadata: Final = MetaData()
_KEY: Final = BigInteger().with_variant(Integer(), "sqlite")

about = Table("about", metadata, Column("schema", Integer, primary_key=True))

#: One row per distinct content of a SOP instance; the first is ``kept``, others are kept apart.
instances = Table(
    "instances",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("standing", Text, nullable=False),  # kept, conflict
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "sha256"),
    Index("instances_of_study", "study_uid", "series_uid"),
    Index("instances_by_digest", "sha256"),
    Index(
        "instances_kept_once",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("standing = 'kept'"),
        postgresql_where=text("standing = 'kept'"),
    ),
)

#: ``revision`` counts kept instances as they come; ``version`` counts how often the study was found complete.
studies = Table(
    "studies",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("state", Text, nullable=False),  # receiving, complete
    Column("outcome", Text, nullable=False, default=""),  # routed, unrouted, unreadable
    Column("reason", Text, nullable=False, default=""),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("conflicts", Integer, nullable=False),
    Column("expected", Integer),
    Column("calling_ae", Text, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Index("studies_by_time", "last_at"),
)

#: One reading of one version of a study by one route; ``fence`` grows with each lease.
jobs = Table(
    "jobs",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("study_uid", Text, ForeignKey("studies.study_uid"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("route", Text, nullable=False),
    Column("order_json", Text, nullable=False),
    Column("priority", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("owner", Text, nullable=False, default=""),
    Column("fence", Integer, nullable=False, default=0),
    Column("beats", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("shadow", Boolean, nullable=False, default=False),
    Column("outcome_json", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("study_uid", "version", "route"),
    Index("jobs_by_state", "state", "priority"),
)

#: What a finished job wrote; only these bytes are ever sent, however often sending is tried.
results = Table(
    "results",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("job_id", _KEY, ForeignKey("jobs.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sop_class_uid", Text, nullable=False, default=""),
    Column("sop_instance_uid", Text, nullable=False, default=""),
    Column("transfer_syntax_uid", Text, nullable=False, default=""),
    Column("superseded", Boolean, nullable=False, default=False),
    Index("results_of_job", "job_id"),
)

#: One result for one destination. ``waited_s`` sums the waits between tries: no clock can cut it short.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("result_id", _KEY, ForeignKey("results.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting, delivered, dead, superseded
    Column("attempts", Integer, nullable=False, default=0),
    Column("waited_s", Float, nullable=False, default=0.0),
    Column("due_at", Float, nullable=False, default=0.0),
    Column("status", Integer),
    Column("reason", Text, nullable=False, default=""),
    Column("delivered_at", Float),
    UniqueConstraint("result_id", "destination"),
    Index("deliveries_by_state", "state", "destination"),
)

#: What a worklist shows of a study, read from one of its instances; it names a person.
study_facts = Table(
    "study_facts",
    metadata,
    Column("study_uid", Text, ForeignKey("studies.study_uid"), primary_key=True),
    Column("patient_name", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("study_date", Text, nullable=False),
    Column("modalities", Text, nullable=False),
    Column("revision", Integer, nullable=False),
)

#: How far a running job is; of no use after a restart.
job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", _KEY, ForeignKey("jobs.id"), primary_key=True),
    Column("stage", Text, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("elapsed_s", Float, nullable=False),
)

#: People who may log in to the page.
users = Table(
    "users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),  # viewer, reviewer, operator, admin
    Column("password_hash", Text, nullable=False),  # argon2id with its parameters
    Column("created_at", Float, nullable=False),
)

#: A log-in that has not ended; the cookie's secret is kept as a digest.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, ForeignKey("users.name"), nullable=False),
    Column("csrf", Text, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

#: What a person said of a result; never changed, a later one stands beside it.
reviews = Table(
    "reviews",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("job_id", _KEY, ForeignKey("jobs.id"), nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("verdict", Text, nullable=False),  # accepted, rejected, corrected
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("label_version", Integer, nullable=False, default=0),
    Column("label_path", Text, nullable=False, default=""),
    Column("label_sha256", Text, nullable=False, default=""),
    Index("reviews_of_job", "job_id", "series"),
    Index("reviews_of_study", "study_uid"),
)
